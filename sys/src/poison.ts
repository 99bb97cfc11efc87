/**
 * Poisoned pages without broken hardware: UFFDIO_POISON (Linux 6.6, Documentation/admin-guide/mm/userfaultfd.rst).
 * A page so marked answers every look-up with -EHWPOISON, as memory does whose error has been found.
 */
import { closeSync } from "node:fs";
import { type Address, check, declare } from "./libc.ts";
import { MAP_ANONYMOUS, MAP_PRIVATE, mmap, munmap, PAGE_SIZE, PROT_READ, PROT_WRITE } from "./memory.ts";

const UFFD_API = 0xaan;
const UFFD_FEATURE_POISON = 1n << 14n;
const UFFDIO_REGISTER_MODE_MISSING = 1n;
const O_CLOEXEC = 0o2000000;
const NR_USERFAULTFD = 323n;

/** _IOWR(0xaa, nr, size) */
const iowr = (nr: number, sizeBytes: number): bigint =>
  BigInt(3 * 2 ** 30 + sizeBytes * 2 ** 16 + 0xaa00 + nr);
const UFFDIO_API = iowr(0x3f, 24);
const UFFDIO_REGISTER = iowr(0x00, 32);
const UFFDIO_POISON = iowr(0x08, 32);

const cSyscall = declare<(number: bigint, flags: bigint) => number>("long syscall(long number, long flags)");
const cIoctl = declare<(fd: number, request: bigint, argument: BigUint64Array) => number>(
  "int ioctl(int fd, unsigned long request, void *argument)",
);

/** Open as long as the process lives: closing it would take the registrations back. */
let userfaultFd: number | null = null;

function openUserfault(): number {
  const fd = check("userfaultfd", Number(cSyscall(NR_USERFAULTFD, BigInt(O_CLOEXEC))));
  const api = new BigUint64Array([UFFD_API, UFFD_FEATURE_POISON, 0n]);
  try {
    check("UFFDIO_API with UFFD_FEATURE_POISON", cIoctl(fd, UFFDIO_API, api));
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  return fd;
}

/** Whether pages can be poisoned here: null, or the reason (no such feature, not permitted). */
export function poisonRefusal(): string | null {
  try {
    userfaultFd ??= openUserfault();
    return null;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

const cMremap = declare<
  (from: Address, oldLength: bigint, newLength: bigint, flags: number, to: Address) => bigint
>("uint64 mremap(uint64 from, uint64 oldLength, uint64 newLength, int flags, uint64 to)");
const MREMAP_MAYMOVE_FIXED = 3;
const MREMAP_FAILED = 2n ** 64n - 1n;

/**
 * Replaces what is mapped at `address` by a poisoned page. The page is made elsewhere and moved there in one step, so that no
 * access sees the zeros of an anonymous page that is not poisoned yet. Throws a SyscallError.
 */
export function mapPoisonedPage(address: Address): void {
  const staging = mmap({
    lengthBytes: PAGE_SIZE,
    prot: PROT_READ | PROT_WRITE,
    flags: MAP_PRIVATE | MAP_ANONYMOUS,
  });
  const length = BigInt(PAGE_SIZE);
  try {
    poisonPage(staging);
    const moved = BigInt(cMremap(staging, length, length, MREMAP_MAYMOVE_FIXED, address));
    if (BigInt.asUintN(64, moved) === MREMAP_FAILED) check("mremap", -1);
  } catch (error) {
    munmap(staging, PAGE_SIZE);
    throw error;
  }
}

/** Poisons one page of anonymous memory that has not been touched yet. Throws a SyscallError. */
function poisonPage(address: Address): void {
  userfaultFd ??= openUserfault();
  const length = BigInt(PAGE_SIZE);
  const range = [address, length, UFFDIO_REGISTER_MODE_MISSING, 0n];
  check("UFFDIO_REGISTER", cIoctl(userfaultFd, UFFDIO_REGISTER, new BigUint64Array(range)));
  check("UFFDIO_POISON", cIoctl(userfaultFd, UFFDIO_POISON, new BigUint64Array([address, length, 0n, 0n])));
}
