/**
 * The thread of a devfuse server. The main thread mounts, unmounts and takes signals; this one only serves, so that
 * no event loop stands between two requests.
 */
import { statSync, writeSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";
import type { FaultRule } from "../../../../language/src/words.ts";
import { Session } from "../../core/session.ts";
import { FaultyFileSystem } from "../../fs/faults.ts";
import type { FileSystem } from "../../fs/filesystem.ts";
import { IdMap } from "../../fs/id-map.ts";
import { TranslatedFileSystem } from "../../fs/translated.ts";
import { CrossThreadGate, type GateMessage } from "../../lease/cross-thread-gate.ts";
import { GatedFileSystem } from "../../lease/gated-filesystem.ts";
import { type OpenFileMessage, OpenFileReporter } from "../../mount-guard/open-file-reporter.ts";
import type { FileHandlesUse } from "../../passthrough/options.ts";
import { PassthroughFileSystem } from "../../passthrough/passthrough.ts";
import { isAdministrator } from "./administrator.ts";
import { cloneDevice, deviceBackingFiles } from "./device.ts";
import { serveDevice } from "./loop.ts";
import { Pipe } from "./splice.ts";

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
  readonly entryTimeoutMs: number;
  readonly attributeTimeoutMs: number;
  readonly faults: readonly FaultRule[];
};

export type DevfuseWorkerData = DevfuseOptions & {
  readonly device: number;
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
    }
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
  const { device, readOnly, writebackCache } = options;
  const post = (message: DevfuseMessage): void => parentPort?.postMessage(message);
  const source = new PassthroughFileSystem(options.source, {
    readOnly,
    writebackCache,
    crossMounts: options.announceSubmounts,
    fileHandles: options.fileHandles,
    allowDirectIo: options.allowDirectIo,
  });
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
      : new GatedFileSystem(
          reporting,
          new CrossThreadGate(options.gate, post),
          statSync(options.source, { bigint: true }).dev,
        );
  const pipe = Pipe.open();
  const session = new Session({
    fs,
    ...(pipe === null ? {} : { maxWriteBytes: pipe.contentBytes }),
    writebackCache,
    posixAcl: options.posixAcl ?? source.hasAccessLists,
    keepCache: options.keepCache,
    directIo: options.directIo,
    announceSubmounts: options.announceSubmounts,
    isAdministrator,
    validity: { entryMs: options.entryTimeoutMs, attributesMs: options.attributeTimeoutMs },
    ...(options.kernelPassthrough ? { backingFiles: deviceBackingFiles(device) } : {}),
    ...(options.debug ? { log } : {}),
    onInit: ({ minor, clientMinor, flagNames, maxWriteBytes }) =>
      post({ type: "init", minor, clientMinor, flags: flagNames, maxWriteBytes }),
    onDefect: (message, error) => log(`daxfault serve: defect: ${message}: ${String(error)}`),
  });
  const reason = serveDevice({ fd: device, nowait: cloneDevice(device), pipe }, session);
  fs.close();
  post({ type: "ended", reason });
}

main(workerData as DevfuseWorkerData);
