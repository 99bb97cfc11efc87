/** A real server in a child process, and whether this machine can run one. */
import { type ChildProcess, spawn } from "node:child_process";
import { accessSync, constants, existsSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";
import { createInterface } from "node:readline";
import type { Transport } from "../../../language/src/index.ts";

export const SERVE_MAIN: string = resolve("dist/fs-server/src/serve-main.js");
/** A server loads some hundred modules, and with a guard a helper does, too: seconds where many processes share a CPU. */
const READY_TIMEOUT_MS = 30_000;

/** Why no mount can be tested here, or null. */
export function noMountBecause(transport: Transport): string | null {
  if (process.env.DAXFAULT_NO_FUSE) return "DAXFAULT_NO_FUSE is set";
  try {
    accessSync("/dev/fuse", constants.R_OK | constants.W_OK);
  } catch {
    return "/dev/fuse cannot be opened";
  }
  if (!existsSync(SERVE_MAIN)) return `${SERVE_MAIN} is not built: npx tsc -p tsconfig.build.json`;
  if (transport === "libfuse") {
    try {
      createRequire(import.meta.url)("fuse-native");
    } catch (error) {
      return `the optional package fuse-native does not load: ${(error as Error).message.split("\n")[0]}`;
    }
  }
  return null;
}

export type Ended = { readonly code: number | null; readonly stdout: string; readonly stderr: string };

export type Server = {
  readonly ready: Readonly<Record<string, unknown>>;
  readonly pid: number;
  readonly process: ChildProcess;
  readonly ended: Promise<Ended>;
  /** Its standard error so far. */
  said(): string;
  stop(signal?: NodeJS.Signals): Promise<Ended>;
};

/** Runs serve-main until it ends by itself: for refusals. */
export async function serveExpectingEnd(args: readonly string[]): Promise<Ended> {
  const { ended } = started(args);
  return ended;
}

function started(
  args: readonly string[],
  before: readonly string[] = [],
): { child: ChildProcess; ended: Promise<Ended>; said: () => string } {
  const [program = process.execPath, ...rest] = [...before, process.execPath, SERVE_MAIN, ...args];
  const child = spawn(program, rest, { stdio: ["ignore", "pipe", "pipe"] });
  let stdout = "";
  let stderr = "";
  child.stdout?.on("data", (data: Buffer) => {
    stdout += data.toString();
  });
  child.stderr?.on("data", (data: Buffer) => {
    stderr += data.toString();
  });
  const ended = new Promise<Ended>((done) => child.on("close", (code) => done({ code, stdout, stderr })));
  return { child, ended, said: () => stderr };
}

/**
 * Starts a server and waits until it says that it is ready.
 * @param before words before the command, of a program that becomes it: prlimit ..
 */
export async function startServer(args: readonly string[], before: readonly string[] = []): Promise<Server> {
  const { child, ended, said } = started(args, before);
  if (child.stdout === null) throw new Error("no stdout");
  const firstLine = new Promise<string>((done) => {
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).once("line", done);
  });
  const late = new Promise<"late">((done) => setTimeout(done, READY_TIMEOUT_MS, "late").unref());
  const first = await Promise.race([firstLine, ended, late]);
  if (typeof first !== "string" || first === "late") {
    child.kill("SIGKILL");
    throw new Error(`the server did not become ready: ${JSON.stringify(await ended)}`);
  }
  return {
    ready: JSON.parse(first) as Readonly<Record<string, unknown>>,
    pid: child.pid ?? 0,
    process: child,
    ended,
    said,
    stop: (signal = "SIGTERM") => {
      child.kill(signal);
      return ended;
    },
  };
}
