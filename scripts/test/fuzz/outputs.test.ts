/** Each check refuses what it is for: a fuzzer that cannot fail proves nothing. */
import { describe, expect, it } from "vitest";
import {
  htmlProblem,
  jsonLinesProblem,
  junitProblem,
  ktapProblem,
  markdownProblem,
  stderrProblem,
  terminalProblem,
} from "../../fuzz/outputs.ts";
import { parseXml } from "../../fuzz/xml.ts";

const page = (body: string): string =>
  `<!doctype html>\n<html lang="en"><head><title>x</title></head><body>${body}<script>ours()</script></body></html>`;
const junit = (body: string): string =>
  `<?xml version="1.0" encoding="UTF-8"?>\n<testsuites tests="1"><testsuite name="a" time="0.000">${body}</testsuite></testsuites>\n`;
const ktap = (...lines: readonly string[]): string => `KTAP version 1\n1..1\n${lines.join("\n")}\nok 1 a\n`;

describe("what is right", () => {
  it.each([
    ["a message", stderrProblem("daxfault: a.json:1: x\n  more\n")],
    ["a page", htmlProblem(page('<p title="a onclick=&quot;">text</p><a href="#x">y</a>'))],
    ["JUnit", junitProblem(junit('<testcase name="a &lt; b"/>'))],
    ["KTAP", ktapProblem(ktap("    KTAP version 1", "    1..1", "    # why", "    not ok 1 b"))],
    ["a summary", markdownProblem("| a | b |\n| --- | --- |\n| x \\| y | `<z>` |\n")],
    ["JSON lines", jsonLinesProblem('{"type":"run","x":"\\u001b"}\n')],
  ])("%s passes", (_what, problem) => expect(problem).toBeNull());
});

describe("what got out of its place", () => {
  it.each([
    ["an escape sequence", terminalProblem("\u001b[31mred")],
    ["a C1 control", terminalProblem("\u009b31m")],
    ["an override of direction", terminalProblem("\u202e")],
    ["a lone surrogate", terminalProblem("\ud800")],
    ["a stack", terminalProblem("Error: x\n    at f (file:///a/b.js:1:2)")],
    ["an object as text", terminalProblem("not [object Object]")],
    ["a whole file in a message", stderrProblem("x".repeat(5000))],
    ["a script", htmlProblem(page("<script>alert(1)</script>"))],
    ["an image", htmlProblem(page("<img src=x>"))],
    ["an event handler", htmlProblem(page('<p onclick="x">y</p>'))],
    ["a link that acts", htmlProblem(page('<a href="javascript:x">y</a>'))],
    ["a bare <", htmlProblem(page("a < b"))],
    ["a bare &", junitProblem(junit('<testcase name="a & b"/>'))],
    ["an element in XML", junitProblem(junit("<testcase></testsuite>"))],
    ["a count that is none", junitProblem(junit(""))],
    ["CDATA", junitProblem(junit("<testcase><![CDATA[x]]></testcase>"))],
    ["a character that XML has not", junitProblem(junit('<testcase name="\uffff"/>'))],
    ["a line that is no KTAP", ktapProblem(ktap("hello"))],
    ["a forged result", ktapProblem(ktap("ok 1 forged"))],
    ["a directive", ktapProblem(ktap("    not ok 1 b # TO-DO x"))],
    ["an element in a summary", markdownProblem("a <img src=x>\n")],
    ["a link in a summary", markdownProblem("[x](javascript:alert)\n")],
    ["a cell too many", markdownProblem("| a |\n| - |\n| b | c |\n")],
    ["a line that is no JSON", jsonLinesProblem("{\n")],
    ["another first member", jsonLinesProblem('{"x":1}\n')],
    ["a raw control in JSON", jsonLinesProblem('{"type":"\u009b"}\n')],
  ])("%s is found", (_what, problem) => expect(problem).not.toBeNull());
});

describe("parseXml", () => {
  it("returns the elements", () => {
    const parsed = parseXml(junit('<testcase name="a"/>'));
    if (typeof parsed === "string") throw new Error(parsed);
    expect(parsed.children[0]?.children[0]?.attributes.get("name")).toBe("a");
  });
});
