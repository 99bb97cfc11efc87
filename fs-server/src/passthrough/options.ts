/** How a source directory is served. */
import { readFileSync } from "node:fs";
import type { FileHandlesUse } from "../../../language/src/words.ts";

export type PassthroughOptions = {
  /** Refuse everything that changes the source with EROFS. */
  readonly readOnly: boolean;
  /**
   * The client's kernel caches writes and owns size and append (FUSE_WRITEBACK_CACHE): files open for writing are
   * then also read from.
   */
  readonly writebackCache: boolean;
  /**
   * Follow mount points inside the source. Off: what is mounted there is EXDEV, since it lies outside the folder, and
   * may wait for ever.
   */
  readonly crossMounts: boolean;
  /** O_DIRECT of a client's open reaches the source. Off: its reads and writes go through the host's page cache. */
  readonly allowDirectIo: boolean;
  /** Most nodes known at once; beyond, new look-ups fail with ENFILE. Each costs memory. */
  readonly nodeLimit: number;
  /** Most nodes with a descriptor. Where the source has no file handles, that is the limit on nodes. */
  readonly pinLimit: number;
  /** Most files and directories open at once. */
  readonly handleLimit: number;
  /** Most owners of POSIX locks at once, each with a descriptor; 0: none are set on the source. */
  readonly lockLimit: number;
  /** Unpin nodes where the source has file handles; `never`: as if it had none; `mandatory`: or do not serve. */
  readonly fileHandles: FileHandlesUse;
};

/** Descriptors that the rest of the process needs. */
const RESERVED_DESCRIPTORS = 256;
/** A look-up goes through all of them. */
export const LOCK_OWNERS_MAX = 4096;
/** 116 bytes each, of memory that takes none before it is used. */
const NODES_MAX = 1_048_576;

/** Defaults; the limits share out what RLIMIT_NOFILE allows. */
export function passthroughOptions(given: Partial<PassthroughOptions> = {}): PassthroughOptions {
  const descriptors = Math.max(descriptorLimit() - RESERVED_DESCRIPTORS, 64);
  const handleLimit = Math.max(Math.floor(descriptors / 4), 16);
  const lockLimit = Math.min(given.lockLimit ?? 0, LOCK_OWNERS_MAX, Math.floor(descriptors / 8));
  return {
    readOnly: false,
    writebackCache: false,
    crossMounts: false,
    allowDirectIo: false,
    nodeLimit: NODES_MAX,
    pinLimit: descriptors - handleLimit - lockLimit,
    handleLimit,
    fileHandles: "prefer",
    ...given,
    lockLimit,
  };
}

/** The soft limit of this process on open descriptors (Node raises it to the hard one at start). */
function descriptorLimit(): number {
  const limit = /^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"))?.[1];
  return limit === undefined ? 1024 : Number(limit);
}
