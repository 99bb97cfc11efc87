import { describe, expect, it } from "vitest";
import { DEPTH_MAX, jsonError, readJsonSource, TOKENS_MAX } from "../src/json-source.ts";

/** Of a file at its limit of 256 KiB: what takes time for each place in the text anew takes half a minute. */
const QUICK_MS = 4000;

function problemOf(text: string): string {
  const source = readJsonSource(text);
  return source.kind === "error" ? `${source.line}: ${source.message}` : "none";
}

describe("where a text stops being JSON", () => {
  /** Of JSON.parse the versions of Node.js say "at position 7", "(line 1 column 8)", "is not valid JSON" or nothing. */
  it.each([
    ["a member without a colon", '{"a" 1}', "1:6 colon expected"],
    ["a value that is none", '{\n  "a": nil\n}', "2:8 invalid symbol"],
    ["a text that ends", '{"a": [1', "1:9 close bracket expected"],
    ["a word that does not end", '{"a": "b', "1:7 unexpected end of string"],
    ["nothing", "", "1:1 value expected"],
    ["something behind it", "{}\n{}", "2:1 end of file expected"],
    ["line ends of Windows", '{\r\n"a": 1,\r\n  "b"\r\n}', "4:1 colon expected"],
    ["characters of several bytes", '{"\u00fc\u{1f600}": x}', "1:8 invalid symbol"],
  ])("%s", (_what, text, place) => {
    const source = readJsonSource(text);
    if (source.kind !== "error") throw new Error("is JSON");
    expect(`${source.line}:${source.column} ${source.message}`).toBe(place);
    expect(() => JSON.parse(text)).toThrow(SyntaxError);
    expect(jsonError(text)).toEqual(source);
  });

  it.each([
    ["a comment", '{"a": 1 // one\n}', "1:9"],
    ["a comma before the end", '{"a": 1,\n}', "2:1"],
    ["a control character in a word", '{"a": "\u0001"}', "1:7"],
    ["deeper than anybody reads", "[".repeat(100_000), "1:1"],
  ])("%s, of which only a program's files are free", (_what, text, place) => {
    expect(() => JSON.parse(text)).toThrow(SyntaxError);
    const { line, column } = jsonError(text);
    expect(`${line}:${column}`).toBe(place);
  });
});

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
