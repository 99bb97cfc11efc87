/**
 * File leases: fcntl(2), F_SETLEASE. The kernel (fs/locks.c) blocks open(2) and truncate(2) of the file by path until the
 * holder releases the lease, or until fs.lease-break-time has passed.
 *
 * What was measured and is relied upon here: a write lease is granted to the only opener of the inode (EAGAIN else), on
 * the very open file description that the mapping was made with; F_UNLCK also forgets F_SETSIG and F_SETOWN
 * (lease_modify()), so that each arming sets all three, owner and signal before the lease; an ftruncate of the holder's
 * own does not break it; opens for reading break it too.
 */
import { readFileSync } from "node:fs";
import { check, declare, errnoNumber, lastErrno } from "./libc.ts";

const F_SETSIG = 10;
const F_SETOWN_EX = 15;
const F_SETLEASE = 1024;
const F_GETLEASE = 1025;
const F_OWNER_TID = 0;
const F_WRLCK = 1;
const F_UNLCK = 2;

// fcntl is variadic in C; on x86-64 and arm64 integer and pointer arguments travel the same way in both kinds of call.
const cFcntl = declare<(fd: number, operation: number, argument: bigint) => number>(
  "int fcntl(int fd, int operation, uint64 argument)",
);
const cFcntlPointer = declare<(fd: number, operation: number, argument: Int32Array) => number>(
  "int fcntl(int fd, int operation, void *argument)",
);

/** The receiver of lease breaks: one thread, which has the signal blocked and waits for it. */
export type LeaseOwner = { readonly threadId: number; readonly signal: number };

/**
 * Takes a write lease on `fd`. Throws a SyscallError: EAGAIN if another process has the file open, EINVAL where the file
 * system has no leases (FUSE; file systems that do not opt in, since Linux 7.0), EACCES if it is another user's file.
 */
export function takeWriteLease(fd: number, owner: LeaseOwner): void {
  check("fcntl(F_SETOWN_EX)", cFcntlPointer(fd, F_SETOWN_EX, new Int32Array([F_OWNER_TID, owner.threadId])));
  check("fcntl(F_SETSIG)", cFcntl(fd, F_SETSIG, BigInt(owner.signal)));
  check("fcntl(F_SETLEASE, F_WRLCK)", cFcntl(fd, F_SETLEASE, BigInt(F_WRLCK)));
}

/** Releases the lease: blocked openers proceed. Does nothing if there is none. Throws a SyscallError. */
export function releaseLease(fd: number): void {
  const result = cFcntl(fd, F_SETLEASE, BigInt(F_UNLCK));
  // EAGAIN: there is none (generic_delete_lease()): the kernel broke it after its time, or it was released before.
  if (result === -1 && lastErrno() === errnoNumber("EAGAIN")) return;
  check("fcntl(F_SETLEASE, F_UNLCK)", result);
}

/**
 * Is the write lease on `fd` undisturbed? F_GETLEASE returns the type that the lease is on its way to (target_leasetype()):
 * one that is being broken, for a reader or a writer, is not a write lease any more.
 */
export function holdsWriteLease(fd: number): boolean {
  return check("fcntl(F_GETLEASE)", cFcntl(fd, F_GETLEASE, 0n)) === F_WRLCK;
}

/** Seconds after which the kernel breaks a lease by itself (fs.lease-break-time); null where it cannot be read. */
export function leaseBreakSeconds(): number | null {
  try {
    return Number(readFileSync("/proc/sys/fs/lease-break-time", "utf8"));
  } catch {
    return null;
  }
}
