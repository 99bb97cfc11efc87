/**
 * The port between protocol and storage: a file system in terms of node ids, as FUSE's low level sees one.
 *
 * Implemented by the passthrough, the null file system and the fault decorators; called by the protocol core and
 * by the transports that have no protocol of ours (libfuse). Every method is synchronous and returns, throws a
 * `FileSystemError`, or throws `Postponed` (the caller tries again later). Buffers are lent for the duration of a call, so that a payload is copied once at most:
 * `read` fills the caller's reply buffer, `write` takes the caller's request buffer.
 *
 * Lookup counts, stated once: every `Entry` returned (lookup, create, mkdir, mknod, symlink, link, tmpfile) gives
 * the client one reference to its node; `forget` returns references; a node without any may vanish. Handles are
 * independent of that: they live from open to release.
 */
import type { DirectoryEntry } from "./directory-entry.ts";
import type { ComponentName, TerminatedBytes } from "./names.ts";

export { DirectoryEntry } from "./directory-entry.ts";

/** Names a node for as long as the client holds references to it. Never reused within the life of a file system. */
export type NodeId = bigint & { readonly __brand: "NodeId" };

/** Names an open file or directory, from open to release. Never reused within the life of a file system. */
export type FileHandle = bigint & { readonly __brand: "FileHandle" };

/** FUSE_ROOT_ID. Always known, never forgotten. */
export const ROOT_NODE: NodeId = 1n as NodeId;

/** Who asks. The client's kernel has checked permissions; this decides who owns what is made. */
export type Caller = { readonly uid: number; readonly gid: number };

export type Instant = { readonly seconds: bigint; readonly nanoseconds: number };

/** Valid until the next call of a file system on this thread: it may lie where the kernel put it. */
export type Attributes = {
  /** The same as struct statx, where the file system has it so: goes out without a value made for each field. */
  readonly statx?: DataView;
  readonly ino: bigint;
  readonly sizeBytes: bigint;
  /** In units of 512 bytes, as stat(2) counts. */
  readonly blocks: bigint;
  readonly accessTime: Instant;
  readonly modificationTime: Instant;
  readonly changeTime: Instant;
  /** null or absent: the file system does not know. */
  readonly birthTime?: Instant | null;
  /** Type and permission bits. */
  readonly mode: number;
  readonly linkCount: number;
  readonly uid: number;
  readonly gid: number;
  /** Of a device node. */
  readonly device: { readonly major: number; readonly minor: number };
  readonly blockSizeBytes: number;
};

export type Entry = {
  readonly node: NodeId;
  readonly generation: bigint;
  readonly attributes: Attributes;
  /** A directory on another device than its parent's: a mount point, or a subvolume. */
  readonly isSubmount?: boolean;
};

export type TimeChange =
  | { readonly kind: "keep" }
  | { readonly kind: "now" }
  | { readonly kind: "set"; readonly time: Instant };

/** null: unchanged. */
export type AttributeChange = {
  readonly mode: number | null;
  readonly uid: number | null;
  readonly gid: number | null;
  readonly sizeBytes: bigint | null;
  readonly accessTime: TimeChange;
  readonly modificationTime: TimeChange;
};

export const NO_CHANGE: AttributeChange = {
  mode: null,
  uid: null,
  gid: null,
  sizeBytes: null,
  accessTime: { kind: "keep" },
  modificationTime: { kind: "keep" },
};

export type NewNode = {
  /** Type and permission bits for mknod, else permission bits. */
  readonly mode: number;
  /** Taken off `mode` by the file system, because a default ACL of the parent overrides it. 0: already applied. */
  readonly umask: number;
  readonly caller: Caller;
};

export type Statistics = {
  readonly blocks: bigint;
  readonly blocksFree: bigint;
  readonly blocksAvailable: bigint;
  readonly files: bigint;
  readonly filesFree: bigint;
  readonly blockSizeBytes: number;
  readonly fragmentSizeBytes: number;
  readonly nameMaxBytes: number;
};

export type Place = { readonly parent: NodeId; readonly name: ComponentName };

/** A file as a process of the host sees it: st_dev and st_ino of fstat(2). */
export type HostFile = { readonly device: bigint; readonly ino: bigint };

export type Opened = { readonly node: NodeId; readonly file: HostFile };

export type CopyEnd = { readonly handle: FileHandle; readonly offset: bigint };

/** What fsync writes: `data` as fdatasync(2) does (FUSE_FSYNC_FDATASYNC), or `all`, metadata too. */
export type SyncScope = "data" | "all";

/** How a write differs from pwrite(2) of a descriptor without flags. */
export type WriteHow = {
  /** At the end of the file, wherever that is when it is written: the offset is ignored. */
  readonly append: boolean;
  /** Also on the disk before it returns. */
  readonly sync: SyncScope | null;
};

export const PLAIN_WRITE: WriteHow = { append: false, sync: null };

/**
 * Whose a lock is, as the client's kernel names it: a process (its table of descriptors), or an open file of one. A POSIX
 * lock goes when its owner closes any descriptor of the file (`dropLocks`).
 */
export type LockOwner = bigint & { readonly __brand: "LockOwner" };

/** A lock of a whole file (flock(2)), which is the handle's, or of the bytes from `start` to `end` (POSIX). */
export type FileLock = {
  readonly kind: "posix" | "flock";
  /** F_RDLCK, F_WRLCK or F_UNLCK. */
  readonly type: number;
  readonly start: bigint;
  /** The last byte; LOCK_EOF: no end. */
  readonly end: bigint;
  readonly owner: LockOwner;
  /** The client's process. 0: unknown. */
  readonly pid: number;
};

/** How many of each a file system holds now: for leak checks. The root node is not counted. */
export type Usage = { readonly nodes: number; readonly handles: number };

/** A descriptor for mmap, owned by the receiver until `close`. */
export type MappableFile = { readonly fd: number; close(): void };

export interface FileSystem {
  lookup(parent: NodeId, name: ComponentName): Entry;
  forget(node: NodeId, count: bigint): void;
  getattr(node: NodeId): Attributes;
  setattr(node: NodeId, change: AttributeChange, handle: FileHandle | null): Attributes;
  access(node: NodeId, mask: number, caller: Caller): void;

  open(node: NodeId, flags: number): FileHandle;
  create(place: Place, flags: number, what: NewNode): { readonly entry: Entry; readonly handle: FileHandle };
  /** An unnamed file in `parent` (O_TMPFILE). */
  tmpfile(
    parent: NodeId,
    flags: number,
    what: NewNode,
  ): { readonly entry: Entry; readonly handle: FileHandle };
  /** Returns the bytes read; fewer than `into.length` only at the end of the file. */
  read(handle: FileHandle, offset: bigint, into: Uint8Array): number;
  /** `how`: of this write; O_APPEND, O_SYNC and O_DSYNC of the open do not count. */
  write(handle: FileHandle, offset: bigint, data: Uint8Array, how?: WriteHow): number;
  flush(handle: FileHandle): void;
  fsync(handle: FileHandle, scope: SyncScope): void;
  fallocate(handle: FileHandle, mode: number, offset: bigint, lengthBytes: bigint): void;
  lseek(handle: FileHandle, offset: bigint, whence: number): bigint;
  copyFileRange(from: CopyEnd, to: CopyEnd, lengthBytes: bigint): number;
  release(handle: FileHandle): void;

  /** The first POSIX lock in the way of `lock`, whoever has it; null: there is none. */
  getLock(handle: FileHandle, lock: FileLock): FileLock | null;
  /** Sets or clears a lock. False: another one is in the way. Waits for nobody. */
  setLock(handle: FileHandle, lock: FileLock): boolean;
  /** `owner` has closed a descriptor of the file: its POSIX locks go. Returns whether it may have had any. */
  dropLocks(handle: FileHandle, owner: LockOwner): boolean;

  opendir(node: NodeId): FileHandle;
  /**
   * Calls `emit` per entry after `offset` until it returns false (no room) or the directory ends. Entries occur in any
   * order, `.` and `..` among them; each is valid during its call only.
   */
  readDirectory(handle: FileHandle, offset: bigint, emit: (entry: DirectoryEntry) => boolean): void;
  fsyncdir(handle: FileHandle, scope: SyncScope): void;
  releasedir(handle: FileHandle): void;

  mkdir(place: Place, what: NewNode): Entry;
  mknod(place: Place, what: NewNode, device: { readonly major: number; readonly minor: number }): Entry;
  symlink(place: Place, target: TerminatedBytes, caller: Caller): Entry;
  link(node: NodeId, place: Place): Entry;
  unlink(place: Place): void;
  rmdir(place: Place): void;
  /** `flags`: RENAME_* of renameat2(2). */
  rename(from: Place, to: Place, flags: number): void;
  /** Without a NUL. */
  readlink(node: NodeId): Uint8Array;

  /**
   * Does `work`, calls of this file system, for a caller that lacks CAP_FSETID: set-user-id and set-group-id bits go
   * from what it writes to, cuts, allocates or opens with O_TRUNC. Of the caller's groups only `gid` is known: a
   * set-group-id bit without execute permission, which members of the file's group may leave, goes for others.
   */
  withoutFsetid<T>(caller: Caller, work: () => T): T;

  statfs(node: NodeId): Statistics;
  syncfs(node: NodeId): void;
  /** An empty `into` asks for the size. Returns the size. */
  getxattr(node: NodeId, name: TerminatedBytes, into: Uint8Array): number;
  setxattr(node: NodeId, name: TerminatedBytes, value: Uint8Array, flags: number): void;
  listxattr(node: NodeId, into: Uint8Array): number;
  removexattr(node: NodeId, name: TerminatedBytes): void;

  /** For the DAX window: a descriptor of the node's content. */
  openForMapping(node: NodeId, options: { readonly writable: boolean }): MappableFile;

  /**
   * The host descriptor behind an open file, for the kernel's pass-through and for content moved by reference; null
   * where every `read` and `write` must be seen.
   */
  descriptorOf(handle: FileHandle): number | null;

  /** The host's file of a node that is known; null: there is none. Asks nothing of the host. */
  hostFileOf(node: NodeId): HostFile | null;

  /** The node that an open file belongs to, and its host's file; null: neither is known. Asks nothing of the host. */
  openedBy(handle: FileHandle): Opened | null;

  usage(): Usage;
  /** Back to the start: every handle released, every node but the root forgotten (DESTROY). */
  reset(): void;
  /** Releases everything. No call may follow. */
  close(): void;
}
