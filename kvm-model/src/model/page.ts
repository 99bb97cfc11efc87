/** A page of the window: the file behind it, the host's mapping, the second level's mapping. A view; see `machine.ts`. */
import { Words } from "../state/words.ts";
import type { PageStart } from "./case.ts";
import type { Machine } from "./machine.ts";

/** Host VMA behind a page of the window. */
const vmas = ["file", "none", "anonymous", "poisoned"] as const;
export type Vma = (typeof vmas)[number];
const VMA = new Words(vmas);

/** Second-level mapping (EPT/NPT) of a page, or a pfn on its way there. `freed`: the file dropped the mapped page. */
const epts = ["none", "file", "freed", "anonymous"] as const;
export type Ept = (typeof epts)[number];
const EPT = new Words(epts);
export const eptWords: Words<Ept> = EPT;

/** Page cache. `failed`: read, with an error. */
const caches = ["absent", "resident", "failed"] as const;
export type Cache = (typeof caches)[number];
const CACHE = new Words(caches);

export class Page {
  readonly index: number;
  /** Its backing at the start. */
  readonly start: PageStart;
  readonly #m: Machine;
  readonly #cacheAt: number;
  readonly #zeroedAt: number;
  readonly #vmaAt: number;
  readonly #hostPteAt: number;
  readonly #eptAt: number;
  readonly #guestPoisonAt: number;
  readonly #badAt: number;

  constructor(m: Machine, index: number, start: PageStart) {
    this.index = index;
    this.start = start;
    this.#m = m;
    const at = m.context.offsets;
    this.#cacheAt = at.cache + index;
    this.#zeroedAt = at.zeroed + index;
    this.#vmaAt = at.vma + index;
    this.#hostPteAt = at.hostPte + index;
    this.#eptAt = at.ept + index;
    this.#guestPoisonAt = at.guestPoison + index;
    this.#badAt = at.bad + index;
  }

  get cache(): Cache {
    return CACHE.word(this.#m.bytes[this.#cacheAt] as number);
  }

  set cache(cache: Cache) {
    this.#m.bytes[this.#cacheAt] = CACHE.byte(cache);
  }

  /** Was it punched out, or cut off and grown again? Then it reads as zeros. */
  get isZeroed(): boolean {
    return this.#m.bytes[this.#zeroedAt] !== 0;
  }

  set isZeroed(isZeroed: boolean) {
    this.#m.bytes[this.#zeroedAt] = isZeroed ? 1 : 0;
  }

  get vma(): Vma {
    return VMA.word(this.#m.bytes[this.#vmaAt] as number);
  }

  set vma(vma: Vma) {
    this.#m.bytes[this.#vmaAt] = VMA.byte(vma);
  }

  /** Is it in the host's page tables? */
  get hasHostPte(): boolean {
    return this.#m.bytes[this.#hostPteAt] !== 0;
  }

  set hasHostPte(isPresent: boolean) {
    this.#m.bytes[this.#hostPteAt] = isPresent ? 1 : 0;
  }

  get ept(): Ept {
    return EPT.word(this.#m.bytes[this.#eptAt] as number);
  }

  set ept(ept: Ept) {
    this.#m.bytes[this.#eptAt] = EPT.byte(ept);
  }

  /** Has the guest's memory_failure() poisoned it for good? */
  get isGuestPoisoned(): boolean {
    return this.#m.bytes[this.#guestPoisonAt] !== 0;
  }

  set isGuestPoisoned(isPoisoned: boolean) {
    this.#m.bytes[this.#guestPoisonAt] = isPoisoned ? 1 : 0;
  }

  /** Has its memory an error that the CPU has not noticed yet? */
  get isBad(): boolean {
    return this.#m.hasMemoryErrors && this.#m.bytes[this.#badAt] !== 0;
  }

  set isBad(isBad: boolean) {
    if (!this.#m.hasMemoryErrors)
      throw new Error(`${this.#m.case.name}: a memory error in a case without one`);
    this.#m.bytes[this.#badAt] = isBad ? 1 : 0;
  }

  /** Is it in front of the end of the file? */
  get isInFile(): boolean {
    return this.index < this.#m.fileSize;
  }

  /** The result of get_user_pages() for it, where that succeeds. */
  get pfn(): Ept {
    return this.vma === "anonymous" ? "anonymous" : "file";
  }
}
