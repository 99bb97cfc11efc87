/** What is said of a child's end. */
import { spawnSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { exitText } from "../../src/engines/child.ts";

describe("exitText", () => {
  it.each([
    ["the last line", "a\nb\n", "exit 1: b"],
    ["nothing of nothing", "", "exit 1"],
    ["Node's version where there is nothing else", "Node.js v24.1.0\n", "exit 1: Node.js v24.1.0"],
  ])("has %s", (_what, stderr, text) => {
    expect(exitText({ kind: "exit", code: 1, stderr })).toBe(text);
  });

  it("has the error that nobody caught, and not what Node prints after it", () => {
    const program =
      'class SyscallError extends Error { name = "SyscallError" }\n' +
      'throw new SyscallError("write: EBUSY", { cause: new Error("other: thing") })';
    const { stderr } = spawnSync(process.execPath, ["-e", program], { encoding: "utf8" });
    expect(stderr).toMatch(/Node\.js v/);
    expect(exitText({ kind: "exit", code: 1, stderr })).toMatch(/^exit 1: SyscallError: write: EBUSY\b/);
  });
});
