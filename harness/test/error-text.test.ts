/** What a program has said last, for the reason of a result. */
import { spawnSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { lastWords } from "../src/error-text.ts";

describe("lastWords", () => {
  it("is the last line, whatever came before it", () => {
    expect(lastWords("")).toBe("");
    expect(lastWords("\n \n")).toBe("");
    expect(lastWords("one\ntwo: x\n\n")).toBe("two: x");
    expect(lastWords("Error: early\n    at f (a.js:1:1)\nserve: SIGTERM: unmounted\n")).toBe(
      "serve: SIGTERM: unmounted",
    );
  });

  it("is the error's line where a stack comes last", () => {
    const stack =
      "serve: defect: Error: the VMM has it mapped\n    at f (a.js:1:1)\n    at async #g (b.js:70:13)\n";
    expect(lastWords(`earlier\n${stack}`)).toBe("serve: defect: Error: the VMM has it mapped");
    expect(lastWords("    at f (a.js:1:1)")).toBe("");
  });

  it.each([
    ["an error", "throw new RangeError('too far')", "RangeError: too far"],
    ["one with properties", "throw Object.assign(new Error('gone'), { code: 'EIO' })", "Error: gone"],
    ["a system call's", "require('fs').openSync('/nowhere/x')", /^Error: ENOENT: .*'\/nowhere\/x'$/],
    ["a rejection", "Promise.reject(new Error('nobody waits'))", "Error: nobody waits"],
  ])("of %s that nobody caught, as this Node prints it", (_what, code, words) => {
    const { stderr } = spawnSync(process.execPath, ["-e", code], { encoding: "utf8" });
    expect(lastWords(stderr)).toEqual(typeof words === "string" ? words : expect.stringMatching(words));
  });
});
