/** The figures of `daxfault bench apf` from evidence, and how they are told. */
import { describe, expect, it } from "vitest";
import { evidenceWith } from "../../../language/test/support/evidence.ts";
import { apfFigures, apfModes } from "../../src/bench/apf.ts";
import { apfText } from "../../src/cli/bench-apf.ts";
import { styleFor } from "../../src/report/style.ts";

const evidence = evidenceWith({
  accessMs: { one: { "load#1": 10, "load#2": 30 }, two: { "load#1": 20, "load#2": 40 } },
  counters: { guest_counted: 5000n, guest_access_span_us: 50_000n },
  counts: { "apf-not-present": 4 },
});

describe("apfFigures", () => {
  it("are rates over the time of the accesses, and quantiles of each access", () => {
    expect(apfFigures(evidence, 4)).toEqual({
      workPerSecond: 100_000,
      pagesPerSecond: 80,
      medianMs: 30,
      p99Ms: 40,
      notPresent: 4,
    });
  });

  it("are none where a page never came", () => {
    expect(() => apfFigures(evidence, 5)).toThrow("4 of 5 accesses were timed");
  });
});

describe("apfText", () => {
  it("holds each proposal against the first, and the published figures beside them", () => {
    const rows = apfModes.map((mode, index) => ({
      ...mode,
      figures: { ...apfFigures(evidence, 4), workPerSecond: 1e6 * (index + 1) },
    }));
    const result = { delayMs: 10, rounds: 1, pages: 4, aloneWorkPerSecond: 1e7, rows };
    const text = apfText(result, styleFor({ isTTY: false } as NodeJS.WriteStream));
    expect(text).toContain("4 pages whose READ takes 10 ms");
    expect(text).toMatch(/no-hlt-exits-no-apf +1\.00 M +10 % +\+0 %/);
    expect(text).toMatch(/apf-guest +5\.00 M +50 % +\+400 %/);
    expect(text).toContain("halt only +13 %, paravirtual +91 %");
  });
});
