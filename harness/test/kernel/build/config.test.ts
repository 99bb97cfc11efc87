import { describe, expect, it } from "vitest";
import { notTaken, parseConfig, smallFragment } from "../../../src/kernel/build/config.ts";

describe("a kernel's configuration", () => {
  it("is what is on, with its value", () => {
    const text =
      '# CONFIG_OFF is not set\nCONFIG_ON=y\nCONFIG_MODULE=m\nCONFIG_NR_CPUS=8\nCONFIG_NAME="a b"\n';
    expect([...parseConfig(text)]).toEqual([
      ["ON", "y"],
      ["MODULE", "m"],
      ["NR_CPUS", "8"],
      ["NAME", '"a b"'],
    ]);
  });

  it("is held against what was asked for", () => {
    const asked = "CONFIG_A=y\nCONFIG_B=y\nCONFIG_C=8\n# CONFIG_D=y would be a comment\n";
    expect(notTaken(asked, "CONFIG_A=y\nCONFIG_B=m\nCONFIG_X=y\n")).toEqual(["CONFIG_B=y", "CONFIG_C=8"]);
    expect(notTaken(asked, "CONFIG_C=8\nCONFIG_B=y\nCONFIG_A=y\n")).toEqual([]);
  });

  it("asks for nothing twice, and for no module", () => {
    const lines = smallFragment.split("\n").filter((line) => line.startsWith("CONFIG_"));
    expect(parseConfig(smallFragment).size).toBe(lines.length);
    expect(lines.filter((line) => line.endsWith("=m"))).toEqual([]);
  });
});
