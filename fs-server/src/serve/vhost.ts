/**
 * Serves a VMM by vhost-user, until it leaves or a signal comes. The main thread takes signals, owns the DAX window and starts the
 * others.
 */
import { unlinkSync } from "node:fs";
import { exitNow, files, listenUnix, raiseDescriptorLimit } from "../../../sys/src/index.ts";
import { DEFAULT_BOUND_MS, type GuardEvent } from "../guard/truncation-guard.ts";
import { withSocketPath } from "../lease/socket-path.ts";
import { type HostEvents, VhostUserHost } from "../transport/vhost-user/host.ts";
import { LongFiles } from "../transport/vhost-user/long-files.ts";
import { WindowOwner } from "../transport/vhost-user/window-owner.ts";
import { openGuard } from "./vhost-guard.ts";
import type { VhostServeOptions } from "./vhost-options.ts";

/** One pinned inode or open file each: enough for large trees. Ignored without root. */
const WANTED_DESCRIPTORS = 1_048_576;
/** VMMs that connect while one is served wait for its end. */
const BACKLOG = 8;

/** The line that a server prints when a VMM can connect. */
export type VhostReady = {
  readonly type: "ready";
  readonly transport: "vhost-user";
  /** null: by a descriptor. */
  readonly socketPath: string | null;
  readonly tag: string | null;
  readonly pid: number;
  readonly windowBytes: string;
};

export type VhostServed = {
  readonly ready: VhostReady;
  /** Removes the socket and ends with 1. */
  fail(why: string): never;
};

async function openWindow(
  { windowBytes: sizeBytes, guard: asked }: VhostServeOptions,
  log: (message: string) => void,
): Promise<WindowOwner | null> {
  if (sizeBytes === 0n) return null;
  const onEvent = (event: GuardEvent): void => {
    if (event.kind === "recall")
      log(`recall: ${event.threat.by} takes a file from byte ${event.threat.fromBytes} on`);
  };
  const guard = asked === null ? null : await openGuard(asked, { boundMs: DEFAULT_BOUND_MS, onEvent });
  // A file that is lent by another one would be opened by it: the kernel gives no lease then.
  const long =
    asked?.name === "kernel-lease" ? "--guard kernel-lease lends no files" : await LongFiles.open(log);
  if (typeof long === "string") {
    log(
      `with DAX only files of whole pages can be read and written (of others, and of empty ones, EIO): ${long}`,
    );
  }
  const lender = typeof long === "string" ? null : long;
  return new WindowOwner({ sizeBytes, lender, guard, log });
}

async function listening(at: VhostServeOptions["at"]): Promise<number> {
  if ("fd" in at) return at.fd;
  let fd = -1;
  await withSocketPath(
    at.path,
    async () => {
      fd = listenUnix(at.path, BACKLOG);
    },
    "serve",
  );
  return fd;
}

/**
 * Serves, and returns when a VMM can connect. From then on the process belongs to the server: it ends with 0 on SIGTERM, on
 * SIGINT, and when the VMM has left (unless it waits for the next one); with 1 when the VMM broke the protocol, or after a
 * defect. Throws if it cannot serve.
 */
export async function serveVhost(
  options: VhostServeOptions,
  log: (message: string) => void,
): Promise<VhostServed> {
  raiseDescriptorLimit(WANTED_DESCRIPTORS);
  const { at } = options;
  const socket = await listening(at);
  const end = (why: string, code: 0 | 1): never => {
    if ("path" in at) remove(at.path);
    log(why);
    // A thread that waits for the VMM would keep an ordinary exit waiting.
    return exitNow(code);
  };
  const fail = (why: string): never => end(why, 1);
  process.on("uncaughtException", (error) => fail(`defect: ${error.stack ?? error.message}`));
  process.on("SIGTERM", () => end("SIGTERM: ended", 0));
  process.on("SIGINT", () => end("SIGINT: ended", 0));
  const events: HostEvents = {
    onFrontEnd: (pid) => log(`a front-end has connected${pid === 0 ? "" : ` (pid ${pid})`}`),
    onInit: ({ minor, flags }) => log(`the guest has mounted it: FUSE 7.${minor}, ${flags.join(" ")}`),
    onGone: (reason, isFault) => {
      if (!options.reconnect) end(`${reason}: ended`, isFault ? 1 : 0);
      log(`${reason}; waiting for the next one`);
    },
    onError: (error) => fail(`defect: ${error instanceof Error ? error.message : error}`),
    log,
  };
  try {
    const window = await openWindow(options, log);
    const host = new VhostUserHost({
      source: options,
      socket,
      isConnected: false,
      threads: options.threads,
      requestQueues: options.requestQueues,
      window,
      events,
    });
    if (host.fs.holdsDescriptors)
      log("each file that the guest knows holds a descriptor (see --inode-file-handles)");
    host.start();
  } catch (error) {
    if ("path" in at) remove(at.path);
    files.close(socket);
    throw error;
  }
  const ready: VhostReady = {
    type: "ready",
    transport: "vhost-user",
    socketPath: "path" in at ? at.path : null,
    tag: options.tag,
    pid: process.pid,
    windowBytes: String(options.windowBytes),
  };
  return { ready, fail };
}

function remove(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // Somebody else removed it.
  }
}
