import { describe, expect, it } from "vitest";
import { parseCount, select, UsageError } from "../../src/cli/usage.ts";

const ids = [
  "load-after-truncate",
  "store-after-truncate",
  "nvdimm/load-after-truncate",
  "load-after-punch",
  "load-after-unlink",
  "hang-without-apf",
  "kernel-load-after-truncate",
];
const items = ids.map((id) => ({ id }));
const chosen = (...patterns: string[]) => select("scenario", patterns, items).map(({ id }) => id);

describe("select", () => {
  it("takes ids and patterns, in the items' order, each once", () => {
    expect(chosen()).toEqual(ids);
    expect(chosen("load-after-punch", "load-*")).toEqual([
      "load-after-truncate",
      "load-after-punch",
      "load-after-unlink",
    ]);
    expect(chosen("*/load-*")).toEqual(["nvdimm/load-after-truncate"]);
  });

  it("refuses what matches nothing, with the nearest that exist", () => {
    expect(() => chosen("load-after-trunkate")).toThrow(UsageError);
    expect(() => chosen("load-after-trunkate")).toThrow(
      /no scenario "load-after-trunkate"; nearest: load-after-truncate, .* \(daxfault list scenarios\)/,
    );
    expect(() => chosen("load-*", "x*")).toThrow('no scenario "x*"');
  });
});

describe("parseCount", () => {
  it("takes whole numbers within the limits only", () => {
    expect(parseCount("--jobs", "2", 1, 64)).toBe(2);
    for (const text of ["0", "65", "-1", "1.5", "1e1", "", "x", "99999999999999999999"]) {
      expect(() => parseCount("--jobs", text, 1, 64)).toThrow(
        `--jobs ${JSON.stringify(text)} is not a whole number`,
      );
    }
  });
});
