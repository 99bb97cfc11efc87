/** Processes that have mapped files, and stand for VMMs: what is mapped is looked at alike, be there a guest or none. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { collect } from "../../src/diagnose/collect.ts";
import type { HostFacts, VmFacts } from "../../src/diagnose/facts.ts";
import { ThisHost } from "../../src/diagnose/this-host.ts";
import { type Diagnosis, diagnose } from "../../src/diagnose/verdict.ts";
import { packagePath } from "../../src/paths.ts";
import { caseFolder } from "./folders.ts";

export type MappingProcess = {
  readonly pid: number;
  readonly child: ChildProcess;
  /** It maps this file as well. */
  map(path: string): Promise<void>;
  mapReadOnly(path: string): Promise<void>;
  /** Its memfd: a page long from now on; never longer again. */
  cutMemory(): Promise<void>;
  sealMemory(): Promise<void>;
  /** It reads every page of everything that it has mapped; `died`: it was killed by that (SIGBUS). */
  touch(): Promise<"touched" | "died">;
  end(): Promise<void>;
};

/** Of files, and a memfd of 1 MiB. @param within a command that starts it: `unshare --mount` and the like */
export async function startMapping(
  paths: readonly string[],
  within: readonly string[] = [],
): Promise<MappingProcess> {
  const program = packagePath("harness/test/support/mapping-process.mjs");
  const [command = "", ...args] = [...within, process.execPath, program, ...paths];
  const child = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] });
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
  const told = async (line: string): Promise<void> => {
    if (!(await asked(line))) throw new Error("the process has ended");
  };
  child.stdin.on("error", () => {});
  if (!(await said())) throw new Error("the process has ended");
  return {
    pid: child.pid ?? 0,
    child,
    map: async (path) => await told(`map ${path}`),
    mapReadOnly: async (path) => await told(`map-read-only ${path}`),
    cutMemory: async () => await told("cut-memory"),
    sealMemory: async () => await told("seal-memory"),
    touch: async () => ((await asked("touch")) ? "touched" : "died"),
    end: async () => {
      child.kill("SIGKILL");
      await ended;
    },
  };
}

/** A file of so many bytes in a folder of its own, for any user to map and to write. */
export function fileForAll(name: string, bytes: number): string {
  const folder = caseFolder();
  chmodSync(folder, 0o755);
  const path = join(folder, name);
  writeFileSync(path, Buffer.alloc(bytes, 1));
  chmodSync(path, 0o666);
  return path;
}

/** What is seen of a process, as root. */
export async function factsOf(pid: number): Promise<{ readonly facts: HostFacts; readonly vm: VmFacts }> {
  const { facts } = await collect(new ThisHost(), { kind: "pid", pid }, { kernel: "6", isRoot: true });
  const [vm] = facts.vms;
  if (vm === undefined) throw new Error("nothing was seen");
  return { facts, vm };
}

export async function diagnosisOf(pid: number): Promise<Diagnosis> {
  const { vm } = await factsOf(pid);
  return diagnose(vm, []);
}

/** The one below a command that starts it: `unshare --fork` waits for its child. */
export function childOf(pid: number): number {
  const [child = ""] = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ");
  return Number(child);
}

/** For `startMapping`: in namespaces of mounts and PIDs of its own, as another user. */
export const strangers: readonly string[] = [
  ...["unshare", "--mount", "--pid", "--fork", "--kill-child"],
  ...["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"],
];
