import { afterEach, describe, expect, it, vi } from "vitest";
import { doctorText } from "../../src/cli/doctor.ts";
import { rowLines } from "../../src/cli/list.ts";
import { thisMachine } from "../../src/machine.ts";
import { makeReport } from "../../src/report/report.ts";
import { paragraph, styleFor } from "../../src/report/style.ts";
import { attestationText, reportText } from "../../src/report/text.ts";
import { infoWith, recordedWith, resultWith } from "../support/results.ts";

const stream = (changes: object): NodeJS.WriteStream => changes as NodeJS.WriteStream;
const terminal = stream({ isTTY: true, columns: 80 });
const escape_ = String.fromCharCode(27);

afterEach(() => vi.unstubAllEnvs());

describe("styleFor", () => {
  it("colours on a terminal only", () => {
    vi.stubEnv("NO_COLOR", "");
    vi.stubEnv("TERM", "xterm");
    expect(styleFor(terminal).verdict("fail", "x")).toContain(escape_);
    expect(styleFor(stream({})).verdict("fail", "x")).toBe("x");
  });

  it("honours NO_COLOR and dumb terminals", () => {
    vi.stubEnv("TERM", "xterm");
    vi.stubEnv("NO_COLOR", "1");
    expect(styleFor(terminal).bold("x")).toBe("x");
    vi.stubEnv("NO_COLOR", "");
    vi.stubEnv("TERM", "dumb");
    expect(styleFor(terminal).bold("x")).toBe("x");
  });

  it("takes the width from COLUMNS, the terminal, or what fits a log", () => {
    vi.stubEnv("COLUMNS", "");
    expect(styleFor(terminal).widthColumns).toBe(80);
    expect(styleFor(stream({})).widthColumns).toBe(160);
    vi.stubEnv("COLUMNS", "100");
    expect(styleFor(terminal).widthColumns).toBe(100);
  });
});

describe("paragraph", () => {
  it("keeps to the width, margins included; a longer word stands alone", () => {
    const text = "one two three four five six seven eight";
    expect(paragraph(text, 24, { first: 2, rest: 4 })).toEqual([
      "  one two three four",
      "    five six seven eight",
    ]);
    expect(paragraph(text, 100, { first: 2, rest: 4 })).toEqual([`  ${text}`]);
    expect(paragraph(`a ${"x".repeat(30)} b`, 24, { first: 0, rest: 2 })).toEqual([
      "a",
      `  ${"x".repeat(30)}`,
      "  b",
    ]);
  });

  it("counts no colours", () => {
    const red = `${escape_}[31mone${escape_}[39m`;
    expect(paragraph(`${red} ${red}`, 7, { first: 0, rest: 2 })).toHaveLength(1);
  });
});

describe("a terminal of 40 columns", () => {
  const style = { ...styleFor(stream({})), widthColumns: 40 };
  const reason = "something else was seen than what was expected of this kernel and of this proposal";
  const report = makeReport(
    [
      recordedWith(
        [
          resultWith({ scenario: { id: "a" }, verdict: { kind: "fail", reason } }),
          resultWith({ scenario: { id: "a" }, proposal: "apf-loop", verdict: { kind: "xfail", reason } }),
          resultWith({ scenario: { id: "c" }, proposal: "native", verdict: { kind: "skip", reason } }),
        ],
        {},
        { cases: 9 },
      ),
    ],
    { documented: [] },
  );
  /** What can be broken: no command, and more than one word. */
  const tooLong = (text: string): readonly string[] =>
    text
      .split("\n")
      .filter((line) => line.length > 40 && line.trim().includes(" ") && !line.includes("daxfault run "));

  it("gets a report of lines that fit", () => {
    expect(tooLong(reportText(report, style))).toEqual([]);
    expect(tooLong(attestationText(infoWith(), style))).toEqual([]);
  });

  it("gets ids above their texts from list", () => {
    const lines = rowLines("an-id   ", reason, style);
    expect(lines[0]).toBe("an-id");
    expect(tooLong(lines.join("\n"))).toEqual([]);
    expect(rowLines("an-id   ", reason, styleFor(stream({})))).toEqual([`an-id     ${reason}`]);
  });

  it("gets a list from doctor", () => {
    const machine = thisMachine();
    expect(tooLong(doctorText(machine, [], style))).toEqual([]);
  });
});
