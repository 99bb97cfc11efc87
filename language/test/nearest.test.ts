import { describe, expect, it } from "vitest";
import { nearest } from "../src/nearest.ts";

const ids = [
  "load-after-truncate",
  "store-after-truncate",
  "nvdimm/load-after-truncate",
  "load-after-punch",
  "load-after-unlink",
  "hang-without-apf",
  "kernel-load-after-truncate",
];

describe("nearest", () => {
  it("compares no more of a word than any of ours has", () => {
    const startMs = performance.now();
    const many = Array.from({ length: 200 }, (_, index) => `${"scenario-".repeat(6)}${index}`);
    expect(nearest("z".repeat(1_000_000), many)).toHaveLength(3);
    expect(nearest(`hang-without-apd${"z".repeat(1000)}`, ids)).toHaveLength(3);
    // Without a limit: 10^10 steps.
    expect(performance.now() - startMs).toBeLessThan(10_000);
  });

  it("gives all of a few, the best three of many", () => {
    expect(nearest("x", ["a", "b"])).toEqual(["a", "b"]);
    expect(nearest("hang-without-apd", ids)[0]).toBe("hang-without-apf");
    expect(nearest("punch", ids)[0]).toBe("load-after-punch");
    expect(nearest("load", ids)).toHaveLength(3);
  });
});
