/**
 * Serves one mount point until a signal stops it: mount, report the mount, serve, unmount.
 * The main thread mounts, takes signals and unmounts; devfuse serves in a worker thread, libfuse on its own threads
 * and this event loop.
 */
import type { Transport } from "../../../language/src/words.ts";
import { exitNow, raiseDescriptorLimit } from "../../../sys/src/index.ts";
import { DEFAULT_BOUND_MS } from "../guard/truncation-guard.ts";
import { GateKeeper, gateMemory } from "../lease/cross-thread-gate.ts";
import { LeaseBook } from "../lease/lease-book.ts";
import { serveLeases } from "../lease/lease-server.ts";
import { MountGuard } from "../mount-guard/mount-guard.ts";
import { PassthroughFileSystem } from "../passthrough/passthrough.ts";
import { deviceNotifier, mountDevice } from "../transport/devfuse/device.ts";
import { noUringBecause } from "../transport/devfuse/rings.ts";
import { mostThreads, ServingThreads, type ThreadEvents } from "../transport/devfuse/threads.ts";
import { mountLibfuse } from "../transport/libfuse/mount.ts";
import { checkedMountPoint, detach, isFuseMounted, requireOutside } from "./mount-point.ts";
import type { ServeOptions } from "./options.ts";
import { startReaper } from "./reaper.ts";

/** One pinned inode or open file each: enough for large trees. Ignored without root. */
const WANTED_DESCRIPTORS = 1_048_576;

/** The line that a mounted server prints: the attestation of the transport. */
export type Ready = {
  readonly type: "ready";
  readonly transport: Transport;
  readonly mountpoint: string;
  readonly pid: number;
  /** What INIT agreed on; null where libfuse keeps it to itself. */
  readonly protocol: { readonly minor: number; readonly flags: readonly string[] } | null;
  readonly maxWriteBytes: number | null;
};

export type Served = {
  readonly ready: Ready;
  /** Unmounts and exits with 1. */
  fail(why: string): never;
};

/**
 * Serves, and returns when the mount is ready. From then on the process belongs to the server: it unmounts and exits
 * with 0 on SIGTERM, on SIGINT, and when another process unmounts; with 1 after an error that nothing caught, on
 * either thread. Throws if it cannot serve.
 */
export async function serve(options: ServeOptions, log: (message: string) => void): Promise<Served> {
  const mountPoint = checkedMountPoint(options.mountPoint);
  requireOutside(options.source, mountPoint);
  raiseDescriptorLimit(WANTED_DESCRIPTORS);
  const leases =
    options.leaseSocket === null
      ? null
      : await grantLeases(options.leaseSocket, mostThreads(options.ioUring));
  const dismissReaper = startReaper(mountPoint);
  const guard =
    options.mountGuard === null
      ? null
      : await MountGuard.open(options.mountGuard, { boundMs: DEFAULT_BOUND_MS, log });
  const end = (why: string, code: 0 | 1): never => {
    leases?.close();
    guard?.end();
    const reason = detach(mountPoint);
    log(reason ?? `${why}: unmounted ${mountPoint}`);
    if (reason === null) dismissReaper();
    // A worker that waits in read(/dev/fuse) for a lazily detached mount would keep an ordinary exit waiting.
    return exitNow(reason === null ? code : 1);
  };
  const stop = (why: string): never => end(why, 0);
  const fail = (why: string): never => end(why, 1);
  // Node's own exit after an uncaught error would wait for that worker, with the mount in place.
  process.on("uncaughtException", (error) => fail(`defect: ${error.stack ?? error.message}`));
  process.on("SIGTERM", () => stop("SIGTERM"));
  process.on("SIGINT", () => stop("SIGINT"));
  try {
    const protocol =
      options.transport === "devfuse"
        ? await startDevfuse(options, mountPoint, { leases, guard, log, stop, fail })
        : await startLibfuse(options, mountPoint, { log, stop });
    if (!isFuseMounted(mountPoint)) {
      throw new Error(`${mountPoint} is not in /proc/self/mountinfo after mounting`);
    }
    const ready: Ready = {
      type: "ready",
      transport: options.transport,
      mountpoint: mountPoint,
      pid: process.pid,
      protocol,
      maxWriteBytes: protocol?.maxWriteBytes ?? null,
    };
    return { ready, fail };
  } catch (error) {
    leases?.close();
    guard?.end();
    if (detach(mountPoint) === null) dismissReaper();
    throw error;
  }
}

type Surroundings = {
  readonly leases: Leases | null;
  readonly guard: MountGuard | null;
  readonly log: (message: string) => void;
  readonly stop: (why: string) => never;
  readonly fail: (why: string) => never;
};

/** The source by these options. Says what its file system costs. */
function tried(options: ServeOptions, log: (message: string) => void): PassthroughFileSystem {
  const { source, readOnly, fileHandles, announceSubmounts: crossMounts } = options;
  const fs = new PassthroughFileSystem(source, { readOnly, fileHandles, crossMounts });
  if (fs.holdsDescriptors) {
    log(
      `each file that the client knows holds a descriptor: ${fs.options.pinLimit} files at once, then ENFILE ` +
        "(file handles need ext4, XFS, Btrfs, F2FS or tmpfs, CAP_DAC_READ_SEARCH, and not --inode-file-handles never)",
    );
  }
  return fs;
}

type Protocol = { readonly minor: number; readonly flags: readonly string[]; readonly maxWriteBytes: number };

async function startDevfuse(
  options: ServeOptions,
  mountPoint: string,
  { leases, guard, log, stop, fail }: Surroundings,
): Promise<Protocol> {
  // Refuses a bad source before anything is mounted; the worker opens its own.
  tried(options, log).close();
  const refusal = options.ioUring ? noUringBecause() : null;
  if (refusal !== null) throw new Error(`cannot serve with --io-uring: ${refusal}`);
  const device = mountDevice({ mountPoint, readOnly: options.readOnly });
  guard?.mounted(deviceNotifier(device));
  const data = {
    ...options,
    device,
    mountPoint,
    gate: leases?.memory ?? null,
    reportsOpenFiles: guard !== null,
    isAlone: options.faults.length > 0,
  };
  return await new Promise<Protocol>((resolve, reject) => {
    let isReady = false;
    const onMessage = (message: Parameters<ThreadEvents["onMessage"]>[0]): void => {
      switch (message.type) {
        case "init":
          isReady = true;
          resolve({ minor: message.minor, flags: message.flags, maxWriteBytes: message.maxWriteBytes });
          break;
        case "ended":
          reject(new Error(`the mount ended before it was ready: ${message.reason}`));
          stop(message.reason);
          break;
        case "gate-ask":
        case "gate-done":
        case "gate-grown":
          leases?.keeper.receive(message);
          break;
        case "file-opened":
        case "file-closed":
        case "files-closed":
          guard?.receive(message);
          break;
        default:
          message satisfies never;
      }
    };
    const onError = (error: unknown): void =>
      isReady ? fail(`defect of a serving thread: ${error}`) : reject(error);
    new ServingThreads(data, { onMessage, onError, log });
  });
}

type Leases = {
  readonly memory: SharedArrayBuffer;
  readonly keeper: GateKeeper;
  close(): void;
};

/** The book of leases, its clients' socket, and the gate to the thread that serves. */
async function grantLeases(socketPath: string, threads: number): Promise<Leases> {
  const memory = gateMemory(threads);
  const book = new LeaseBook({ boundMs: DEFAULT_BOUND_MS });
  const keeper = new GateKeeper(memory, book);
  book.onChange = (file, change) => keeper.heldChanged(file, change);
  const leases = await serveLeases(book, socketPath, { beforeGrant: () => keeper.beforeGrant() });
  return { memory, keeper, close: () => leases.close() };
}

async function startLibfuse(
  options: ServeOptions,
  mountPoint: string,
  { log, stop }: { readonly log: (message: string) => void; readonly stop: (why: string) => never },
): Promise<null> {
  const fs = tried(options, log);
  await mountLibfuse(fs, {
    mountPoint,
    debug: options.debug,
    log: (operation, error) => log(`defect in ${operation}: ${String(error)}`),
    ended: () => stop("the file system was unmounted"),
  });
  return null;
}
