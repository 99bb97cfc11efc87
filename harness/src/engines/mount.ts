/** Our FUSE server, in a process of its own: a server never shares a thread with anything that touches its mount. */

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { execa } from "execa";
import { type FaultRule, type Transport, transports } from "../../../language/src/index.ts";
import { delayedMsOf, LostChildError, mounts, processState } from "../../../sys/src/index.ts";
import { lastWords } from "../error-text.ts";
import { builtPath } from "../paths.ts";
import { processesOf, unmountBelow } from "../run/sweep.ts";
import { childEnvironment, MAY_BE_STOPPED } from "../run/tag.ts";
import { within } from "../within.ts";
import { SMALL_YOUNG_GENERATION } from "./child.ts";

export type FuseMount = {
  readonly mountpoint: string;
  /** The transport that the server reports, and that the mount table shows as a FUSE mount. */
  readonly transport: Transport;
  /** Of the server; null: it could not be started. */
  readonly pid: number | null;
  /** How long the server's threads together have waited for a processor so far; 0 where the kernel does not say. */
  delayedMs(): number;
  /** Kills the server: the connection ends with its descriptor (fuse_dev_release(), fs/fuse/dev.c), and every request with it. */
  abort(): void;
  /** Why the server does not answer any more though nothing here has ended it; null: it does. */
  lost(): Promise<string | null>;
  close(): Promise<void>;
};

export type MountOptions = {
  readonly sourceDirectory: string;
  /** The case's folder. */
  readonly directory: string;
  readonly transport: Transport;
  /** The scenario may stop the server. */
  readonly mayBeStopped?: boolean;
  /** Only devfuse follows rules. */
  readonly faults?: readonly FaultRule[];
  /** For how long the client may hold names and attributes; null or left out: the server's default. */
  readonly cacheTimeoutMs?: number | null;
  /** The server's program; another one in tests. */
  readonly serverPath?: string;
  /** Where it grants leases, if it does. */
  readonly leaseSocket?: string;
  /** How long it may take until it has mounted; `READY_BOUND_MS` if left out. */
  readonly readyBoundMs?: number;
};

/** The server was not there in time, and had no processor. */
export class BusyError extends Error {
  override readonly name = "BusyError";
}

/** On a real machine. */
export const READY_BOUND_MS = 10_000;
const END_BOUND_MS = 3000;
const REAP_POLL_MS = 10;
/** A server that talks much before it is ready is not ours. */
const READY_LINE_MAX = 4096;

type Ready = { readonly type: "ready"; readonly transport: Transport; readonly mountpoint: string };

function parseReady(line: string): Ready | null {
  try {
    const message = JSON.parse(line) as Partial<Ready> | null;
    const known = transports.some((transport) => transport === message?.transport);
    return message?.type === "ready" && known ? (message as Ready) : null;
  } catch {
    return null;
  }
}

/** The server's first line, or null where it ends or prints another line. */
function firstLine(stream: NodeJS.ReadableStream): Promise<string | null> {
  return new Promise((resolve) => {
    let text = "";
    stream.setEncoding("utf8");
    stream.on("data", (chunk: string) => {
      if (text.length < READY_LINE_MAX) text += chunk;
      const end = text.indexOf("\n");
      if (end >= 0 || text.length >= READY_LINE_MAX) resolve(end >= 0 ? text.slice(0, end) : null);
    });
    stream.on("end", () => resolve(null));
    stream.on("error", () => resolve(null));
  });
}

/** A server that was killed leaves its reaper (fs-server/src/serve/reaper.ts), which frees the mount point and ends. */
async function reaped(directory: string): Promise<void> {
  const deadlineMs = performance.now() + END_BOUND_MS;
  while (processesOf(directory).length > 0 && performance.now() < deadlineMs) await sleep(REAP_POLL_MS);
}

function faultArguments({ faults, directory }: MountOptions): string[] {
  if (faults === undefined || faults.length === 0) return [];
  const path = join(directory, "faults.json");
  writeFileSync(path, JSON.stringify(faults));
  return ["--faults", path];
}

function timeoutArguments({ cacheTimeoutMs = null }: MountOptions): string[] {
  return cacheTimeoutMs === null
    ? []
    : ["--entry-timeout", String(cacheTimeoutMs), "--attr-timeout", String(cacheTimeoutMs)];
}

function serverEnvironment({ directory, mayBeStopped }: MountOptions): Readonly<Record<string, string>> {
  return { ...childEnvironment(directory), ...(mayBeStopped === true ? { [MAY_BE_STOPPED]: "1" } : {}) };
}

/**
 * Why there is no mount: where the server has waited for a processor for half of its time, that.
 * @param seen how it ended, and its last words
 */
export function notMounted(boundMs: number, delayedMs: number, seen: string): Error {
  const text = `the FUSE server did not mount within ${Math.round(boundMs)} ms`;
  if (delayedMs * 2 < boundMs) return new Error(`${text} ${seen}`);
  return new BusyError(
    `the machine was busy: ${text}, and waited for a processor for ${Math.round(delayedMs)} ms`,
  );
}

/** Mounts `sourceDirectory` through our server. Rejects with a BusyError, or with the server's output if it does not come up. */
export async function openMount(options: MountOptions): Promise<FuseMount> {
  const mountpoint = join(options.directory, "mount");
  mkdirSync(mountpoint);
  const server = execa(
    process.execPath,
    [
      SMALL_YOUNG_GENERATION,
      options.serverPath ?? builtPath("fs-server/src/serve-main.ts"),
      "--source",
      options.sourceDirectory,
      "--mountpoint",
      mountpoint,
      "--transport",
      options.transport,
      "--parent-pid",
      String(process.pid),
      ...faultArguments(options),
      ...timeoutArguments(options),
      ...(options.leaseSocket === undefined
        ? []
        : ["--guard", "fuse-lease", "--lease-socket", options.leaseSocket]),
    ],
    {
      cwd: options.directory,
      env: serverEnvironment(options),
      stdin: "ignore",
      buffer: { stdout: false },
      reject: false,
    },
  );
  async function lost(): Promise<string | null> {
    const state = server.pid === undefined ? "ending" : processState(server.pid);
    if (isAborted || state !== "ending") return null;
    // What it served is gone before its end is known here.
    const { signal, exitCode } = (await within(server, END_BOUND_MS)) ? await server : {};
    const how =
      signal === undefined ? `ended with ${exitCode ?? "an unknown status"}` : `killed by ${signal}`;
    return `file server: ${how}`;
  }
  async function close(): Promise<void> {
    server.kill("SIGTERM");
    if (!(await within(server, END_BOUND_MS))) {
      server.kill("SIGKILL");
      await within(server, END_BOUND_MS);
    }
    unmountBelow(mountpoint);
    // Also where somebody else has killed it.
    if ((await within(server, 0)) && (await server).signal === "SIGKILL") await reaped(options.directory);
  }
  let isAborted = false;
  let lastDelayedMs = 0;
  function delayedMs(): number {
    if (server.pid !== undefined) lastDelayedMs = Math.max(lastDelayedMs, delayedMsOf(server.pid));
    return lastDelayedMs;
  }
  function abort(): void {
    delayedMs();
    isAborted = true;
    server.kill("SIGKILL");
  }
  const line = firstLine(server.stdout);
  const boundMs = options.readyBoundMs ?? READY_BOUND_MS;
  const said = (await within(line, boundMs)) ? await line : "";
  const ready = parseReady(said ?? "");
  if (ready === null) {
    // Nothing here has ended it so far. Its output ends shortly before its end is known.
    const by = (await within(server, said === null ? END_BOUND_MS : 0)) ? (await server).signal : undefined;
    const waitedMs = delayedMs();
    await close();
    const { stderr, exitCode } = await server;
    if (by !== undefined) throw new LostChildError(`file server: killed by ${by} before it had mounted`);
    const last = typeof stderr === "string" ? lastWords(stderr) : "";
    throw notMounted(boundMs, waitedMs, `(exit ${exitCode}): ${last}`);
  }
  // Having asked for a transport proves nothing; the kernel's mount table shows at least that it is FUSE.
  const mount = mounts().findLast((entry) => entry.mountpoint === mountpoint);
  if (mount === undefined || !mount.type.startsWith("fuse")) {
    await close();
    throw new Error(
      `the FUSE server says ${mountpoint} is mounted; the mount table says ${mount?.type ?? "no"}`,
    );
  }
  return { mountpoint, transport: ready.transport, pid: server.pid ?? null, delayedMs, abort, lost, close };
}
