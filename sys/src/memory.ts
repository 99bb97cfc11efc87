/**
 * Memory mappings of this process: mmap(2) and its relatives.
 *
 * Touching a `Mapping.bytes` whose page cannot be faulted in (a truncated file) kills the process with SIGBUS:
 * no try/catch helps; a child process does.
 */
import { closeSync, openSync, readSync, writeFileSync } from "node:fs";
import { type Address, addressOf, check, declare, viewOf } from "./libc.ts";

export const PROT_NONE = 0;
export const PROT_READ = 1;
export const PROT_WRITE = 2;
export const PROT_EXEC = 4;
export const MAP_SHARED = 0x01;
export const MAP_PRIVATE = 0x02;
export const MAP_FIXED = 0x10;
export const MAP_ANONYMOUS = 0x20;
export const MAP_NORESERVE = 0x4000;

const MAP_FAILED = 2n ** 64n - 1n;

/** Page size of x86-64: the base page, which KVM, FUSE and mmap count in. */
export const PAGE_SIZE = 4096;

const cMmap = declare<
  (address: Address, length: bigint, prot: number, flags: number, fd: number, offset: bigint) => bigint
>("uint64 mmap(uint64 address, uint64 length, int prot, int flags, int fd, int64 offset)");
const cMunmap = declare<(address: Address, length: bigint) => number>(
  "int munmap(uint64 address, uint64 length)",
);
const cMprotect = declare<(address: Address, length: bigint, prot: number) => number>(
  "int mprotect(uint64 address, uint64 length, int prot)",
);
const cMadvise = declare<(address: Address, length: bigint, advice: number) => number>(
  "int madvise(uint64 address, uint64 length, int advice)",
);
/** Linux 5.14 (asm-generic/mman-common.h): faults the page in, or fails instead of sending SIGBUS. */
const MADV_POPULATE = { read: 22, write: 23 } as const;

/** Can this page be read, or written, without SIGBUS or SIGSEGV? Faults it in if so. */
export function isPageThere(address: Address, access: keyof typeof MADV_POPULATE): boolean {
  return cMadvise(address, BigInt(PAGE_SIZE), MADV_POPULATE[access]) === 0;
}

/** Faults all of it in, for writing. Throws a SyscallError where a page cannot be had. */
export function populate(address: Address, lengthBytes: number): void {
  check("madvise", cMadvise(address, BigInt(lengthBytes), MADV_POPULATE.write), "MADV_POPULATE_WRITE");
}

const MADV_DONTNEED = 4;

/** MADV_DONTNEED: private memory is as it was when it was mapped. Throws a SyscallError. */
export function adviseDiscard(address: Address, lengthBytes: number): void {
  check("madvise", cMadvise(address, BigInt(lengthBytes), MADV_DONTNEED), "MADV_DONTNEED");
}

/** Linux with CONFIG_MEMORY_FAILURE and CONFIG_MEMORY_HOTPLUG has it. */
export const HARD_OFFLINE_PAGE = "/sys/devices/system/memory/hard_offline_page";
/** An entry of /proc/self/pagemap (Documentation/admin-guide/mm/pagemap.rst). */
const PAGEMAP_PRESENT = 1n << 63n;
const PAGEMAP_FRAME = (1n << 55n) - 1n;

/** KPF_HWPOISON (include/uapi/linux/kernel-page-flags.h). */
const POISONED = 1n << 19n;

/** A word of a file that has one of each page. */
function pageWord(path: string, page: bigint): bigint {
  const entry = new BigUint64Array(1);
  const fd = openSync(path, "r");
  try {
    readSync(fd, entry, 0, 8, page * 8n);
  } finally {
    closeSync(fd);
  }
  return entry[0] ?? 0n;
}

/** The page frame behind the address. Throws a SyscallError, or an Error where there is none, or none is shown. */
function pageFrame(address: Address): bigint {
  const found = pageWord("/proc/self/pagemap", BigInt(address) / BigInt(PAGE_SIZE));
  const at = `0x${BigInt(address).toString(16)}`;
  if ((found & PAGEMAP_PRESENT) === 0n) throw new Error(`no page is mapped at ${at}`);
  const frame = found & PAGEMAP_FRAME;
  if (frame === 0n) throw new Error(`/proc/self/pagemap hides the frame at ${at}: CAP_SYS_ADMIN is missing`);
  return frame;
}

/**
 * memory_failure() takes the page out of use, for good, as where the patrol scrubber finds an error that nobody has
 * consumed. Not MADV_HWPOISON: that is an error which the caller consumes, and SIGBUS cannot be blocked (force_sig_mceerr()).
 * EBUSY, and the page is poisoned: nobody has recovered from it. So it is of each page of a guest_memfd, which is taken from
 * the guests and stays in its file (kvm_gmem_error_folio()). Only on a machine of one's own. Needs CAP_SYS_ADMIN.
 */
export function failMemory(address: Address): void {
  const frame = pageFrame(address);
  try {
    writeFileSync(HARD_OFFLINE_PAGE, `0x${(frame * BigInt(PAGE_SIZE)).toString(16)}`);
  } catch (error) {
    const isPoisoned = (pageWord("/proc/kpageflags", frame) & POISONED) !== 0n;
    if ((error as NodeJS.ErrnoException).code !== "EBUSY" || !isPoisoned) throw error;
  }
}

const cMemcpy = declare<(to: Address, from: Address, length: bigint) => bigint>(
  "uint64 memcpy(uint64 to, uint64 from, uint64 length)",
);

/** memcpy(3) from memory that may not be there: SIGBUS or SIGSEGV kill this process then. `copyFrom` returns an error. */
export function copyOut(address: Address, lengthBytes: number): Uint8Array {
  const bytes = new Uint8Array(lengthBytes);
  cMemcpy(addressOf(bytes), address, BigInt(lengthBytes));
  return bytes;
}

/** The same, to it. */
export function copyIn(address: Address, bytes: Uint8Array): void {
  cMemcpy(address, addressOf(bytes), BigInt(bytes.length));
}

export type MmapOptions = {
  /** 0n: the kernel chooses. */
  readonly address?: Address;
  readonly lengthBytes: number;
  readonly prot: number;
  readonly flags: number;
  /** -1 with MAP_ANONYMOUS. */
  readonly fd?: number;
  readonly fileOffset?: bigint;
};

/** mmap(2). Throws a SyscallError. */
export function mmap(options: MmapOptions): Address {
  const { address = 0n, lengthBytes, prot, flags, fd = -1, fileOffset = 0n } = options;
  const result = cMmap(address, BigInt(lengthBytes), prot, flags, fd, fileOffset);
  // The result comes as an unsigned number or bigint; MAP_FAILED is all ones.
  const mapped = BigInt.asUintN(64, BigInt(result));
  if (mapped === MAP_FAILED) check("mmap", -1, `${lengthBytes} bytes of fd ${fd} at offset ${fileOffset}`);
  return mapped;
}

/** munmap(2). Throws a SyscallError. */
export function munmap(address: Address, lengthBytes: number): void {
  check("munmap", cMunmap(address, BigInt(lengthBytes)));
}

/** mprotect(2). Throws a SyscallError. */
export function mprotect(address: Address, lengthBytes: number, prot: number): void {
  check("mprotect", cMprotect(address, BigInt(lengthBytes), prot));
}

/** Anonymous shared memory, zero-filled, released by `free`. */
export type Mapping = {
  readonly address: Address;
  readonly bytes: Uint8Array;
  free(): void;
};

/** Maps `lengthBytes` of fresh memory. */
export function mapAnonymous(lengthBytes: number): Mapping {
  const address = mmap({
    lengthBytes,
    prot: PROT_READ | PROT_WRITE,
    flags: MAP_SHARED | MAP_ANONYMOUS,
  });
  return { address, bytes: viewOf(address, lengthBytes), free: () => munmap(address, lengthBytes) };
}
