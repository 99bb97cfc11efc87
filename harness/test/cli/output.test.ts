import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openJson, openProgress, openReports, progressText } from "../../src/cli/output.ts";
import { commitOutputs } from "../../src/cli/output-file.ts";
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
    const progress = openProgress(3, stream({ isTTY: true, columns: 20 }));
    progress.start("0123456789abc");
    expect(written.at(-1)).toMatch(/\r.*\[0\/3\] 0 s: 01234567$/);
    progress.end("0123456789abc");
    expect(written.at(-1)).toMatch(/\[1\/3\]/);
    progress.clear();
    expect(written).toHaveLength(3);
  });

  it("is silent elsewhere", () => {
    written.length = 0;
    openProgress(1, stream({})).start("x");
    expect(written).toEqual([]);
  });

  it("says what runs, how many are left, and how long it will take", () => {
    expect(progressText(10, 40, 20, ["a x b x c"])).toBe("[10/40] 20 s, about 1 min 0 s left: a x b x c");
    expect(progressText(1, 40, 2, [])).toBe("[1/40] 2 s: ");
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
