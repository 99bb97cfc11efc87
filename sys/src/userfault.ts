/** userfaultfd(2): missing pages of this process's memory are a handler's to fill (Documentation/admin-guide/mm/userfaultfd.rst). */
import { closeSync, readSync } from "node:fs";
import { type Address, addressOf, check, declare, declareLater, SyscallError } from "./libc.ts";

const UFFD_API = 0xaan;
export const UFFD_FEATURE_POISON: bigint = 1n << 14n;
const UFFDIO_REGISTER_MODE_MISSING = 1n;
const O_CLOEXEC = 0o2000000;
const O_NONBLOCK = 0o4000;
/** Faults of user mode alone (Linux 5.11): what needs no privilege. */
const UFFD_USER_MODE_ONLY = 1;
const NR_USERFAULTFD = 323n;
const UFFD_EVENT_PAGEFAULT = 0x12;
/** struct uffd_msg: the event first, the fault's address behind its flags. */
const MESSAGE_BYTES = 32;
const ADDRESS_AT = 16;

/** _IOWR(0xaa, nr, size) */
const iowr = (nr: number, sizeBytes: number): bigint =>
  BigInt(3 * 2 ** 30 + sizeBytes * 2 ** 16 + 0xaa00 + nr);
const UFFDIO_API = iowr(0x3f, 24);
const UFFDIO_REGISTER = iowr(0x00, 32);
const UFFDIO_COPY = iowr(0x03, 40);
const UFFDIO_POISON = iowr(0x08, 32);

const cSyscall = declare<(number: bigint, flags: bigint) => number>("long syscall(long number, long flags)");
const cIoctl = declare<(fd: number, request: bigint, argument: BigUint64Array) => number>(
  "int ioctl(int fd, unsigned long request, void *argument)",
);
const cPoll = declareLater<[fds: Uint8Array, count: number, timeoutMs: number], number>(
  "int poll(void *fds, unsigned long count, int timeoutMs)",
);
const POLLIN = 1;

export type UserfaultOptions = { readonly features?: bigint; readonly userModeOnly?: boolean };

/** Opens one, not blocking. Throws a SyscallError: EPERM without CAP_SYS_PTRACE, EINVAL for features that the kernel has not. */
export function openUserfault({ features = 0n, userModeOnly = false }: UserfaultOptions = {}): number {
  const flags = O_CLOEXEC | O_NONBLOCK | (userModeOnly ? UFFD_USER_MODE_ONLY : 0);
  const fd = check("userfaultfd", Number(cSyscall(NR_USERFAULTFD, BigInt(flags))));
  try {
    check("UFFDIO_API", cIoctl(fd, UFFDIO_API, new BigUint64Array([UFFD_API, features, 0n])));
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  return fd;
}

/** Why there is none here, or null. */
export function userfaultRefusal(options: UserfaultOptions = {}): string | null {
  try {
    closeSync(openUserfault(options));
    return null;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** Has missing pages of the range handed over. Throws a SyscallError. */
export function registerMissing(fd: number, address: Address, lengthBytes: number): void {
  const range = [address, BigInt(lengthBytes), UFFDIO_REGISTER_MODE_MISSING, 0n];
  check("UFFDIO_REGISTER", cIoctl(fd, UFFDIO_REGISTER, new BigUint64Array(range)));
}

/** Fills missing pages with `bytes`, and wakes what waits for them. Throws a SyscallError: EEXIST for a page that is there. */
export function fillMissing(fd: number, address: Address, bytes: Uint8Array): void {
  const copy = [address, addressOf(bytes), BigInt(bytes.length), 0n, 0n];
  check("UFFDIO_COPY", cIoctl(fd, UFFDIO_COPY, new BigUint64Array(copy)));
}

/** Makes missing pages poisoned, and wakes what waits for them. Throws a SyscallError. */
export function poisonMissing(fd: number, address: Address, lengthBytes: number): void {
  const range = [address, BigInt(lengthBytes), 0n, 0n];
  check("UFFDIO_POISON", cIoctl(fd, UFFDIO_POISON, new BigUint64Array(range)));
}

/** The address of the next fault that is handed over; null: none so far. */
export function nextMissing(fd: number): Address | null {
  const message = Buffer.alloc(MESSAGE_BYTES);
  try {
    if (readSync(fd, message) !== MESSAGE_BYTES) return null;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EAGAIN") return null;
    throw error;
  }
  return message[0] === UFFD_EVENT_PAGEFAULT ? message.readBigUInt64LE(ADDRESS_AT) : null;
}

/** Waits until there is something to read, for so long at most. */
export async function awaitReadable(fd: number, timeoutMs: number): Promise<void> {
  // struct pollfd
  const waited = Buffer.alloc(8);
  waited.writeInt32LE(fd, 0);
  waited.writeInt16LE(POLLIN, 4);
  const { result, errno } = await cPoll(waited, 1, timeoutMs);
  if (result < 0) throw new SyscallError("poll", errno);
}
