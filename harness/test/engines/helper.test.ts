/** What becomes of a helper that is ended or stopped from outside: an error that names the process, in time. */
import { spawn } from "node:child_process";
import { describe, expect, it } from "vitest";
import { LostChildError } from "../../../sys/src/index.ts";
import type { ChildExit } from "../../src/engines/child.ts";
import { errorOfExit, helperEnd, watchEnd } from "../../src/engines/helper.ts";
import { childEnvironment } from "../../src/run/tag.ts";
import { caseFolder } from "../support/folders.ts";

const signalled: ChildExit = { kind: "signal", signal: "SIGKILL", stderr: "" };

/** A process of a folder, as a helper. */
function sleeping(directory: string, seconds: number) {
  const env = { ...process.env, ...childEnvironment(directory) };
  const child = spawn("sleep", [String(seconds)], { stdio: "ignore", env });
  const exited = new Promise<ChildExit>((resolve) => {
    child.on("exit", (code, signal) => {
      const stderr = "";
      if (signal === null) resolve({ kind: "exit", code: code ?? 0, stderr });
      else resolve({ kind: "signal", signal, stderr });
    });
  });
  const kill = async (): Promise<void> => {
    child.kill("SIGKILL");
    await exited;
  };
  return { child, exited, kill };
}

describe("an end without a result", () => {
  it.each([
    [signalled, true, "race: its process: killed by SIGKILL"],
    [
      { kind: "exit", code: 75, stderr: "x\nthe truncater: killed by SIGKILL" },
      true,
      "race: the truncater: killed by SIGKILL",
    ],
    [{ kind: "exit", code: 1, stderr: "TypeError" }, false, "race: its process: exit 1: TypeError"],
  ] as const)("%j", (exit, isLost, message) => {
    const error = errorOfExit(exit, "race");
    expect(error.message).toBe(message);
    expect(error instanceof LostChildError).toBe(isLost);
  });

  it("is a loss where it was not expected", async () => {
    const seen: string[] = [];
    watchEnd(Promise.resolve(signalled), "the truncater", (error) => seen.push(error.message));
    watchEnd(Promise.resolve(signalled), "another", () => seen.push("never"))();
    await Promise.resolve();
    await Promise.resolve();
    expect(seen).toEqual(["the truncater: killed by SIGKILL"]);
  });
});

describe("the wait for a helper", () => {
  it("ends with it", async () => {
    const directory = caseFolder();
    const child = sleeping(directory, 0);
    expect(await helperEnd(child, { name: "race", directory, boundMs: 10_000 })).toMatchObject({ code: 0 });
  });

  it.each([
    ["a process of it is stopped", true, 60_000, /^race: stopped from outside: process \d+ \(sleep\)$/],
    ["it takes longer than it may", false, 300, /^race: no end within 300 ms$/],
  ] as const)("ends where %s", async (_what, isStopped, boundMs, message) => {
    const directory = caseFolder();
    const helper = sleeping(directory, 60);
    const startMs = performance.now();
    if (isStopped) helper.child.kill("SIGSTOP");
    const end = helperEnd(helper, { name: "race", directory, boundMs });
    await expect(end).rejects.toThrow(message);
    await expect(end).rejects.toThrow(LostChildError);
    expect(performance.now() - startMs).toBeLessThan(10_000);
    expect(await helper.exited).toMatchObject({ kind: "signal", signal: "SIGKILL" });
  });
});
