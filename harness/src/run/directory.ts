/** One folder a run: everything that the run creates lies below it and is removed with it, however the run ends. */
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync } from "node:fs";
import { join } from "node:path";
import { builtPath, runDirectoryParent } from "../paths.ts";
import { folderProblem, requireProcesses, SurroundingsError } from "../surroundings.ts";
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

/** Letters of the folder's name: nobody can have made it before. */
const NAME_BYTES = 9;

function startJanitor(directory: string, parent: string): ChildProcess {
  // It must not carry the tag of what it sweeps.
  const { [RUN_TAG]: _tag, ...environment } = process.env;
  const janitor = spawn(process.execPath, [builtPath("harness/src/run/janitor-main.ts"), directory, parent], {
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

function makeFolder(path: string, parent: string): void {
  try {
    mkdirSync(path, 0o700);
  } catch (error) {
    const problem = folderProblem(parent, error);
    throw problem === null ? error : new SurroundingsError(problem);
  }
}

/**
 * Creates a run's folder and starts its janitor: that first, since a process can be killed between the two. Throws a
 * SurroundingsError where that is not possible here.
 * @param parent the folder that it lies in, without symbolic links
 */
export function openRunDirectory(parent: string = runDirectoryParent): RunDirectory {
  requireProcesses();
  const path = join(parent, `${RUN_DIRECTORY_PREFIX}${randomBytes(NAME_BYTES).toString("base64url")}`);
  const janitor = startJanitor(path, parent);
  try {
    makeFolder(path, parent);
  } catch (error) {
    // What is there under this name is not its to sweep.
    janitor.kill("SIGKILL");
    throw error;
  }
  return {
    path,
    caseDirectory(name) {
      const directory = join(path, name);
      mkdirSync(directory);
      return directory;
    },
    engineDirectory: () => mkdtempSync(join(path, "engine-")),
    async close() {
      const left = await sweep(path, parent);
      const ended = new Promise<void>((resolve) => {
        janitor.once("exit", () => resolve());
        if (janitor.exitCode !== null || janitor.pid === undefined) resolve();
      });
      janitor.stdin?.end();
      // One that was stopped does not notice.
      if (!(await within(ended, JANITOR_END_BOUND_MS))) janitor.kill("SIGKILL");
      return left;
    },
  };
}
