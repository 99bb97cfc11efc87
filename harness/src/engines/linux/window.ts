/**
 * Memory of a Linux guest in which files are mapped: a DAX window, whose ranges the guest's driver maps and removes as the
 * file is touched, or an NVDIMM, which the VMM fills (nvdimm.ts). What watches the file for the case follows: the fence, or
 * a guard by whose recalls ranges are taken away.
 */
import { fstatSync } from "node:fs";
import type { MappingHolder, Threat, WindowRange } from "../../../../fs-server/src/index.ts";
import {
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_PRIVATE,
  mmap,
  PAGE_SIZE,
  PROT_READ,
  PROT_WRITE,
} from "../../../../sys/src/index.ts";
import {
  Fence,
  type FencedMapping,
  type FenceEvent,
  type HolderEvent,
  MmapWindow,
  PageStates,
  pageState,
  WindowHolder,
} from "../../../../vmm/src/index.ts";

/** A range of the window that the guest's driver has mapped: another object each time. */
export type MappedRange = FencedMapping & {
  /** From its start, what could be touched when it was mapped. */
  readonly openBytes: bigint;
};

/** Follows what is mapped in the window, for one case. */
export interface WindowWatch {
  /** How many bytes of a range, from its start, the guest may touch from the moment it is mapped. */
  reach(range: Pick<FencedMapping, "fileOffset" | "lengthBytes">): bigint;
  /** All of it, whenever it has changed. */
  mapped(mappings: readonly MappedRange[]): void;
  close(): void;
}

export class GuestWindow extends MmapWindow {
  readonly states: PageStates;
  readonly #mappings = new Map<bigint, MappedRange>();
  #watch: WindowWatch | null = null;

  constructor(sizeBytes: bigint) {
    super(sizeBytes);
    this.states = new PageStates(this.hva, Number(sizeBytes));
  }

  override map(
    range: WindowRange,
    fd: number,
    fileOffset: bigint,
    options: { readonly writable: boolean },
  ): void {
    const { offsetBytes, lengthBytes } = range;
    const hva = this.hva + offsetBytes;
    const reach = this.#watch?.reach({ fileOffset, lengthBytes }) ?? lengthBytes;
    // What a guard holds back is not there for a moment: the guest may have the range already, and ask for it for writing.
    const beyond = { ...range, offsetBytes: offsetBytes + reach, lengthBytes: lengthBytes - reach };
    if (beyond.lengthBytes > 0n) {
      this.states.set(hva + reach, Number(beyond.lengthBytes), pageState.recalled);
      super.unmap(beyond);
    }
    if (reach > 0n) {
      this.states.set(hva, Number(reach), pageState.open);
      super.map({ ...range, lengthBytes: reach }, fd, fileOffset, options);
    }
    const { writable } = options;
    this.#mappings.set(offsetBytes, { hva, fileOffset, lengthBytes, writable, openBytes: reach });
    this.#watch?.mapped([...this.#mappings.values()]);
  }

  override unmap(range: WindowRange): void {
    super.unmap(range);
    if (this.#mappings.delete(range.offsetBytes)) this.#watch?.mapped([...this.#mappings.values()]);
  }

  /** Where the byte at this offset of the file is; null: the guest's driver has it not in the window. */
  hvaOf(fileOffset: bigint): bigint | null {
    for (const mapping of this.#mappings.values()) {
      const into = fileOffset - mapping.fileOffset;
      if (into >= 0n && into < mapping.lengthBytes) return mapping.hva + into;
    }
    return null;
  }

  watchBy(watch: WindowWatch): void {
    this.#watch = watch;
    watch.mapped([...this.#mappings.values()]);
  }

  /** Nothing follows any more, and nothing is recalled. */
  unwatch(): void {
    this.#watch?.close();
    this.#watch = null;
    this.states.set(this.hva, Number(this.sizeBytes), pageState.open);
  }

  /** Every access from an offset on succeeds from now on, whatever was lost: for a guest whose case is over. */
  replaceByZeros(offsetBytes: bigint): void {
    mmap({
      address: this.hva + offsetBytes,
      lengthBytes: Number(this.sizeBytes - offsetBytes),
      prot: PROT_READ | PROT_WRITE,
      flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
    });
  }
}

/** What lies behind the file's end is PROT_NONE, wherever the guest has it mapped. */
export class FenceWatch implements WindowWatch {
  readonly #path: string;
  readonly #onEvent: (event: FenceEvent) => void;
  #fence: Fence | null = null;

  constructor(path: string, onEvent: (event: FenceEvent) => void) {
    this.#path = path;
    this.#onEvent = onEvent;
  }

  /** Whatever it is: a fence comes after the fact. */
  reach({ lengthBytes }: Pick<FencedMapping, "lengthBytes">): bigint {
    return lengthBytes;
  }

  mapped(mappings: readonly FencedMapping[]): void {
    this.close();
    // A truncation between the two is seen by the new one when it begins.
    this.#fence = new Fence(this.#path, mappings, this.#onEvent);
  }

  close(): void {
    this.#fence?.close();
    this.#fence = null;
  }
}

/** What a guard holds, wherever the guest has it mapped: also what it maps while a truncation is under way. */
export class GuardWatch implements WindowWatch, MappingHolder {
  readonly #window: GuestWindow;
  readonly #fd: number;
  readonly #onEvent: (event: HolderEvent) => void;
  /** A range that is still mapped keeps its own: only that knows what of it is open. */
  #holders: ReadonlyMap<MappedRange, WindowHolder> = new Map();
  /** Of the truncation that is under way. */
  #threat: Threat | null = null;
  #cutOff: string | null = null;

  /** @param fd of the guarded file, from which ranges are mapped again */
  constructor(window: GuestWindow, fd: number, onEvent: (event: HolderEvent) => void) {
    this.#window = window;
    this.#fd = fd;
    this.#onEvent = onEvent;
  }

  reach({ fileOffset, lengthBytes }: Pick<FencedMapping, "fileOffset" | "lengthBytes">): bigint {
    if (this.#cutOff !== null) return 0n;
    const end = this.#threat?.fromBytes ?? BigInt(fstatSync(this.#fd).size);
    const page = BigInt(PAGE_SIZE);
    const bytes = ((end + page - 1n) / page) * page - fileOffset;
    return bytes < 0n ? 0n : bytes > lengthBytes ? lengthBytes : bytes;
  }

  mapped(mappings: readonly MappedRange[]): void {
    this.#holders = new Map(
      mappings.map((mapping) => [mapping, this.#holders.get(mapping) ?? this.#hold(mapping)]),
    );
  }

  #hold({ hva, lengthBytes, fileOffset, openBytes }: MappedRange): WindowHolder {
    const fd = this.#fd;
    const held = { hva, lengthBytes: Number(lengthBytes), fileOffset, fd, openBytes: Number(openBytes) };
    const holder = new WindowHolder(held, this.#window.states, this.#onEvent);
    if (this.#cutOff !== null) holder.cutOff(this.#cutOff);
    else if (this.#threat !== null) holder.recall(this.#threat);
    // It may have grown since the range was mapped.
    else holder.settle(BigInt(fstatSync(fd).size));
    return holder;
  }

  recall(threat: Threat): void {
    this.#threat = threat;
    for (const holder of this.#holders.values()) holder.recall(threat);
  }

  settle(sizeBytes: bigint): void {
    this.#threat = null;
    for (const holder of this.#holders.values()) holder.settle(sizeBytes);
  }

  cutOff(reason: string): void {
    this.#cutOff = reason;
    for (const holder of this.#holders.values()) holder.cutOff(reason);
  }

  close(): void {
    this.#holders = new Map();
  }
}
