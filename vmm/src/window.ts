/**
 * The DAX window as this VMM has it: a reserved range of its own address space behind one memslot.
 *
 * Files appear in it by mmap(MAP_FIXED) and go by mapping PROT_NONE over them: the range is never unmapped, so nothing
 * else can land in it, and the memslot never changes. KVM follows through its mmu notifier. The same as libkrun and
 * crosvm do it.
 */
import type { DaxWindow, WindowRange } from "../../fs-server/src/index.ts";
import {
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_NORESERVE,
  MAP_PRIVATE,
  MAP_SHARED,
  mmap,
  munmap,
  PAGE_SIZE,
  PROT_NONE,
  PROT_READ,
  PROT_WRITE,
} from "../../sys/src/index.ts";

/** The range that the Linux driver maps at once (FUSE_DAX_SHIFT, fs/fuse/dax.c), and the size of a huge page. */
const ALIGNMENT = 2n * 2n ** 20n;

export class MmapWindow implements DaxWindow {
  readonly sizeBytes: bigint;
  /** A page: a client may map as little. */
  readonly alignmentBytes: bigint = BigInt(PAGE_SIZE);
  readonly canMapPastEnd = true;
  readonly upgrades = "remap";
  /** Host virtual address of the first byte, 2 MiB aligned. */
  readonly hva: bigint;
  readonly #reserved: { readonly address: bigint; readonly lengthBytes: number };

  /** @param sizeBytes a multiple of 2 MiB */
  constructor(sizeBytes: bigint) {
    if (sizeBytes <= 0n || sizeBytes % ALIGNMENT !== 0n) {
      throw new RangeError(`window of ${sizeBytes} bytes: expected a positive multiple of ${ALIGNMENT}`);
    }
    this.sizeBytes = sizeBytes;
    const lengthBytes = Number(sizeBytes + ALIGNMENT);
    const address = mmap({
      lengthBytes,
      prot: PROT_NONE,
      flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
    });
    this.#reserved = { address, lengthBytes };
    this.hva = ((address + ALIGNMENT - 1n) / ALIGNMENT) * ALIGNMENT;
  }

  map(range: WindowRange, fd: number, fileOffset: bigint, options: { readonly writable: boolean }): void {
    mmap({
      address: this.hva + range.offsetBytes,
      lengthBytes: Number(range.lengthBytes),
      prot: PROT_READ | (options.writable ? PROT_WRITE : 0),
      flags: MAP_SHARED | MAP_FIXED,
      fd,
      fileOffset,
    });
  }

  unmap(range: WindowRange): void {
    mmap({
      address: this.hva + range.offsetBytes,
      lengthBytes: Number(range.lengthBytes),
      prot: PROT_NONE,
      flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
    });
  }

  /** Gives the address range back. The VM must be gone. */
  close(): void {
    munmap(this.#reserved.address, this.#reserved.lengthBytes);
  }
}
