/**
 * Poisoned pages without broken hardware: UFFDIO_POISON (Linux 6.6, Documentation/admin-guide/mm/userfaultfd.rst).
 * A page so marked answers every look-up with -EHWPOISON, as memory does whose error has been found.
 */
import { type Address, check, declare } from "./libc.ts";
import { MAP_ANONYMOUS, MAP_PRIVATE, mmap, munmap, PAGE_SIZE, PROT_READ, PROT_WRITE } from "./memory.ts";
import { openUserfault, poisonMissing, registerMissing, UFFD_FEATURE_POISON } from "./userfault.ts";

/** Open as long as the process lives: closing it would take the registrations back. */
let userfaultFd: number | null = null;

const openForPoison = (): number => openUserfault({ features: UFFD_FEATURE_POISON });

/** Whether pages can be poisoned here: null, or the reason (no such feature, not permitted). */
export function poisonRefusal(): string | null {
  try {
    userfaultFd ??= openForPoison();
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
  userfaultFd ??= openForPoison();
  registerMissing(userfaultFd, address, PAGE_SIZE);
  poisonMissing(userfaultFd, address, PAGE_SIZE);
}
