import { describe, expect, it } from "vitest";
import { Words } from "../../src/state/words.ts";

describe("Words", () => {
  const colours = new Words(["none", "red", "blue"] as const);

  it.each(["none", "red", "blue"] as const)("reads %s back from its byte", (word) => {
    expect(colours.word(colours.byte(word))).toBe(word);
  });

  it("stores the first word as 0, as a new state has it", () => {
    expect(colours.byte("none")).toBe(0);
  });

  it("refuses a word that is not in the list", () => {
    expect(() => colours.byte("green" as "red")).toThrow(/green is none of none, red, blue/);
  });
});
