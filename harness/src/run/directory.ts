/** One folder a run: everything that the run creates lies below it and is removed with it, however the run ends. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync } from "node:fs";
import { join } from "node:path";
import { builtPath, runDirectoryParent } from "../paths.ts";
import { makeTemporaryFolder, requireProcesses } from "../surroundings.ts";
import { within } from "../within.ts";
import { RUN_DIRECTORY_PREFIX, sweep } from "./sweep.ts";
import { RUN_TAG } from "./tag.ts";

const JANITOR_END_BOUND_MS = 3000;

export type RunDirectory = {
  readonly path: string;
  /** An empty folder for a case. */
  caseDirectory(name: string): string;
  /** An empty folder for an engine as a whole. */
  engineDirectory(): string;
  /** Ends and removes everything. Returns what is left, one sentence each: normally nothing. */
  close(): Promise<readonly string[]>;
};

function startJanitor(directory: string): ChildProcess {
  // It must not carry the tag of what it sweeps.
  const { [RUN_TAG]: _tag, ...environment } = process.env;
  const janitor = spawn(process.execPath, [builtPath("harness/src/run/janitor-main.ts"), directory], {
    detached: true,
    stdio: ["pipe", "ignore", "ignore"],
    cwd: "/",
    env: environment,
  });
  janitor.on("error", () => {});
  janitor.stdin?.on("error", () => {});
  janitor.unref();
  // A pipe to a child is a socket to Node: it would keep this process alive.
  (janitor.stdin as unknown as { unref?: () => void } | null)?.unref?.();
  return janitor;
}

/** Creates a run's folder and starts its janitor. Throws a SurroundingsError where that is not possible here. */
export function openRunDirectory(): RunDirectory {
  requireProcesses();
  const path = makeTemporaryFolder(runDirectoryParent, RUN_DIRECTORY_PREFIX);
  const janitor = startJanitor(path);
  return {
    path,
    caseDirectory(name) {
      const directory = join(path, name);
      mkdirSync(directory);
      return directory;
    },
    engineDirectory: () => mkdtempSync(join(path, "engine-")),
    async close() {
      const left = await sweep(path);
      const ended = new Promise<void>((resolve) => {
        janitor.once("exit", () => resolve());
        if (janitor.exitCode !== null || janitor.pid === undefined) resolve();
      });
      janitor.stdin?.end();
      await within(ended, JANITOR_END_BOUND_MS);
      return left;
    },
  };
}
