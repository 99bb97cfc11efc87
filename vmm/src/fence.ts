/**
 * The fence: watches the file behind the window and makes what lies behind its end PROT_NONE.
 *
 * A look-up in a PROT_NONE mapping fails before KVM's asynchronous path is tried (vma_is_valid(), virt/kvm/kvm_main.c), so
 * a vCPU that spins on a truncated page gets its -EFAULT exit, in-kernel APIC or not. Nothing is unmapped: when the file
 * grows again the pages come back. After the fact, hence with a window between truncation and fence; see the bench.
 */
import { closeSync, type FSWatcher, fstatSync, openSync, watch } from "node:fs";
import { mprotect, PAGE_SIZE, PROT_NONE, PROT_READ, PROT_WRITE } from "../../sys/src/index.ts";

export type FencedMapping = {
  readonly hva: bigint;
  readonly fileOffset: bigint;
  readonly lengthBytes: bigint;
  /** false: the file was opened for reading, and cannot be mapped otherwise. */
  readonly writable?: boolean;
};

export type FenceEvent = {
  readonly kind: "fence" | "unfence";
  /** First page of the mapping that changed, and how many bytes from there on. */
  readonly hva: bigint;
  readonly lengthBytes: bigint;
};

export class Fence {
  readonly #fd: number;
  readonly #watcher: FSWatcher;
  readonly #mappings: readonly FencedMapping[];
  readonly #onEvent: (event: FenceEvent) => void;
  /** By mapping: bytes from its start that the guest may touch. */
  readonly #open: bigint[];

  /** @param path the file behind all `mappings`; the inode is watched, not the name */
  constructor(path: string, mappings: readonly FencedMapping[], onEvent: (event: FenceEvent) => void) {
    this.#mappings = mappings;
    this.#open = mappings.map(({ lengthBytes }) => lengthBytes);
    this.#onEvent = onEvent;
    this.#fd = openSync(path, "r");
    this.#watcher = watch(path, () => this.#look());
    // A truncation from before the watch gives no event.
    this.#look();
  }

  /** Compares the file's size with what is open, and closes or opens the difference. */
  #look(): void {
    const size = BigInt(fstatSync(this.#fd).size);
    const page = BigInt(PAGE_SIZE);
    const endOfPages = ((size + page - 1n) / page) * page;
    for (const [index, { hva, fileOffset, lengthBytes, writable = true }] of this.#mappings.entries()) {
      const before = this.#open[index] ?? 0n;
      const reach = endOfPages - fileOffset;
      const after = reach < 0n ? 0n : reach > lengthBytes ? lengthBytes : reach;
      if (after === before) continue;
      const [from, to] = after < before ? [after, before] : [before, after];
      const open = PROT_READ | (writable ? PROT_WRITE : 0);
      mprotect(hva + from, Number(to - from), after < before ? PROT_NONE : open);
      this.#open[index] = after;
      const kind = after < before ? "fence" : "unfence";
      this.#onEvent({ kind, hva: hva + from, lengthBytes: to - from });
    }
  }

  close(): void {
    this.#watcher.close();
    closeSync(this.#fd);
  }
}
