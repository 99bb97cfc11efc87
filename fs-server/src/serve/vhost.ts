/**
 * Serves a VMM by vhost-user, until it leaves or a signal comes. The main thread takes signals, owns the DAX window and starts the
 * others.
 */
import { unlinkSync } from "node:fs";
import { exitNow, files, listenUnix, raiseDescriptorLimit, shutdownSocket } from "../../../sys/src/index.ts";
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

/** What happens to a server that `serveVhostUser` has started. */
export type VhostEvents = {
  readonly log: (line: string) => void;
  /** A VMM has left, and nothing of it is left. `isFault`: it broke the protocol. */
  readonly onGone: (reason: string, isFault: boolean) => void;
  /** Nothing can be served any more. */
  readonly onError: (error: unknown) => void;
};

export type VhostServer = {
  readonly ready: VhostReady;
  /** Ends the connection, if there is one, and removes the socket. Threads end with the process. */
  close(): void;
};

/**
 * Serves VMMs that connect, one at a time, from threads of this process. Resolves when one can connect; rejects if nothing can
 * be served. A process of its own is better: a VMM that makes the file of its RAM shorter ends it by SIGBUS.
 */
export async function serveVhostUser(
  options: VhostServeOptions,
  { log, onGone, onError }: VhostEvents,
): Promise<VhostServer> {
  raiseDescriptorLimit(WANTED_DESCRIPTORS);
  const { at } = options;
  const socket = await listening(at);
  const close = (): void => {
    if ("path" in at) remove(at.path);
  };
  const events: HostEvents = {
    onFrontEnd: (pid) => log(`a front-end has connected${pid === 0 ? "" : ` (pid ${pid})`}`),
    onInit: ({ minor, flags }) => log(`the guest has mounted it: FUSE 7.${minor}, ${flags.join(" ")}`),
    onGone,
    onError,
    log,
  };
  try {
    const window = await openWindow(options, log);
    const { threads, requestQueues } = options;
    const host = new VhostUserHost({
      source: options,
      socket,
      isConnected: false,
      threads,
      requestQueues,
      window,
      events,
    });
    if (host.fs.holdsDescriptors) {
      log("each file that the guest knows holds a descriptor (see --inode-file-handles)");
    }
    host.start();
    const ready: VhostReady = {
      type: "ready",
      transport: "vhost-user",
      socketPath: "path" in at ? at.path : null,
      tag: options.tag,
      pid: process.pid,
      windowBytes: String(options.windowBytes),
    };
    const stop = (): void => {
      close();
      shutdownSocket(socket);
      host.disconnect();
    };
    return { ready, close: stop };
  } catch (error) {
    close();
    files.close(socket);
    throw error;
  }
}

/**
 * The server of a process: it ends with 0 on SIGTERM, on SIGINT, and when the VMM has left (unless it waits for the next one);
 * with 1 when the VMM broke the protocol, or after a defect. Rejects if it cannot serve.
 */
export async function serveVhost(
  options: VhostServeOptions,
  log: (message: string) => void,
): Promise<VhostServed> {
  let server: VhostServer | null = null;
  const end = (why: string, code: 0 | 1): never => {
    server?.close();
    log(why);
    // A thread that waits for the VMM would keep an ordinary exit waiting.
    return exitNow(code);
  };
  const fail = (why: string): never => end(why, 1);
  process.on("uncaughtException", (error) => fail(`defect: ${error.stack ?? error.message}`));
  process.on("SIGTERM", () => end("SIGTERM: ended", 0));
  process.on("SIGINT", () => end("SIGINT: ended", 0));
  server = await serveVhostUser(options, {
    log,
    onGone: (reason, isFault) => {
      if (!options.reconnect) end(`${reason}: ended`, isFault ? 1 : 0);
      log(`${reason}; waiting for the next one`);
    },
    onError: (error) => fail(`defect: ${error instanceof Error ? error.message : error}`),
  });
  return { ready: server.ready, fail };
}

function remove(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // Somebody else removed it.
  }
}
