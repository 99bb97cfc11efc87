/**
 * Locks of files: of ranges (fcntl(2)), which belong to a process (POSIX) or to an open file description (OFD), and of whole
 * files (flock(2)). Results are what the call returns, or the negative errno.
 */
import { declare, lastErrno } from "./libc.ts";

export const F_RDLCK = 0;
export const F_WRLCK = 1;
export const F_UNLCK = 2;

/** Commands of fcntl(2); those with W wait. */
export const lockCommands = {
  get: 5,
  set: 6,
  setWait: 7,
  getOfd: 36,
  setOfd: 37,
} as const;

export const LOCK_SH = 1;
export const LOCK_EX = 2;
export const LOCK_NB = 4;
export const LOCK_UN = 8;

/** The last byte of a lock without an end: the largest loff_t. */
export const LOCK_EOF: bigint = 2n ** 63n - 1n;

/** A lock of the bytes from `start` to `end`, `end` among them. `pid`: whose it is, -1 of a description's. */
export type RangeLock = {
  readonly type: number;
  readonly start: bigint;
  readonly end: bigint;
  readonly pid: number;
};

const cFcntlLock = declare<(fd: number, command: number, lock: DataView) => number>(
  "int fcntl(int fd, int command, void *lock)",
);
const cFlock = declare<(fd: number, operation: number) => number>("int flock(int fd, int operation)");

/** struct flock of 64-bit Linux: short l_type, l_whence; off_t l_start, l_len; pid_t l_pid. */
const FLOCK_BYTES = 32;
const AT = { type: 0, start: 8, length: 16, pid: 24 } as const;

function encoded({ type, start, end }: Omit<RangeLock, "pid">): DataView {
  const view = new DataView(new ArrayBuffer(FLOCK_BYTES));
  view.setInt16(AT.type, type, true);
  view.setBigInt64(AT.start, start, true);
  view.setBigInt64(AT.length, end === LOCK_EOF ? 0n : end - start + 1n, true);
  return view;
}

/** Sets or clears a lock by one of the `set` commands. */
export function setRangeLock(fd: number, command: number, lock: Omit<RangeLock, "pid">): number {
  return cFcntlLock(fd, command, encoded(lock)) === -1 ? -lastErrno() : 0;
}

/** By one of the `get` commands: the first lock in the way of `lock`; type F_UNLCK: there is none. */
export function rangeLockInTheWay(
  fd: number,
  command: number,
  lock: Omit<RangeLock, "pid">,
): RangeLock | number {
  const view = encoded(lock);
  if (cFcntlLock(fd, command, view) === -1) return -lastErrno();
  const start = view.getBigInt64(AT.start, true);
  const length = view.getBigInt64(AT.length, true);
  const end = length === 0n ? LOCK_EOF : start + length - 1n;
  return { type: view.getInt16(AT.type, true), start, end, pid: view.getInt32(AT.pid, true) };
}

/** flock(2) with LOCK_* operations. */
export function flock(fd: number, operation: number): number {
  return cFlock(fd, operation) === -1 ? -lastErrno() : 0;
}
