/**
 * A thread of a devfuse server. The main thread mounts, unmounts and takes signals; this one only serves, so that
 * no event loop stands between two requests.
 */
import { writeSync } from "node:fs";
import { availableParallelism } from "node:os";
import { parentPort, workerData } from "node:worker_threads";
import type { FaultRule, FileHandlesUse } from "../../../../language/src/words.ts";
import { nameThread, ownFileSystemState } from "../../../../sys/src/index.ts";
import type { Agreement } from "../../core/init.ts";
import { Session } from "../../core/session.ts";
import { FaultyFileSystem } from "../../fs/faults.ts";
import type { FileSystem } from "../../fs/filesystem.ts";
import { IdMap } from "../../fs/id-map.ts";
import { TranslatedFileSystem } from "../../fs/translated.ts";
import { CrossThreadGate, type GateMessage } from "../../lease/cross-thread-gate.ts";
import { GatedFileSystem } from "../../lease/gated-filesystem.ts";
import { type OpenFileMessage, OpenFileReporter } from "../../mount-guard/open-file-reporter.ts";
import { SharedBackings } from "../../passthrough/backings.ts";
import { LOCK_OWNERS_MAX } from "../../passthrough/options.ts";
import { PassthroughFileSystem } from "../../passthrough/passthrough.ts";
import { SharedSizes } from "../../passthrough/shared-sizes.ts";
import type { SharedTables } from "../../passthrough/tables.ts";
import { isAdministrator } from "./administrator.ts";
import { Crew } from "./crew.ts";
import { cloneDevice, deviceBackingFiles } from "./device.ts";
import { SharedLockWaits } from "./lock-waits.ts";
import { serveDevice } from "./loop.ts";
import { serveQueue } from "./rings.ts";
import { Pipe } from "./splice.ts";
import type { Begun } from "./threads.ts";

/** How a source is served. */
export type DevfuseOptions = {
  readonly source: string;
  readonly readOnly: boolean;
  readonly debug: boolean;
  /** The client's kernel caches writes and owns file sizes (FUSE_WRITEBACK_CACHE). */
  readonly writebackCache: boolean;
  /** The client's kernel reads and writes the source itself (FUSE_PASSTHROUGH); needs root. */
  readonly kernelPassthrough: boolean;
  /** The client's kernel enforces POSIX ACLs (FUSE_POSIX_ACL); null: where the source has them. */
  readonly posixAcl: boolean | null;
  readonly keepCache: boolean;
  /** The client's kernel keeps no pages of files (FOPEN_DIRECT_IO). */
  readonly directIo: boolean;
  readonly allowDirectIo: boolean;
  /** Rules of IdMap. */
  readonly translateUid: readonly string[];
  readonly translateGid: readonly string[];
  /** Mounts inside the source are crossed, and announced to kernels that take it (FUSE_SUBMOUNTS). */
  readonly announceSubmounts: boolean;
  readonly fileHandles: FileHandlesUse;
  /** Locks of ranges (FUSE_POSIX_LOCKS), and of flock(2) (FUSE_FLOCK_LOCKS), are set on the source. */
  readonly posixLock: boolean;
  readonly flock: boolean;
  /** By queues of io_uring, where the kernel agrees. */
  readonly ioUring: boolean;
  readonly entryTimeoutMs: number;
  readonly attributeTimeoutMs: number;
  readonly faults: readonly FaultRule[];
};

export type DevfuseWorkerData = DevfuseOptions & {
  readonly device: number;
  /** Shared by the threads that serve (crew.ts). */
  readonly crew: SharedArrayBuffer;
  /** Its number, from 0. */
  readonly thread: number;
  /** null: the first one, which answers INIT. */
  readonly begun: Begun | null;
  /** The queue of io_uring that this thread serves; null: it serves the device. */
  readonly queue: number | null;
  /** Of requests that wait for locks (lock-waits.ts); null: none are set on the source. */
  readonly lockWaits: SharedArrayBuffer | null;
  /** Only one thread serves: rules of faults count calls. */
  readonly isAlone: boolean;
  /** Shared with the main thread's GateKeeper, where the server grants leases; else null. */
  readonly gate: SharedArrayBuffer | null;
  /** Report to the main thread which files are open: it has a MountGuard. */
  readonly reportsOpenFiles: boolean;
};

export type DevfuseMessage =
  | {
      readonly type: "init";
      readonly minor: number;
      readonly clientMinor: number;
      readonly flags: readonly string[];
      readonly maxWriteBytes: number;
      readonly agreement: Agreement;
      readonly tables: SharedTables;
    }
  /** One more thread is needed. */
  | { readonly type: "grow" }
  /** The entries of a queue of io_uring are registered. */
  | { readonly type: "queue-ready" }
  | { readonly type: "interrupt"; readonly unique: bigint }
  | { readonly type: "ended"; readonly reason: string }
  | GateMessage
  | OpenFileMessage;

function log(line: string): void {
  // Straight to the descriptor: a worker's stderr stream needs the event loop, which never turns here.
  try {
    writeSync(2, `${line}\n`);
  } catch {
    // The reader of stderr has ended, or is slow: the request is served all the same.
  }
}

function main(options: DevfuseWorkerData): void {
  const { device, readOnly, writebackCache, thread, begun } = options;
  nameThread(options.queue === null ? `daxfault-serve${thread}` : `daxfault-ring${options.queue}`);
  // The umask is a thread's own from here on.
  ownFileSystemState();
  const post = (message: DevfuseMessage): void => parentPort?.postMessage(message);
  const source = new PassthroughFileSystem(
    options.source,
    {
      readOnly,
      writebackCache,
      crossMounts: options.announceSubmounts,
      fileHandles: options.fileHandles,
      allowDirectIo: options.allowDirectIo,
      lockLimit: options.posixLock ? LOCK_OWNERS_MAX : 0,
    },
    begun?.tables ?? null,
  );
  const { translateUid, translateGid } = options;
  const translated: FileSystem =
    translateUid.length + translateGid.length === 0
      ? source
      : new TranslatedFileSystem(source, { uids: IdMap.of(translateUid), gids: IdMap.of(translateGid) });
  const faulty: FileSystem =
    options.faults.length === 0 ? translated : new FaultyFileSystem(translated, options.faults);
  const reporting = options.reportsOpenFiles ? new OpenFileReporter(faulty, post) : faulty;
  const fs =
    options.gate === null
      ? reporting
      : new GatedFileSystem(reporting, new CrossThreadGate(options.gate, post, thread));
  // Queues have memory of the full size.
  const pipe = options.queue === null ? Pipe.open() : null;
  const session = new Session({
    fs,
    ...(pipe === null ? {} : { maxWriteBytes: pipe.contentBytes }),
    sizes: new SharedSizes(source.tables),
    writebackCache,
    posixAcl: options.posixAcl ?? source.hasAccessLists,
    ioUring: options.ioUring,
    keepCache: options.keepCache,
    directIo: options.directIo,
    // Rules of faults count calls.
    flushIsNothing: source.flushIsNothing && options.faults.length === 0,
    ...(options.faults.length === 0 ? { isKnown: (node, ino) => source.isKnown(node, ino) } : {}),
    announceSubmounts: options.announceSubmounts,
    posixLocks: options.posixLock,
    flocks: options.flock,
    ...(options.lockWaits === null ? {} : { lockWaits: new SharedLockWaits(options.lockWaits) }),
    isAdministrator,
    validity: { entryMs: options.entryTimeoutMs, attributesMs: options.attributeTimeoutMs },
    ...(options.kernelPassthrough ? backingsOf(device, source) : {}),
    ...(begun === null ? {} : { agreement: begun.agreement }),
    onInterrupt: (unique) => post({ type: "interrupt", unique }),
    ...(options.debug ? { log } : {}),
    onInit: (agreement) => {
      const { minor, clientMinor, flagNames: flags, maxWriteBytes } = agreement;
      post({ type: "init", minor, clientMinor, flags, maxWriteBytes, agreement, tables: source.tables });
    },
    onDefect: (message, error) => log(`daxfault serve: defect: ${message}: ${String(error)}`),
  });
  const letGo = (): void => source.letGo();
  if (options.queue !== null) {
    const hooks = { onReady: () => post({ type: "queue-ready" }), letGo };
    post({ type: "ended", reason: serveQueue({ device, number: options.queue }, session, hooks) });
    return;
  }
  const fd = thread === 0 ? device : cloneDevice(device, "waits");
  if (fd === null) throw new Error("FUSE_DEV_IOC_CLONE failed");
  const crew = new Crew(options.crew, thread, {
    cpus: availableParallelism(),
    grow: () => post({ type: "grow" }),
  });
  const reason = serveDevice({ fd, nowait: cloneDevice(device, "never waits"), pipe }, session, {
    crew,
    letGo,
  });
  // The tables belong to the other threads, too: they end with the process.
  post({ type: "ended", reason });
}

function backingsOf(device: number, source: PassthroughFileSystem) {
  const backingFiles = deviceBackingFiles(device);
  return { backingFiles, backings: new SharedBackings(source.tables, backingFiles) };
}

main(workerData as DevfuseWorkerData);
