/**
 * System calls of a test's own thread, by path and with errno names as results: what Node lacks, or words differently.
 * `asUser` acts as another user on this thread, which is what a mount and a folder see of a caller.
 */
import { closeSync } from "node:fs";
import {
  declare,
  errnoName,
  files,
  lastErrno,
  MAP_SHARED,
  mmap,
  munmap,
  PROT_READ,
  PROT_WRITE,
  setFileSystemIdentity,
  setSupplementaryGroups,
  viewOf,
} from "../../../sys/src/index.ts";

const cFlock = declare<(fd: number, operation: number) => number>("int flock(int fd, int operation)");
const cFcntlLock = declare<(fd: number, command: number, lock: Uint8Array) => number>(
  "int fcntl(int fd, int command, void *lock)",
);

export type User = { readonly uid: number; readonly gid: number; readonly groups?: readonly number[] };

function setGroups(groups: readonly number[]): void {
  if (!setSupplementaryGroups(groups)) throw new Error("setgroups needs CAP_SETGID");
}

/**
 * Does `work` as another user: file system uid, gid and supplementary groups of this thread. The kernel takes the
 * capabilities that concern files away with uid 0 (capabilities(7)): scripts/test/test-file.ts has seen to that.
 */
export function asUser<T>({ uid, gid, groups = [] }: User, work: () => T): T {
  const own = process.getgroups?.() ?? [];
  setGroups(groups);
  setFileSystemIdentity(uid, gid);
  try {
    return work();
  } finally {
    setFileSystemIdentity(0, 0);
    setGroups(own);
  }
}

/** The result of a system call as something to compare: itself, or the name of its errno. */
export function named<T extends number | bigint>(result: T): T | string {
  return result < 0 ? errnoName(Number(-result)) : result;
}

/** What a function of node:fs returns, or the name of the errno with which it fails. */
export function tried<T>(work: () => T): T | string {
  try {
    return work();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === undefined) throw error;
    return code;
  }
}

const path = files.pathBytes;

/** openat(2); a descriptor, or an Error whose `code` is the errno's name. */
export function open(name: string, flags: number, mode = 0o644): number {
  return checked("open", files.openat(files.AT_FDCWD, path(name), flags, mode));
}

function checked(call: string, result: number): number {
  if (result >= 0) return result;
  throw Object.assign(new Error(`${call}: ${errnoName(-result)}`), { code: errnoName(-result) });
}

/** Opens, does something, closes; the errno's name if it cannot be opened. */
export function withOpen<T>(name: string, flags: number, work: (fd: number) => T): T | string {
  return tried(() => {
    const fd = open(name, flags);
    try {
      return work(fd);
    } finally {
      closeSync(fd);
    }
  });
}

export const LOCK_SH = 1;
export const LOCK_EX = 2;
export const LOCK_NB = 4;
export const LOCK_UN = 8;

export function flock(fd: number, operation: number): number | string {
  return cFlock(fd, operation) === 0 ? 0 : named(-lastErrno());
}

export const F_RDLCK = 0;
export const F_WRLCK = 1;
export const F_UNLCK = 2;
const F_OFD_GETLK = 36;
const F_OFD_SETLK = 37;

function lockBytes(type: number, start: bigint, length: bigint): Uint8Array {
  // struct flock: short l_type, l_whence; off_t l_start, l_len; pid_t l_pid.
  const bytes = new Uint8Array(32);
  const view = new DataView(bytes.buffer);
  view.setInt16(0, type, true);
  view.setBigInt64(8, start, true);
  view.setBigInt64(16, length, true);
  return bytes;
}

/** F_OFD_SETLK: a lock of the open file description, which does not wait. */
export function setLock(fd: number, type: number, start: bigint, length: bigint): number | string {
  return cFcntlLock(fd, F_OFD_SETLK, lockBytes(type, start, length)) === 0 ? 0 : named(-lastErrno());
}

/** F_OFD_GETLK: what is in the way of such a lock: its type, start and length. */
export function lockInTheWay(fd: number, type: number, start: bigint, length: bigint): unknown {
  const bytes = lockBytes(type, start, length);
  if (cFcntlLock(fd, F_OFD_GETLK, bytes) !== 0) return named(-lastErrno());
  const view = new DataView(bytes.buffer);
  return [view.getInt16(0, true), view.getBigInt64(8, true), view.getBigInt64(16, true)];
}

/** Does something to a shared mapping of the first `lengthBytes` of a file. */
export function mapped<T>(fd: number, lengthBytes: number, work: (bytes: Uint8Array) => T): T {
  const address = mmap({ lengthBytes, prot: PROT_READ | PROT_WRITE, flags: MAP_SHARED, fd });
  try {
    return work(viewOf(address, lengthBytes));
  } finally {
    munmap(address, lengthBytes);
  }
}

export function setAttribute(name: string, attribute: string, value: Uint8Array, flags = 0): number | string {
  return named(files.setxattr(path(name), path(attribute), value, flags));
}

/** In hexadecimal digits. */
export function attribute(name: string, wanted: string): string {
  const into = Buffer.alloc(65_536);
  const size = files.getxattr(path(name), path(wanted), into);
  return size < 0 ? String(named(size)) : into.subarray(0, size).toString("hex");
}

export function attributeNames(name: string): readonly string[] | string {
  const into = Buffer.alloc(65_536);
  const size = files.listxattr(path(name), into);
  if (size < 0) return String(named(size));
  return into.subarray(0, size).toString("latin1").split("\0").filter(Boolean).sort();
}

/** struct posix_acl_xattr_header and entries { tag, perm, id } (linux/posix_acl_xattr.h). */
export function acl(
  ...entries: readonly (readonly [tag: number, permissions: number, id?: number])[]
): Buffer {
  const bytes = Buffer.alloc(4 + entries.length * 8);
  bytes.writeUInt32LE(2, 0);
  for (const [i, [tag, permissions, id = 0xffffffff]] of entries.entries()) {
    bytes.writeUInt16LE(tag, 4 + i * 8);
    bytes.writeUInt16LE(permissions, 6 + i * 8);
    bytes.writeUInt32LE(id, 8 + i * 8);
  }
  return bytes;
}

export const ACL_USER_OBJ = 1;
export const ACL_USER = 2;
export const ACL_GROUP_OBJ = 4;
export const ACL_GROUP = 8;
export const ACL_MASK = 16;
export const ACL_OTHER = 32;
