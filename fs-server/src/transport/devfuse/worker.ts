/**
 * A thread of a devfuse server. The main thread mounts, unmounts and takes signals; this one only serves, so that
 * no event loop stands between two requests.
 */
import { availableParallelism } from "node:os";
import { parentPort, workerData } from "node:worker_threads";
import type { FaultRule } from "../../../../language/src/words.ts";
import { nameThread, ownFileSystemState } from "../../../../sys/src/index.ts";
import type { Agreement } from "../../core/init.ts";
import { threadLog } from "../../core/log.ts";
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
import { sharedSizes } from "../../passthrough/shared-sizes.ts";
import type { SharedTables } from "../../passthrough/tables.ts";
import type { SourceOptions } from "../source-options.ts";
import { isAdministrator } from "./administrator.ts";
import { Crew } from "./crew.ts";
import { cloneDevice, deviceBackingFiles } from "./device.ts";
import { SharedLockWaits } from "./lock-waits.ts";
import { serveDevice } from "./loop.ts";
import { FIRST_THREADS, RingSeat } from "./ring-crew.ts";
import { serveQueue } from "./rings.ts";
import { Pipe } from "./splice.ts";
import type { Begun } from "./threads.ts";

/** How a source is served. */
export type DevfuseOptions = SourceOptions & {
  readonly source: string;
  /** The client's kernel reads and writes the source itself (FUSE_PASSTHROUGH); needs root. */
  readonly kernelPassthrough: boolean;
  /** Locks of ranges (FUSE_POSIX_LOCKS), and of flock(2) (FUSE_FLOCK_LOCKS), are set on the source. */
  readonly posixLock: boolean;
  readonly flock: boolean;
  /** By queues of io_uring. */
  readonly ioUring: boolean;
  readonly faults: readonly FaultRule[];
};

/** One of the threads of a queue, numbered from 0, in shared memory (ring-crew.ts). */
export type QueueSeat = {
  readonly memory: SharedArrayBuffer;
  readonly queue: number;
  readonly thread: number;
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
  /** Of requests that wait for locks (lock-waits.ts); null: none are set on the source. */
  readonly lockWaits: SharedArrayBuffer | null;
  readonly queue: QueueSeat | null;
  readonly mountPoint: string;
  /** Calls that rules of faults have counted, by rule, of all threads. */
  readonly faultCalls: SharedArrayBuffer;
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
  /** An entry of a queue of io_uring is registered. */
  | { readonly type: "queue-ready"; readonly queue: number }
  /** A queue of io_uring has no entry left. */
  | { readonly type: "queue-short"; readonly queue: number }
  | { readonly type: "interrupt"; readonly unique: bigint }
  | { readonly type: "ended"; readonly reason: string }
  | GateMessage
  | OpenFileMessage;

function main(options: DevfuseWorkerData): void {
  const { device, readOnly, writebackCache, thread, begun } = options;
  nameThread(options.queue === null ? `daxfault-serve${thread}` : `daxfault-ring${options.queue.queue}`);
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
    options.faults.length === 0
      ? translated
      : new FaultyFileSystem(translated, options.faults, new Int32Array(options.faultCalls));
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
    sizes: sharedSizes(source.tables),
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
    ...(options.debug ? { log: threadLog } : {}),
    onInit: (agreement) => {
      const { minor, clientMinor, flagNames: flags, maxWriteBytes } = agreement;
      post({ type: "init", minor, clientMinor, flags, maxWriteBytes, agreement, tables: source.tables });
    },
    onDefect: (message, error) => threadLog(`daxfault serve: defect: ${message}: ${String(error)}`),
  });
  const letGo = (): void => source.letGo();
  const reason =
    options.queue === null
      ? serveCloned(options, session, { pipe, letGo }, post)
      : serveSeat(options.queue, options, session, { letGo, post });
  // The tables belong to the other threads, too: they end with the process.
  post({ type: "ended", reason });
}

function serveSeat(
  { memory, queue, thread }: QueueSeat,
  { device, mountPoint }: DevfuseWorkerData,
  session: Session,
  { letGo, post }: { readonly letGo: () => void; readonly post: (message: DevfuseMessage) => void },
): string {
  const seat = new RingSeat(memory, queue, thread, () => post({ type: "queue-short", queue }));
  const onReady = (): void => post({ type: "queue-ready", queue });
  const joins = thread < FIRST_THREADS ? null : mountPoint;
  return serveQueue({ device, number: queue, seat, joins }, session, { onReady, letGo });
}

function serveCloned(
  { device, thread, crew, ioUring }: DevfuseWorkerData,
  session: Session,
  { pipe, letGo }: { readonly pipe: Pipe | null; readonly letGo: () => void },
  post: (message: DevfuseMessage) => void,
): string {
  // INIT, FORGET and INTERRUPT are all that comes: nothing to look for, and nothing that another thread would take over.
  if (ioUring) return serveDevice({ fd: device, nowait: null, pipe }, session, { crew: null, letGo });
  const fd = thread === 0 ? device : cloneDevice(device, "waits");
  if (fd === null) throw new Error("FUSE_DEV_IOC_CLONE failed");
  const companions = new Crew(crew, thread, {
    cpus: availableParallelism(),
    grow: () => post({ type: "grow" }),
  });
  const nowait = cloneDevice(device, "never waits");
  return serveDevice({ fd, nowait, pipe }, session, { crew: companions, letGo });
}

function backingsOf(device: number, source: PassthroughFileSystem) {
  const backingFiles = deviceBackingFiles(device);
  return { backingFiles, backings: new SharedBackings(source.tables, backingFiles) };
}

main(workerData as DevfuseWorkerData);
