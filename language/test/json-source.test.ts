import { describe, expect, it } from "vitest";
import { DEPTH_MAX, readJsonSource, TOKENS_MAX } from "../src/json-source.ts";

/** Of a file at its limit of 256 KiB: what takes time for each place in the text anew takes half a minute. */
const QUICK_MS = 4000;

function problemOf(text: string): string {
  const source = readJsonSource(text);
  return source.kind === "error" ? `${source.line}: ${source.message}` : "none";
}

describe("readJsonSource", () => {
  it("refuses what is nested more deeply than the limit, with its line", () => {
    expect(problemOf("[".repeat(DEPTH_MAX) + "]".repeat(DEPTH_MAX))).toBe("none");
    expect(problemOf(`\n\n${"[".repeat(100_000)}`)).toBe(`3: nested more deeply than the limit ${DEPTH_MAX}`);
  });

  it("refuses what has more in it than the limit", () => {
    const list = `[\n${"1,".repeat(TOKENS_MAX / 2)}1]`;
    expect(problemOf(list)).toBe(`2: more than the limit of ${TOKENS_MAX} words and signs`);
  });

  it(
    "finds the line of each of 40,000 members that are there twice",
    () => {
      const source = readJsonSource(`{${'"a":1,\n'.repeat(40_000)}}`);
      if (source.kind === "error") throw new Error(source.message);
      expect(source.duplicates).toHaveLength(39_999);
      expect(source.duplicates.at(-1)?.line).toBe(40_000);
    },
    QUICK_MS,
  );

  it("finds lines at their ends, too", () => {
    const source = readJsonSource('{\n  "a": 1,\n\n  "b": [\n2]}');
    if (source.kind === "error") throw new Error(source.message);
    expect(["a", "b", "b[0]", "c"].map((path) => source.lineOf(path))).toEqual([2, 4, 5, 1]);
  });
});
