/** Processes that have mapped files, and stand for VMMs: what is mapped is looked at alike, be there a guest or none. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { onTestFinished } from "vitest";
import { packagePath } from "../../src/paths.ts";

export type MappingProcess = {
  readonly pid: number;
  readonly child: ChildProcess;
  /** It maps this file as well. */
  map(path: string): Promise<void>;
  /** It reads every page of everything that it has mapped; `died`: it was killed by that (SIGBUS). */
  touch(): Promise<"touched" | "died">;
  end(): Promise<void>;
};

/** Of files, and a memfd of 1 MiB. */
export async function startMapping(paths: readonly string[]): Promise<MappingProcess> {
  const program = packagePath("harness/test/support/mapping-process.mjs");
  const child = spawn(process.execPath, [program, ...paths], { stdio: ["pipe", "pipe", "inherit"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  const ended = once(child, "exit");
  const said = async (): Promise<boolean> => {
    const line = once(child.stdout, "data").then(() => true);
    return await Promise.race([line, ended.then(() => false)]);
  };
  const asked = async (line: string): Promise<boolean> => {
    const answer = said();
    child.stdin.write(`${line}\n`);
    return await answer;
  };
  child.stdin.on("error", () => {});
  if (!(await said())) throw new Error("the process has ended");
  return {
    pid: child.pid ?? 0,
    child,
    map: async (path) => {
      if (!(await asked(`map ${path}`))) throw new Error("the process has ended");
    },
    touch: async () => ((await asked("touch")) ? "touched" : "died"),
    end: async () => {
      child.kill("SIGKILL");
      await ended;
    },
  };
}
