/**
 * File system calls, in the shape a file server needs: relative to directory descriptors, names as bytes,
 * 64-bit offsets, and no exception where failure is an everyday answer.
 *
 * Every function returns what the system call returns, or the *negative* errno: a look-up that finds nothing is
 * not worth a stack trace. Names and paths are NUL-terminated bytes (file names on Linux are bytes, not text).
 * Layouts are those of x86-64 and arm64 (struct statx and struct statfs are the same on both).
 */
import { addressOf, declare, lastErrno, type Pointer } from "./libc.ts";

export const AT_FDCWD = -100;
export const AT_SYMLINK_FOLLOW = 0x400;
export const AT_SYMLINK_NOFOLLOW = 0x100;
export const AT_REMOVEDIR = 0x200;
export const AT_NO_AUTOMOUNT = 0x800;
export const AT_EMPTY_PATH = 0x1000;
/** Of statx(2): attributes that are at hand, without asking another machine or process. */
export const AT_STATX_DONT_SYNC = 0x4000;

export const O_ACCMODE = 3;
export const O_RDONLY = 0;
export const O_WRONLY = 1;
export const O_RDWR = 2;
export const O_CREAT = 0o100;
export const O_EXCL = 0o200;
export const O_NOCTTY = 0o400;
export const O_TRUNC = 0o1000;
export const O_APPEND = 0o2000;
export const O_NONBLOCK = 0o4000;
/** These three differ by architecture: arm64 swaps them about. */
const isArm64 = process.arch === "arm64";
export const O_DIRECT: number = isArm64 ? 0o200000 : 0o40000;
export const O_DIRECTORY: number = isArm64 ? 0o40000 : 0o200000;
export const O_NOFOLLOW: number = isArm64 ? 0o100000 : 0o400000;
export const O_CLOEXEC = 0o2000000;
export const O_PATH = 0o10000000;
/** Already includes O_DIRECTORY. */
export const O_TMPFILE: number = 0o20000000 | O_DIRECTORY;

export const S_IFMT = 0o170000;
export const S_IFDIR = 0o040000;
export const S_IFREG = 0o100000;
export const S_IFLNK = 0o120000;
export const S_IFIFO = 0o010000;

export const O_SYNC = 0o4010000;
export const O_DSYNC = 0o10000;

/** Flags of one write, pwritev2(2). */
export const RWF_DSYNC = 0x02;
export const RWF_SYNC = 0x04;
export const RWF_APPEND = 0x10;
export const RWF_NOAPPEND = 0x20;

export const FALLOC_FL_KEEP_SIZE = 1;
export const FALLOC_FL_PUNCH_HOLE = 2;
export const FALLOC_FL_COLLAPSE_RANGE = 8;
export const FALLOC_FL_ZERO_RANGE = 16;

export const RENAME_NOREPLACE = 1;
export const RENAME_EXCHANGE = 2;
export const RENAME_WHITEOUT = 4;

export const SEEK_SET = 0;
export const SEEK_DATA = 3;
export const SEEK_HOLE = 4;

/** `tv_nsec` values of utimensat(2). */
export const UTIME_NOW = 0x3fffffff;
export const UTIME_OMIT = 0x3ffffffe;

/** openat2(2), struct open_how.resolve. */
export const RESOLVE_NO_XDEV = 0x01;
export const RESOLVE_NO_MAGICLINKS = 0x02;
export const RESOLVE_NO_SYMLINKS = 0x04;
export const RESOLVE_BENEATH = 0x08;

export const STATX_BASIC_STATS = 0x7ff;
export const STATX_BTIME = 0x800;
/** Linux 5.8. */
export const STATX_MNT_ID = 0x1000;
export const STATX_BYTES = 256;
/** Where struct statx (linux/stat.h) has what is read of it, in bytes. */
export const STATX_AT = {
  nlink: 0x10,
  mode: 0x1c,
  inode: 0x20,
  size: 0x28,
  deviceMajor: 0x88,
  deviceMinor: 0x8c,
} as const;
export const STATFS_BYTES = 120;

/** NUL-terminated bytes. */
export type PathBytes = Uint8Array;

/** The empty path that AT_EMPTY_PATH needs. */
export const EMPTY_PATH: PathBytes = new Uint8Array(1);

const SYS_OPENAT2 = 437;

function negated(result: number): number {
  return result === -1 ? -lastErrno() : result;
}

/** The bytes of `text` and a NUL. */
export function pathBytes(text: string): PathBytes {
  return Buffer.from(`${text}\0`, "utf8");
}

const cOpenat = declare<(dir: number, path: PathBytes, flags: number, mode: number) => number>(
  "int openat(int dir, const void *path, int flags, uint32 mode)",
);
const cOpenat2 = declare<
  (number: number, dir: number, path: PathBytes, how: Uint8Array, size: number) => number
>("int64 syscall(int64 number, int dir, const void *path, const void *how, uint64 size)");
const cNameToHandleAt = declare<
  (dir: number, path: PathBytes, handle: Uint8Array, mountId: Int32Array, flags: number) => number
>("int name_to_handle_at(int dir, const void *path, void *handle, void *mountId, int flags)");
const cOpenByHandleAt = declare<(mountFd: number, handle: Uint8Array, flags: number) => number>(
  "int open_by_handle_at(int mountFd, void *handle, int flags)",
);
const cClose = declare<(fd: number) => number>("int close(int fd)");
const cDup = declare<(fd: number) => number>("int dup(int fd)");
const cStatx = declare<
  (dir: number, path: PathBytes, flags: number, mask: number, out: Uint8Array) => number
>("int statx(int dir, const void *path, int flags, uint32 mask, void *out)");
const cFstatfs = declare<(fd: number, out: Uint8Array) => number>("int fstatfs(int fd, void *out)");
const cPread = declare<(fd: number, into: Uint8Array, length: number, offset: bigint) => number>(
  "int64 pread64(int fd, void *into, uint64 length, int64 offset)",
);
const cPwrite = declare<(fd: number, from: Uint8Array, length: number, offset: bigint) => number>(
  "int64 pwrite64(int fd, const void *from, uint64 length, int64 offset)",
);
type Vectored = (fd: number, vector: BigUint64Array, count: number, offset: bigint) => number;
const cPreadv = declare<Vectored>("int64 preadv64(int fd, const void *vector, int count, int64 offset)");
const cPwritev = declare<Vectored>("int64 pwritev64(int fd, const void *vector, int count, int64 offset)");
/** The offset goes in two halves, the low one first; both are whole on 64-bit systems. */
const cPwritev2 = declare<
  (fd: number, vector: BigUint64Array, count: number, offset: bigint, flags: number) => number
>("int64 pwritev2(int fd, const void *vector, int count, int64 offset, int flags)");
const cRead = declare<(fd: number, into: Uint8Array, length: number) => number>(
  "int64 read(int fd, void *into, uint64 length)",
);
const cWrite = declare<(fd: number, from: Uint8Array, length: number) => number>(
  "int64 write(int fd, const void *from, uint64 length)",
);
const cPoll = declare<(set: Uint8Array, count: number, timeoutMs: number) => number>(
  "int poll(void *set, uint64 count, int timeoutMs)",
);
const cIoctl = declare<(fd: number, request: number, argument: Uint8Array) => number>(
  "int ioctl(int fd, unsigned long request, void *argument)",
);
const cMkdirat = declare<(dir: number, path: PathBytes, mode: number) => number>(
  "int mkdirat(int dir, const void *path, uint32 mode)",
);
const cMknodat = declare<(dir: number, path: PathBytes, mode: number, device: bigint) => number>(
  "int mknodat(int dir, const void *path, uint32 mode, uint64 device)",
);
const cUnlinkat = declare<(dir: number, path: PathBytes, flags: number) => number>(
  "int unlinkat(int dir, const void *path, int flags)",
);
const cRenameat2 = declare<
  (fromDir: number, from: PathBytes, toDir: number, to: PathBytes, flags: number) => number
>("int renameat2(int fromDir, const void *from, int toDir, const void *to, uint32 flags)");
const cLinkat = declare<
  (fromDir: number, from: PathBytes, toDir: number, to: PathBytes, flags: number) => number
>("int linkat(int fromDir, const void *from, int toDir, const void *to, int flags)");
const cSymlinkat = declare<(target: PathBytes, dir: number, path: PathBytes) => number>(
  "int symlinkat(const void *target, int dir, const void *path)",
);
const cReadlinkat = declare<(dir: number, path: PathBytes, into: Uint8Array, size: number) => number>(
  "int64 readlinkat(int dir, const void *path, void *into, uint64 size)",
);
const cFchmodat = declare<(dir: number, path: PathBytes, mode: number, flags: number) => number>(
  "int fchmodat(int dir, const void *path, uint32 mode, int flags)",
);
const cFchownat = declare<(dir: number, path: PathBytes, uid: number, gid: number, flags: number) => number>(
  "int fchownat(int dir, const void *path, uint32 uid, uint32 gid, int flags)",
);
const cUtimensat = declare<(dir: number, path: PathBytes, times: Uint8Array, flags: number) => number>(
  "int utimensat(int dir, const void *path, const void *times, int flags)",
);
const cTruncate = declare<(path: PathBytes, length: bigint) => number>(
  "int truncate64(const void *path, int64 length)",
);
const cFtruncate = declare<(fd: number, length: bigint) => number>("int ftruncate64(int fd, int64 length)");
const cFsync = declare<(fd: number) => number>("int fsync(int fd)");
const cFdatasync = declare<(fd: number) => number>("int fdatasync(int fd)");
const cSyncfs = declare<(fd: number) => number>("int syncfs(int fd)");
const cFallocate = declare<(fd: number, mode: number, offset: bigint, length: bigint) => number>(
  "int fallocate64(int fd, int mode, int64 offset, int64 length)",
);
const cLseek = declare<(fd: number, offset: bigint, whence: number) => number | bigint>(
  "int64 lseek64(int fd, int64 offset, int whence)",
);
const cCopyFileRange = declare<
  (
    from: number,
    fromOffset: BigInt64Array,
    to: number,
    toOffset: BigInt64Array,
    length: bigint,
    flags: number,
  ) => number
>("int64 copy_file_range(int from, void *fromOffset, int to, void *toOffset, uint64 length, uint32 flags)");
const cGetdents = declare<(fd: number, into: Uint8Array, size: number) => number>(
  "int64 getdents64(int fd, void *into, uint64 size)",
);
const cGetxattr = declare<(path: PathBytes, name: PathBytes, into: Pointer, size: number) => number>(
  "int64 getxattr(const void *path, const void *name, void *into, uint64 size)",
);
const cSetxattr = declare<
  (path: PathBytes, name: PathBytes, value: Uint8Array, size: number, flags: number) => number
>("int setxattr(const void *path, const void *name, const void *value, uint64 size, int flags)");
const cListxattr = declare<(path: PathBytes, into: Pointer, size: number) => number>(
  "int64 listxattr(const void *path, void *into, uint64 size)",
);
const cRemovexattr = declare<(path: PathBytes, name: PathBytes) => number>(
  "int removexattr(const void *path, const void *name)",
);

const cPipe2 = declare<(pair: Int32Array, flags: number) => number>("int pipe2(void *pair, int flags)");
const cFcntl = declare<(fd: number, command: number, argument: number) => number>(
  "int fcntl(int fd, int command, long argument)",
);
const cSplice = declare<
  (
    from: number,
    fromOffset: BigInt64Array | null,
    to: number,
    toOffset: BigInt64Array | null,
    length: number,
    flags: number,
  ) => number
>("int64 splice(int from, void *fromOffset, int to, void *toOffset, uint64 length, uint32 flags)");
const cVmsplice = declare<(pipe: number, vector: BigUint64Array, count: number, flags: number) => number>(
  "int64 vmsplice(int pipe, const void *vector, uint64 count, uint32 flags)",
);
const F_GETFL = 3;
const F_SETFL = 4;
const F_SETPIPE_SZ = 1031;

/** openat(2), always with O_CLOEXEC. */
export function openat(directoryFd: number, path: PathBytes, flags: number, mode = 0): number {
  return negated(cOpenat(directoryFd, path, flags | O_CLOEXEC, mode));
}

/** openat2(2) (Linux 5.6), always with O_CLOEXEC: openat with rules about what the path may pass through. */
export function openat2(directoryFd: number, path: PathBytes, flags: number, resolve: number): number {
  // struct open_how: flags, mode, resolve, each 64 bits.
  const how = new BigUint64Array([BigInt(flags | O_CLOEXEC), 0n, BigInt(resolve)]);
  return negated(cOpenat2(SYS_OPENAT2, directoryFd, path, new Uint8Array(how.buffer), 24));
}

/** struct file_handle with MAX_HANDLE_SZ bytes of f_handle: handle_bytes, handle_type, f_handle. */
const FILE_HANDLE_BYTES = 8 + 128;

/**
 * name_to_handle_at(2) of what `fd` refers to: its struct file_handle and the id of its mount, or the negative errno
 * (EOPNOTSUPP where the file system has no handles).
 */
export function handleOf(fd: number): { readonly handle: Uint8Array; readonly mountId: number } | number {
  const handle = new Uint8Array(FILE_HANDLE_BYTES);
  const view = new DataView(handle.buffer);
  view.setUint32(0, FILE_HANDLE_BYTES - 8, true);
  const mountId = new Int32Array(1);
  if (cNameToHandleAt(fd, EMPTY_PATH, handle, mountId, AT_EMPTY_PATH) === -1) return -lastErrno();
  return { handle: handle.slice(0, 8 + view.getUint32(0, true)), mountId: mountId[0] ?? 0 };
}

/** open_by_handle_at(2), always with O_CLOEXEC. Needs CAP_DAC_READ_SEARCH; `mountFd` must not be an O_PATH one. */
export function openByHandle(mountFd: number, handle: Uint8Array, flags: number): number {
  return negated(cOpenByHandleAt(mountFd, handle, flags | O_CLOEXEC));
}

export function close(fd: number): number {
  return negated(cClose(fd));
}

export function dup(fd: number): number {
  return negated(cDup(fd));
}

/** statx(2) into a buffer of STATX_BYTES. */
export function statx(
  directoryFd: number,
  path: PathBytes,
  flags: number,
  mask: number,
  out: Uint8Array,
): number {
  return negated(cStatx(directoryFd, path, flags, mask, out));
}

/** fstatfs(2) into a buffer of STATFS_BYTES. Works on O_PATH descriptors. */
export function fstatfs(fd: number, out: Uint8Array): number {
  return negated(cFstatfs(fd, out));
}

export function pread(fd: number, into: Uint8Array, offset: bigint): number {
  return negated(cPread(fd, into, into.length, offset));
}

export function pwrite(fd: number, from: Uint8Array, offset: bigint): number {
  return negated(cPwrite(fd, from, from.length, offset));
}

/** Most buffers of one call: UIO_MAXIOV (linux/uio.h). */
export const MAX_BUFFERS = 1024;

/** preadv(2), of up to MAX_BUFFERS buffers. */
export function preadv(fd: number, into: readonly Uint8Array[], offset: bigint): number {
  return negated(cPreadv(fd, vectorOf(into), into.length, offset));
}

/** pwritev(2), of up to MAX_BUFFERS buffers. */
export function pwritev(fd: number, from: readonly Uint8Array[], offset: bigint): number {
  return negated(cPwritev(fd, vectorOf(from), from.length, offset));
}

/** struct iovec of each. Most lie in one memory, whose address is asked for once. */
function vectorOf(buffers: readonly Uint8Array[]): BigUint64Array {
  const vector = new BigUint64Array(2 * buffers.length);
  let memory: ArrayBufferLike | null = null;
  let address = 0n;
  for (const [i, { buffer, byteOffset, length }] of buffers.entries()) {
    if (buffer !== memory) {
      memory = buffer;
      address = addressOf(new Uint8Array(buffer));
    }
    vector[2 * i] = address + BigInt(byteOffset);
    vector[2 * i + 1] = BigInt(length);
  }
  return vector;
}

/** pwritev2(2) of one buffer, with RWF_* flags. */
export function pwritev2(fd: number, from: Uint8Array, offset: bigint, flags: number): number {
  return negated(cPwritev2(fd, vectorOf([from]), 1, offset, flags));
}

/** F_GETFL of fcntl(2): the status flags of an open file. */
export function statusFlags(fd: number): number {
  return negated(cFcntl(fd, F_GETFL, 0));
}

/** F_SETFL of fcntl(2). */
export function setStatusFlags(fd: number, flags: number): number {
  return negated(cFcntl(fd, F_SETFL, flags));
}

/** read(2) from a device or pipe, waiting for as long as it takes. */
export function read(fd: number, into: Uint8Array): number {
  return negated(cRead(fd, into, into.length));
}

export function write(fd: number, from: Uint8Array): number {
  return negated(cWrite(fd, from, from.length));
}

/** Waits until `fd` can be read or `timeoutMs` passed (-1: no limit). Returns 1 or 0, or the negative errno. */
export function pollReadable(fd: number, timeoutMs: number): number {
  // struct pollfd: int fd, short events (POLLIN), short revents.
  const set = new DataView(new ArrayBuffer(8));
  set.setInt32(0, fd, true);
  set.setInt16(4, 1, true);
  return negated(cPoll(new Uint8Array(set.buffer), 1, timeoutMs));
}

/**
 * Waits until one of `fds` can be read (or has ended), or `timeoutMs` passed (-1: no limit).
 * Returns which of them are ready, or the negative errno.
 */
export function pollAny(fds: readonly number[], timeoutMs: number): number[] | number {
  const set = new DataView(new ArrayBuffer(8 * fds.length));
  for (const [index, fd] of fds.entries()) {
    set.setInt32(8 * index, fd, true);
    set.setInt16(8 * index + 4, 1, true);
  }
  const result = cPoll(new Uint8Array(set.buffer), fds.length, timeoutMs);
  if (result === -1) return -lastErrno();
  return fds.filter((_, index) => set.getInt16(8 * index + 6, true) !== 0);
}

/** ioctl(2) with a pointer argument. */
export function ioctl(fd: number, request: number, argument: Uint8Array): number {
  return negated(cIoctl(fd, request, argument));
}

export function mkdirat(directoryFd: number, path: PathBytes, mode: number): number {
  return negated(cMkdirat(directoryFd, path, mode));
}

/** mknodat(2); `device` in glibc's 64-bit encoding (`deviceNumber`). */
export function mknodat(directoryFd: number, path: PathBytes, mode: number, device: bigint): number {
  return negated(cMknodat(directoryFd, path, mode, device));
}

export function unlinkat(directoryFd: number, path: PathBytes, flags: number): number {
  return negated(cUnlinkat(directoryFd, path, flags));
}

export function renameat2(
  fromDirectoryFd: number,
  from: PathBytes,
  toDirectoryFd: number,
  to: PathBytes,
  flags: number,
): number {
  return negated(cRenameat2(fromDirectoryFd, from, toDirectoryFd, to, flags));
}

export function linkat(
  fromDirectoryFd: number,
  from: PathBytes,
  toDirectoryFd: number,
  to: PathBytes,
  flags: number,
): number {
  return negated(cLinkat(fromDirectoryFd, from, toDirectoryFd, to, flags));
}

export function symlinkat(target: PathBytes, directoryFd: number, path: PathBytes): number {
  return negated(cSymlinkat(target, directoryFd, path));
}

export function readlinkat(directoryFd: number, path: PathBytes, into: Uint8Array): number {
  return negated(cReadlinkat(directoryFd, path, into, into.length));
}

export function fchmodat(directoryFd: number, path: PathBytes, mode: number): number {
  return negated(cFchmodat(directoryFd, path, mode, 0));
}

export function fchownat(
  directoryFd: number,
  path: PathBytes,
  uid: number,
  gid: number,
  flags: number,
): number {
  return negated(cFchownat(directoryFd, path, uid, gid, flags));
}

export type Timespec = { readonly seconds: bigint; readonly nanoseconds: number };

/** utimensat(2); nanoseconds may be UTIME_NOW or UTIME_OMIT. */
export function utimensat(
  directoryFd: number,
  path: PathBytes,
  times: { readonly access: Timespec; readonly modification: Timespec },
  flags: number,
): number {
  const spec = new BigInt64Array([
    times.access.seconds,
    BigInt(times.access.nanoseconds),
    times.modification.seconds,
    BigInt(times.modification.nanoseconds),
  ]);
  return negated(cUtimensat(directoryFd, path, new Uint8Array(spec.buffer), flags));
}

export function truncate(path: PathBytes, lengthBytes: bigint): number {
  return negated(cTruncate(path, lengthBytes));
}

export function ftruncate(fd: number, lengthBytes: bigint): number {
  return negated(cFtruncate(fd, lengthBytes));
}

export function fsync(fd: number): number {
  return negated(cFsync(fd));
}

export function fdatasync(fd: number): number {
  return negated(cFdatasync(fd));
}

export function syncfs(fd: number): number {
  return negated(cSyncfs(fd));
}

export function fallocate(fd: number, mode: number, offset: bigint, lengthBytes: bigint): number {
  return negated(cFallocate(fd, mode, offset, lengthBytes));
}

/** lseek(2). The new offset, or the negative errno: offsets are never negative, so the sign distinguishes them. */
export function lseek(fd: number, offset: bigint, whence: number): bigint {
  const result = BigInt(cLseek(fd, offset, whence));
  return result === -1n ? BigInt(-lastErrno()) : result;
}

export function copyFileRange(
  from: { readonly fd: number; readonly offset: bigint },
  to: { readonly fd: number; readonly offset: bigint },
  lengthBytes: bigint,
): number {
  const fromOffset = new BigInt64Array([from.offset]);
  const toOffset = new BigInt64Array([to.offset]);
  return negated(cCopyFileRange(from.fd, fromOffset, to.fd, toOffset, lengthBytes, 0));
}

/** getdents64(2): records of { u64 ino, s64 nextOffset, u16 length, u8 type, NUL-terminated name }. */
export function getdents(fd: number, into: Uint8Array): number {
  return negated(cGetdents(fd, into, into.length));
}

/** getxattr(2); an empty `into` asks for the size. */
export function getxattr(path: PathBytes, name: PathBytes, into: Uint8Array): number {
  return negated(cGetxattr(path, name, into.length === 0 ? null : into, into.length));
}

export function setxattr(path: PathBytes, name: PathBytes, value: Uint8Array, flags: number): number {
  return negated(cSetxattr(path, name, value, value.length, flags));
}

/** listxattr(2); an empty `into` asks for the size. */
export function listxattr(path: PathBytes, into: Uint8Array): number {
  return negated(cListxattr(path, into.length === 0 ? null : into, into.length));
}

export function removexattr(path: PathBytes, name: PathBytes): number {
  return negated(cRemovexattr(path, name));
}

/** glibc's makedev(3): the 64-bit device number that mknodat takes. */
export function deviceNumber(major: number, minor: number): bigint {
  const high = BigInt(major >>> 12);
  const low = BigInt(major & 0xfff);
  return (high << 44n) | (BigInt(minor >>> 8) << 20n) | (low << 8n) | BigInt(minor & 0xff);
}

/** pipe2(2) that never waits: the end to read from and the end to write to; or the negative errno. */
export function pipe(): readonly [number, number] | number {
  const pair = new Int32Array(2);
  const result = negated(cPipe2(pair, O_CLOEXEC | O_NONBLOCK));
  return result < 0 ? result : [pair[0] ?? -1, pair[1] ?? -1];
}

/** F_SETPIPE_SZ of fcntl(2). Returns what the pipe holds then, in bytes, or the negative errno. */
export function setPipeSize(pipeFd: number, lengthBytes: number): number {
  return negated(cFcntl(pipeFd, F_SETPIPE_SZ, lengthBytes));
}

const spliceOffset = new BigInt64Array(1);

/** splice(2) from a file at `offset` into a pipe. Fewer bytes than asked for where file or pipe have no more. */
export function spliceFrom(fd: number, offset: bigint, pipeFd: number, lengthBytes: number): number {
  spliceOffset[0] = offset;
  return negated(cSplice(fd, spliceOffset, pipeFd, null, lengthBytes, 0));
}

/** splice(2) from a pipe into a file at `offset`. */
export function spliceInto(pipeFd: number, fd: number, offset: bigint, lengthBytes: number): number {
  spliceOffset[0] = offset;
  return negated(cSplice(pipeFd, null, fd, spliceOffset, lengthBytes, 0));
}

/** splice(2) between a pipe and a device or another pipe, neither of which has offsets. */
export function splice(from: number, to: number, lengthBytes: number): number {
  return negated(cSplice(from, null, to, null, lengthBytes, 0));
}

/** vmsplice(2) of memory at `address` into a pipe: by reference, so what is written there later still counts. */
export function vmsplice(pipeFd: number, address: bigint, lengthBytes: number): number {
  return negated(cVmsplice(pipeFd, new BigUint64Array([address, BigInt(lengthBytes)]), 1, 0));
}
