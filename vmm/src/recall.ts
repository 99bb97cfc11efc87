/**
 * The window as the holder of a guarded file: takes away from the guest what a truncation is about to take, and maps again
 * what is left of the file when that is over.
 *
 * The barrier: PROT_NONE is mapped over the range (MAP_FIXED). Before mmap(2) returns, the kernel has taken the old
 * mapping away between invalidate_range_start and invalidate_range_end of the mmu notifiers, in which KVM zaps the range
 * and makes every vCPU leave the guest before it goes on (kvm_mmu_notifier_invalidate_range_start() ->
 * kvm_flush_remote_tlbs(), virt/kvm/kvm_main.c), and a fault that was under way sees the changed mmu_invalidate_seq and
 * starts again. So when `recall` returns no vCPU has a translation, or will get one. vmm/test/recall.test.ts tries.
 *
 * A guest's access meanwhile is an -EFAULT exit. The states of the pages are shared with the vCPUs' threads: a thread
 * that meets a recalled page waits until it is restored or lost, and only a lost page is an error for the guest.
 */
import type { MappingHolder, Threat } from "../../fs-server/src/index.ts";
import {
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_NORESERVE,
  MAP_PRIVATE,
  MAP_SHARED,
  mmap,
  PAGE_SIZE,
  PROT_NONE,
  PROT_READ,
  PROT_WRITE,
} from "../../sys/src/index.ts";

/** The state of a page of the window for the guest. */
export const pageState = { open: 0, recalled: 1, lost: 2 } as const;

/** How long a vCPU waits for a recalled page before the guest gets an error: then its other tasks go on, too. */
export const RECALL_PATIENCE_MS = 1000;
/** How soon a waiting vCPU notices that it is asked for. */
const LOOK_MS = 20;

/** Words before the pages' own: one that changes with every change, and the count of unannounced losses. */
const GENERATION = 0;
const UNANNOUNCED = 1;
const HEADER_WORDS = 2;

/** The states of a window's pages, one word each. */
export class PageStates {
  readonly buffer: SharedArrayBuffer;
  readonly #words: Int32Array;
  readonly #hva: bigint;

  /** @param hva of the window's first byte */
  constructor(hva: bigint, windowBytes: number | SharedArrayBuffer) {
    this.#hva = hva;
    this.buffer =
      typeof windowBytes === "number"
        ? new SharedArrayBuffer(4 * (HEADER_WORDS + Math.ceil(windowBytes / PAGE_SIZE)))
        : windowBytes;
    this.#words = new Int32Array(this.buffer);
  }

  #index(hva: bigint): number {
    return HEADER_WORDS + Number((hva - this.#hva) / BigInt(PAGE_SIZE));
  }

  /** Changes with every change of any page. */
  get generation(): number {
    return Atomics.load(this.#words, GENERATION);
  }

  of(hva: bigint): number {
    return Atomics.load(this.#words, this.#index(hva));
  }

  /** All pages from `hva` on that begin within `lengthBytes`. */
  set(hva: bigint, lengthBytes: number, state: number): void {
    const first = this.#index(hva);
    const count = Math.ceil(lengthBytes / PAGE_SIZE);
    // Before and after: a reader that looks while the pages are being written must see a change.
    Atomics.add(this.#words, GENERATION, 1);
    for (let i = 0; i < count; i += 1) Atomics.store(this.#words, first + i, state);
    Atomics.add(this.#words, GENERATION, 1);
    Atomics.notify(this.#words, GENERATION);
  }

  /** A vCPU met a lost page that no recall had announced: a VMM that stops there is lost. */
  recordUnannounced(): void {
    Atomics.add(this.#words, UNANNOUNCED, 1);
  }

  get unannounced(): number {
    return Atomics.load(this.#words, UNANNOUNCED);
  }

  /**
   * Waits, on a vCPU's thread, until the page is no longer recalled. Returns its state; still `recalled` if it took longer
   * than RECALL_PATIENCE_MS or `isWanted` returned true: the thread is wanted elsewhere.
   */
  await(hva: bigint, isWanted: () => boolean): number {
    const deadlineMs = performance.now() + RECALL_PATIENCE_MS;
    for (;;) {
      const { generation } = this;
      const state = this.of(hva);
      if (state !== pageState.recalled || isWanted() || performance.now() >= deadlineMs) return state;
      Atomics.wait(this.#words, GENERATION, generation, LOOK_MS);
    }
  }
}

export type HeldMapping = {
  readonly hva: bigint;
  readonly lengthBytes: number;
  readonly fileOffset: bigint;
  /** Mapped again from this one. Lent. */
  readonly fd: number;
  /** Of it, from its start, what is mapped now, in whole pages: all if left out. */
  readonly openBytes?: number;
};

/** Actions of the holder, for traces. */
export type HolderEvent = {
  readonly kind: "recalled" | "restored" | "cut-off";
  readonly hva: bigint;
  readonly lengthBytes: number;
  readonly detail: string;
};

export class WindowHolder implements MappingHolder {
  readonly #mapping: HeldMapping;
  readonly #states: PageStates;
  readonly #onEvent: (event: HolderEvent) => void;
  /** Bytes from the mapping's start that the guest can touch now, in whole pages. */
  #openBytes: number;

  constructor(mapping: HeldMapping, states: PageStates, onEvent: (event: HolderEvent) => void = () => {}) {
    this.#mapping = mapping;
    this.#states = states;
    this.#onEvent = onEvent;
    this.#openBytes = mapping.openBytes ?? mapping.lengthBytes;
  }

  recall({ fromBytes, by }: Threat): void {
    this.#close(this.#pagesBefore(fromBytes), pageState.recalled);
    this.#report("recalled", this.#openBytes, by);
  }

  settle(sizeBytes: bigint): void {
    const { hva, lengthBytes, fileOffset, fd } = this.#mapping;
    const end = this.#pagesBefore(sizeBytes);
    if (end > this.#openBytes) {
      mmap({
        address: hva + BigInt(this.#openBytes),
        lengthBytes: end - this.#openBytes,
        prot: PROT_READ | PROT_WRITE,
        flags: MAP_SHARED | MAP_FIXED,
        fd,
        fileOffset: fileOffset + BigInt(this.#openBytes),
      });
      this.#states.set(hva + BigInt(this.#openBytes), end - this.#openBytes, pageState.open);
      const from = this.#openBytes;
      this.#openBytes = end;
      this.#report("restored", from, `the file has ${sizeBytes} bytes`);
    }
    // Behind the end, but still mapped: a truncation that was not announced.
    if (end < this.#openBytes) this.#close(end, pageState.lost);
    this.#states.set(hva + BigInt(end), lengthBytes - end, pageState.lost);
  }

  /** No further truncation will be reported: nothing stays mapped. */
  cutOff(reason: string): void {
    this.#close(0, pageState.lost);
    this.#states.set(this.#mapping.hva, this.#mapping.lengthBytes, pageState.lost);
    this.#report("cut-off", 0, reason);
  }

  /** Bytes of the mapping in pages of the file that begin before `fileBytes`. */
  #pagesBefore(fileBytes: bigint): number {
    const page = BigInt(PAGE_SIZE);
    const reach = ((fileBytes + page - 1n) / page) * page - this.#mapping.fileOffset;
    if (reach <= 0n) return 0;
    return Math.min(Number(reach), this.#mapping.lengthBytes);
  }

  #close(fromBytes: number, state: number): void {
    if (fromBytes >= this.#openBytes) return;
    const address = this.#mapping.hva + BigInt(fromBytes);
    const lengthBytes = this.#openBytes - fromBytes;
    // State first: a vCPU that leaves the guest because of the next call finds the reason here.
    this.#states.set(address, lengthBytes, state);
    mmap({
      address,
      lengthBytes,
      prot: PROT_NONE,
      flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
    });
    this.#openBytes = fromBytes;
  }

  #report(kind: HolderEvent["kind"], fromBytes: number, detail: string): void {
    const { hva, lengthBytes } = this.#mapping;
    this.#onEvent({ kind, hva: hva + BigInt(fromBytes), lengthBytes: lengthBytes - fromBytes, detail });
  }
}
