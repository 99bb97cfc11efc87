/** A page of the window: the file behind it, the host's mapping, the second level's mapping. A view; see `machine.ts`. */
import type { PageStart } from "./case.ts";
import { CACHE, type Cache, EPT, type Ept, type Offsets, VMA, type Vma } from "./fields.ts";
import type { Machine } from "./machine.ts";

export class Page {
  readonly index: number;
  /** What lies behind it at the start. */
  readonly start: PageStart;
  readonly #m: Machine;
  readonly #at: Offsets;

  constructor(m: Machine, index: number, start: PageStart) {
    this.index = index;
    this.start = start;
    this.#m = m;
    this.#at = m.context.offsets;
  }

  get cache(): Cache {
    return CACHE.word(this.#m.bytes[this.#at.cache + this.index] as number);
  }

  set cache(cache: Cache) {
    this.#m.bytes[this.#at.cache + this.index] = CACHE.byte(cache);
  }

  /** Was it punched out, or cut off and grown again? Then it reads as zeros. */
  get isZeroed(): boolean {
    return this.#m.bytes[this.#at.zeroed + this.index] !== 0;
  }

  set isZeroed(isZeroed: boolean) {
    this.#m.bytes[this.#at.zeroed + this.index] = isZeroed ? 1 : 0;
  }

  get vma(): Vma {
    return VMA.word(this.#m.bytes[this.#at.vma + this.index] as number);
  }

  set vma(vma: Vma) {
    this.#m.bytes[this.#at.vma + this.index] = VMA.byte(vma);
  }

  /** Is it in the host's page tables? */
  get hasHostPte(): boolean {
    return this.#m.bytes[this.#at.hostPte + this.index] !== 0;
  }

  set hasHostPte(isPresent: boolean) {
    this.#m.bytes[this.#at.hostPte + this.index] = isPresent ? 1 : 0;
  }

  get ept(): Ept {
    return EPT.word(this.#m.bytes[this.#at.ept + this.index] as number);
  }

  set ept(ept: Ept) {
    this.#m.bytes[this.#at.ept + this.index] = EPT.byte(ept);
  }

  /** Has the guest's memory_failure() poisoned it for good? */
  get isGuestPoisoned(): boolean {
    return this.#m.bytes[this.#at.guestPoison + this.index] !== 0;
  }

  set isGuestPoisoned(isPoisoned: boolean) {
    this.#m.bytes[this.#at.guestPoison + this.index] = isPoisoned ? 1 : 0;
  }

  /** Is it in front of the end of the file? */
  get isInFile(): boolean {
    return this.index < this.#m.fileSize;
  }

  /** What get_user_pages() returns for it, where that succeeds. */
  get pfn(): Ept {
    return this.vma === "anonymous" ? "anonymous" : "file";
  }
}
