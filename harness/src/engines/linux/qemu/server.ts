/**
 * Our file server as a process of its own, to which QEMU connects by vhost-user: `daxfault serve --socket-path` without the
 * command line. It dies with this process, and carries the case's tag.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { execa } from "execa";
import { lastWords } from "../../../error-text.ts";
import { builtPath } from "../../../paths.ts";
import { childEnvironment } from "../../../run/tag.ts";
import { within } from "../../../within.ts";
import { SMALL_YOUNG_GENERATION } from "../../child.ts";
import type { GuardPlan } from "../../vm/guard.ts";
import { GuestError } from "../bring-up.ts";
import { SHARE_TAG } from "../plan.ts";

const READY_BOUND_MS = 30_000;
const END_BOUND_MS = 3000;
const STDERR_CHARACTERS = 16 * 1024;
/** The window that the spike had, and our own VMM's guest has. */
export const WINDOW_BYTES: bigint = 64n * 2n ** 20n;

export type ServerOptions = {
  readonly sourceDirectory: string;
  /** Of the run or the case. */
  readonly directory: string;
  /** How long the guest may take names and attributes that it has for the file's own. */
  readonly attributeMs: number;
  /** Of the files in the window; null: none. */
  readonly guard: GuardPlan | null;
  readonly slowness: number;
};

export type FileServer = {
  readonly socketPath: string;
  readonly pid: number | undefined;
  /** What it has said. */
  readonly words: readonly string[];
  /** How it ended, with its last words; null while it runs. */
  lost(): string | null;
  /** The same as soon as it is known. Not where it has ended as it does when QEMU has left: with 0. */
  readonly failed: Promise<string>;
  close(): Promise<void>;
};

function guardArguments(guard: GuardPlan | null): readonly string[] {
  if (guard === null) return [];
  const socket = guard.leaseSocket === null ? [] : ["--lease-socket", guard.leaseSocket];
  return ["--guard", guard.name, ...socket];
}

function serverArguments(
  { sourceDirectory, attributeMs, guard }: ServerOptions,
  socketPath: string,
): readonly string[] {
  return [
    ...["--shared-dir", sourceDirectory, "--socket-path", socketPath],
    ...["--tag", SHARE_TAG, "--dax-window", String(WINDOW_BYTES)],
    ...["--entry-timeout", String(attributeMs), "--attr-timeout", String(attributeMs)],
    ...guardArguments(guard),
    ...["--parent-pid", String(process.pid)],
  ];
}

/** Starts it, and waits until QEMU can connect. Throws a GuestError. */
export async function startServer(options: ServerOptions): Promise<FileServer> {
  // A path of a socket has 107 bytes at most: beside the case's folder, not in it.
  const folder = mkdtempSync(join(options.directory, "vhost-"));
  const socketPath = join(folder, "s");
  const server = execa(
    process.execPath,
    [
      SMALL_YOUNG_GENERATION,
      builtPath("fs-server/src/serve-main.ts"),
      ...serverArguments(options, socketPath),
    ],
    {
      cwd: options.directory,
      env: childEnvironment(options.directory),
      stdio: ["ignore", "pipe", "pipe"],
      buffer: false,
      reject: false,
    },
  );
  let said = "";
  let end: string | null = null;
  server.stderr.setEncoding("utf8").on("data", (text: string) => {
    said = (said + text).slice(-STDERR_CHARACTERS);
  });
  let onFailed = (_how: string): void => {};
  const failed = new Promise<string>((resolve) => {
    onFailed = resolve;
  });
  let isClosing = false;
  const ended = server.then(({ exitCode, signal }) => {
    const how =
      signal === undefined ? `ended with ${exitCode ?? "an unknown status"}` : `killed by ${signal}`;
    const words = lastWords(said);
    end = words === "" ? `file server: ${how}` : `file server: ${how}: ${words}`;
    if (exitCode !== 0 && !isClosing) onFailed(end);
  });
  const close = async (): Promise<void> => {
    isClosing = true;
    server.kill("SIGTERM");
    if (!(await within(ended, END_BOUND_MS))) {
      server.kill("SIGKILL");
      await within(ended, END_BOUND_MS);
    }
    rmSync(folder, { recursive: true, force: true });
  };
  const ready = new Promise<void>((resolve) => server.stdout.once("data", () => resolve()));
  const boundMs = READY_BOUND_MS * options.slowness;
  await within(Promise.race([ready, ended]), boundMs);
  if (end !== null || !(await within(ready, 0))) {
    const why = end ?? `the file server did not listen within ${boundMs} ms`;
    await close();
    throw new GuestError(why);
  }
  return {
    socketPath,
    pid: server.pid,
    get words() {
      return said.split("\n").filter((line) => line.trim() !== "");
    },
    lost: () => end,
    failed,
    close,
  };
}
