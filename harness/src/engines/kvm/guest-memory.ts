/** A guest_memfd as the window's memory: KVM's own, filled with a copy of the file, which the VMM has mapped as well. */
import { closeSync, openSync } from "node:fs";
import {
  files,
  fillWithCopies,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_NORESERVE,
  MAP_PRIVATE,
  MAP_SHARED,
  mmap,
  munmap,
  PROT_NONE,
  PROT_READ,
  PROT_WRITE,
  SyscallError,
} from "../../../../sys/src/index.ts";
import type { Machine } from "../../../../vmm/src/index.ts";

export class GuestMemory {
  readonly hva: bigint;
  readonly bytes: number;
  readonly #filePath: string;
  #fd: number | null = null;

  /** Keeps the addresses: a guest_memfd is made for a VM, and there is none yet. */
  constructor(bytes: number, filePath: string) {
    this.bytes = bytes;
    this.#filePath = filePath;
    this.hva = mmap({
      lengthBytes: bytes,
      prot: PROT_NONE,
      flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
    });
  }

  /** Before the VM first runs. Throws a SyscallError. */
  join(vm: Machine["vm"]): void {
    const slot = vm.memslots.find(({ hva }) => hva === this.hva);
    if (slot === undefined) throw new Error("no memslot at the window");
    this.#fd = vm.createGuestMemfd(this.bytes);
    this.map(0n, this.bytes, PROT_READ | PROT_WRITE);
    const source = openSync(this.#filePath, "r");
    try {
      // It has no write(2).
      fillWithCopies(this.hva, this.bytes, source);
    } finally {
      closeSync(source);
    }
    vm.moveToGuestMemfd(slot, this.#fd);
  }

  /** Has the VMM's own mapping show the memory there. Throws a SyscallError. */
  map(offset: bigint, lengthBytes: number, prot: number): void {
    mmap({
      address: this.hva + offset,
      lengthBytes,
      prot,
      flags: MAP_FIXED | MAP_SHARED,
      fd: this.#opened,
      fileOffset: offset,
    });
  }

  /** A hole is all that becomes of its pages: its size cannot be changed. Throws a SyscallError. */
  punch(offset: bigint, lengthBytes: bigint): void {
    const { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE } = files;
    const answer = files.fallocate(
      this.#opened,
      FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
      offset,
      lengthBytes,
    );
    if (answer < 0) throw new SyscallError("fallocate", -answer, `${lengthBytes} bytes at ${offset}`);
  }

  get #opened(): number {
    if (this.#fd === null) throw new Error("the guest_memfd has no VM yet");
    return this.#fd;
  }

  close(): void {
    munmap(this.hva, this.bytes);
    if (this.#fd !== null) closeSync(this.#fd);
  }
}
