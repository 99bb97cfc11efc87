import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openJson, openProgress } from "../../src/cli/output.ts";
import { UsageError } from "../../src/cli/usage.ts";
import { caseFolder } from "../support/folders.ts";

describe("openJson", () => {
  it("writes a line a record, at once", () => {
    const path = join(caseFolder(), "a.jsonl");
    const json = openJson(path);
    json.write({ type: "a", text: "two\nlines" });
    expect(readFileSync(path, "utf8")).toBe('{"type":"a","text":"two\\nlines"}\n');
    json.write({ type: "b" });
    json.close();
    expect(readFileSync(path, "utf8").split("\n")).toHaveLength(3);
    expect(json.isStdout).toBe(false);
  });

  it("takes a file that cannot be written for a usage error", () => {
    expect(() => openJson(caseFolder())).toThrow(UsageError);
  });

  it("goes nowhere without a target", () => {
    const json = openJson(undefined);
    json.write({ type: "a" });
    json.close();
  });
});

describe("openProgress", () => {
  const written: string[] = [];
  const stream = (changes: object): NodeJS.WriteStream =>
    ({ write: (text: string) => written.push(text), ...changes }) as unknown as NodeJS.WriteStream;

  it("replaces its line on a terminal, within its width", () => {
    const progress = openProgress(stream({ isTTY: true, columns: 10 }));
    progress.show("0123456789abc");
    expect(written.at(-1)).toMatch(/012345678$/);
    progress.clear();
    expect(written).toHaveLength(2);
  });

  it("is silent elsewhere", () => {
    written.length = 0;
    openProgress(stream({})).show("x");
    expect(written).toEqual([]);
  });
});
