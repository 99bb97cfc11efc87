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
  it("gives all of a few, the best three of many", () => {
    expect(nearest("x", ["a", "b"])).toEqual(["a", "b"]);
    expect(nearest("hang-without-apd", ids)[0]).toBe("hang-without-apf");
    expect(nearest("punch", ids)[0]).toBe("load-after-punch");
    expect(nearest("load", ids)).toHaveLength(3);
  });
});
