/** File descriptors: received over a socket (unix(7), SCM_RIGHTS), replaced, locked. Layout of 64-bit Linux. */
import { closeSync, openSync } from "node:fs";
import { addressOf, check, declare, errnoNumber, lastErrno, SyscallError } from "./libc.ts";

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_SEQPACKET = 5;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
/** cmsghdr (16) and one int, padded. */
const CONTROL_BYTES = 24;
const O_CLOEXEC = 0o2000000;

const cSocketpair = declare<(domain: number, type: number, protocol: number, pair: Int32Array) => number>(
  "int socketpair(int domain, int type, int protocol, void *pair)",
);
const cRecvmsg = declare<(fd: number, message: Uint8Array, flags: number) => number>(
  "int64 recvmsg(int fd, void *message, int flags)",
);

/** A connected pair of sockets, inheritable. `seqpacket` keeps the bounds of messages, as a device does. */
export function socketPair(type: "stream" | "seqpacket" = "stream"): readonly [number, number] {
  const pair = new Int32Array(2);
  check("socketpair", cSocketpair(AF_UNIX, type === "stream" ? SOCK_STREAM : SOCK_SEQPACKET, 0, pair));
  return [pair[0] ?? -1, pair[1] ?? -1];
}

/** Waits for one message on `socket` and returns the descriptor that came with it, or null. */
export function receiveDescriptor(socket: number): number | null {
  const byte = new Uint8Array(8);
  const iovec = new BigUint64Array([addressOf(byte), 1n]);
  const control = new DataView(new ArrayBuffer(CONTROL_BYTES));
  const controlBytes = new Uint8Array(control.buffer);
  // struct msghdr: name, namelen, iov, iovlen, control, controllen, flags.
  const message = new BigUint64Array([
    0n,
    0n,
    addressOf(iovec),
    1n,
    addressOf(controlBytes),
    BigInt(CONTROL_BYTES),
    0n,
  ]);
  if (cRecvmsg(socket, new Uint8Array(message.buffer), 0) < 0) return null;
  const rights = control.getInt32(8, true) === SOL_SOCKET && control.getInt32(12, true) === SCM_RIGHTS;
  return rights && (message[5] ?? 0n) >= 20n ? control.getInt32(16, true) : null;
}

const cDup2 = declare<(from: number, to: number) => number>("int dup2(int from, int to)");

/** Descriptor `fd` leads to /dev/null from now on: whoever reads what it led to sees its end. */
export function redirectToNull(fd: number): void {
  const device = openSync("/dev/null", "w");
  check("dup2", cDup2(device, fd), `descriptor ${fd}`);
  closeSync(device);
}

const cDup3 = declare<(from: number, to: number, flags: number) => number>(
  "int dup3(int from, int to, int flags)",
);

/** Descriptor number `to` means what `from` means from now on, in one step for all threads. Throws a SyscallError. */
export function replaceDescriptor(from: number, to: number): void {
  check("dup3", cDup3(from, to, O_CLOEXEC), `descriptor ${to}`);
}

const LOCK_EX = 2;
const LOCK_NB = 4;
const cFlock = declare<(fd: number, operation: number) => number>("int flock(int fd, int operation)");

/**
 * Takes the lock of an open file (flock(2)) if it is free; false: somebody else has it. The kernel releases it when the
 * descriptor is closed. Throws a SyscallError: ENOLCK or EOPNOTSUPP where the file system has no locks.
 */
export function tryLock(fd: number): boolean {
  if (cFlock(fd, LOCK_EX | LOCK_NB) === 0) return true;
  if (lastErrno() === errnoNumber("EAGAIN")) return false;
  throw new SyscallError("flock", lastErrno());
}
