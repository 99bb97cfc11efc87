import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { commitOutputs } from "../../src/cli/open-outputs.ts";
import { openJson, openProgress, openReports, progressText } from "../../src/cli/output.ts";
import { UsageError } from "../../src/cli/usage.ts";
import { caseFolder } from "../support/folders.ts";

describe("openJson", () => {
  it("writes a line a record, at once", () => {
    const path = join(caseFolder(), "a.jsonl");
    const json = openJson(path);
    json.write({ type: "a", text: "two\nlines" });
    expect(readFileSync(`${path}.partial`, "utf8")).toBe('{"type":"a","text":"two\\nlines"}\n');
    json.write({ type: "b" });
    commitOutputs();
    expect(readFileSync(path, "utf8").split("\n")).toHaveLength(3);
    expect(json.isStdout).toBe(false);
  });

  it("takes a file that cannot be written for a usage error", () => {
    expect(() => openJson(caseFolder())).toThrow(UsageError);
  });

  it("goes nowhere without a target", () => {
    const json = openJson(undefined);
    json.write({ type: "a" });
  });
});

describe("openProgress", () => {
  const written: string[] = [];
  const stream = (changes: object): NodeJS.WriteStream =>
    ({ write: (text: string) => written.push(text), ...changes }) as unknown as NodeJS.WriteStream;

  it("replaces its line on a terminal, within its width", () => {
    const progress = openProgress(3, stream({ isTTY: true, columns: 40 }));
    progress.start("0123456789abc");
    expect(written.at(-1)).toMatch(/\r.*0 of 3 done, 1 running, 0 s: 0123456789$/);
    progress.end("0123456789abc");
    expect(written.at(-1)).toMatch(/1 of 3 done, 0 running/);
    progress.clear();
    expect(written).toHaveLength(3);
  });

  it("is silent elsewhere", () => {
    written.length = 0;
    openProgress(1, stream({})).start("x");
    expect(written).toEqual([]);
  });

  it("says what is done, what runs, at which rate, and how long it will take", () => {
    const one = { name: "a x b x c", seconds: 1 };
    expect(progressText(10, 40, 20, [one])).toBe(
      "10 of 40 done, 1 running, 20 s, 0.5/s, about 1 min 0 s left: a x b x c",
    );
    expect(progressText(900, 1800, 30, [])).toBe("900 of 1800 done, 0 running, 30 s, 30/s, about 30 s left");
    // Nothing is said of the rate of the first cases.
    expect(progressText(1, 40, 2, [])).toBe("1 of 40 done, 0 running, 2 s");
    expect(progressText(0, 40, 0, [])).toBe("0 of 40 done, 0 running, 0 s");
  });

  it("names what is slow, the slowest first, and then nothing else", () => {
    const running = [
      { name: "quick", seconds: 4.9 },
      { name: "slow", seconds: 5 },
      { name: "slowest", seconds: 65 },
    ];
    expect(progressText(1, 40, 70, running)).toBe(
      "1 of 40 done, 3 running, 1 min 10 s; slow: slowest 1 min 5 s, slow 5 s",
    );
  });
});

describe("openReports", () => {
  it("refuses two formats for one standard output, before anything runs", () => {
    expect(() => openReports({ junit: "-", ktap: "-" })).toThrow("only one of --junit, --ktap");
    expect(() => openReports({ text: "/nowhere/x" })).toThrow("--text /nowhere/x: ENOENT");
    expect(openReports({}).isStdout).toBe(false);
    expect(openReports({ text: "-" }).isStdout).toBe(true);
  });
});
