/**
 * Tables in shared memory: numbered slots, each with a descriptor, found by ids that are never used again.
 *
 * Descriptors belong to the process, so several threads serve one source over the same tables, and a thread has no state
 * of its own that another one lacks. Rules:
 *
 * - An id is a slot's number and its generation. The generation counts up when the slot is given up, so an old id finds
 *   nothing, and a slot whose generations are used up is not used again.
 * - Finding an id takes no lock: it counts a user into the slot's state, then compares the generation. A descriptor is
 *   closed by the last user of a slot that was given up, so its number never comes to mean another file under a system
 *   call of another thread. `Hand` keeps what an operation uses and gives it back.
 * - Everything else is changed under the table's lock, a futex (`Atomics.wait`) that is never held over a system call
 *   that can wait. A descriptor is closed after the lock is released.
 *
 * The state word: LIVE once the slot is filled, DOOMED when it was given up and has users left, CLOSING while its
 * descriptor alone is taken away, and the number of users. A finder may count itself into a slot that is free; it sees
 * that there is no LIVE and takes itself out again, so allocation sets bits and never stores the word.
 */
import { files } from "../../../sys/src/index.ts";

const LIVE = 1 << 30;
const DOOMED = 1 << 29;
const CLOSING = 1 << 28;

/** Words of each slot; what the table's owner adds begins at SLOT_WORDS. */
const GENERATION = 0;
const STATE = 1;
export const FD = 2;
const NEXT_FREE = 3;
export const SLOT_WORDS = 4;
export const NO_FD = -1;

/** Words of the table itself. */
const LOCK = 0;
const FIRST_FREE = 1;
/** The highest slot that was ever used. */
const HIGHEST = 2;
const COUNT = 3;
const TABLE_WORDS = 4;

const lockState = { free: 0, held: 1, contended: 2 } as const;
const MAX_GENERATION = 0xffff_ffff;

export type SlotLayout = {
  /** The most slots in use at once; ids count from 1. */
  readonly slots: number;
  /** All words of a slot, SLOT_WORDS among them. */
  readonly slotWords: number;
};

/** A futex in one word. */
export function lockWord(words: Int32Array, lock: number): void {
  if (Atomics.compareExchange(words, lock, lockState.free, lockState.held) === lockState.free) return;
  while (Atomics.exchange(words, lock, lockState.contended) !== lockState.free) {
    Atomics.wait(words, lock, lockState.contended);
  }
}

export function unlockWord(words: Int32Array, lock: number): void {
  if (Atomics.exchange(words, lock, lockState.free) === lockState.contended) Atomics.notify(words, lock, 1);
}

/** Slot and generation in one number: a power of two, so that slots of a first generation have their own numbers. */
export const spanOf = (slots: number): number => 2 ** Math.ceil(Math.log2(slots + 1));

/** The slot that `id` names in a table of so many slots, whether it has that generation or not; 0: none. */
export function slotOf(id: bigint, slots: number, span: number): number {
  const number = Number(id);
  const slot = number % span;
  return number <= Number.MAX_SAFE_INTEGER && slot <= slots ? slot : 0;
}

export class SlotTable {
  readonly words: Int32Array;
  readonly #at: number;
  readonly #layout: SlotLayout;
  readonly #span: number;

  /** @param at the first word of the table, of `wordsFor` zeros when it is new */
  constructor(words: Int32Array, at: number, layout: SlotLayout) {
    this.words = words;
    this.#at = at;
    this.#layout = layout;
    this.#span = spanOf(layout.slots);
  }

  static wordsFor({ slots, slotWords }: SlotLayout): number {
    return TABLE_WORDS + (slots + 1) * slotWords;
  }

  get count(): number {
    return Atomics.load(this.words, this.#at + COUNT);
  }

  get highest(): number {
    return Atomics.load(this.words, this.#at + HIGHEST);
  }

  /** The first word of a slot. */
  at(slot: number): number {
    return this.#at + TABLE_WORDS + slot * this.#layout.slotWords;
  }

  idOf(slot: number): bigint {
    return BigInt(((this.words[this.at(slot) + GENERATION] ?? 0) >>> 0) * this.#span + slot);
  }

  #slotOf(id: bigint): number {
    return slotOf(id, this.#layout.slots, this.#span);
  }

  /** The slot of `id`, with one more user; 0: there is none (any more). Takes no lock. */
  acquire(id: bigint): number {
    const slot = this.#slotOf(id);
    if (slot === 0) return 0;
    const generation = ((Number(id) - slot) / this.#span) | 0;
    const state = this.at(slot) + STATE;
    for (;;) {
      const before = Atomics.add(this.words, state, 1);
      const isRight = Atomics.load(this.words, state - STATE + GENERATION) === generation;
      if (isRight && (before & (LIVE | DOOMED | CLOSING)) === LIVE) return slot;
      this.release(slot);
      if (!isRight || (before & CLOSING) === 0) return 0;
      // Its descriptor is just being taken away, under the lock.
      this.lock();
      this.unlock();
    }
  }

  release(slot: number): void {
    const left = Atomics.sub(this.words, this.at(slot) + STATE, 1) - 1;
    if (left === (LIVE | DOOMED)) this.#free(slot);
  }

  lock(): void {
    lockWord(this.words, this.#at + LOCK);
  }

  unlock(): void {
    unlockWord(this.words, this.#at + LOCK);
  }

  /** A free slot, to be filled and then shown; 0: there is none. Under the lock. */
  take(): number {
    const { words } = this;
    const freed = words[this.#at + FIRST_FREE] ?? 0;
    if (freed !== 0) {
      words[this.#at + FIRST_FREE] = words[this.at(freed) + NEXT_FREE] ?? 0;
    } else if (this.highest >= this.#layout.slots) return 0;
    else Atomics.add(words, this.#at + HIGHEST, 1);
    Atomics.add(words, this.#at + COUNT, 1);
    return freed === 0 ? this.highest : freed;
  }

  /** From now on its id finds the slot. Returns the id. */
  show(slot: number): bigint {
    const id = this.idOf(slot);
    Atomics.or(this.words, this.at(slot) + STATE, LIVE);
    return id;
  }

  /**
   * Whether `id` names this table's slot. Under the lock, and so without counting a user: one that is counted out again may
   * be the last of a slot that was given up, which is freed under the lock.
   */
  find(id: bigint): number {
    const slot = this.#slotOf(id);
    return slot !== 0 && this.isLive(slot) && this.idOf(slot) === id ? slot : 0;
  }

  isLive(slot: number): boolean {
    return ((this.words[this.at(slot) + STATE] ?? 0) & (LIVE | DOOMED)) === LIVE;
  }

  /** Gives the slot up: no id finds it any more. Under the lock; call `settle` after it. */
  doom(slot: number): void {
    const at = this.at(slot);
    Atomics.add(this.words, at + GENERATION, 1);
    Atomics.sub(this.words, this.#at + COUNT, 1);
    Atomics.or(this.words, at + STATE, DOOMED);
  }

  /** Frees a slot that was given up, unless users are left: then the last one does. Without the lock. */
  settle(slot: number): void {
    if (Atomics.load(this.words, this.at(slot) + STATE) === (LIVE | DOOMED)) this.#free(slot);
  }

  /** Takes the descriptor of a slot that has no user. Returns it, or NO_FD. Under the lock. */
  takeDescriptor(slot: number): number {
    const at = this.at(slot);
    if (Atomics.compareExchange(this.words, at + STATE, LIVE, LIVE | CLOSING) !== LIVE) return NO_FD;
    const fd = Atomics.exchange(this.words, at + FD, NO_FD);
    Atomics.and(this.words, at + STATE, ~CLOSING);
    return fd;
  }

  #free(slot: number): void {
    const { words } = this;
    const at = this.at(slot);
    if (Atomics.compareExchange(words, at + STATE, LIVE | DOOMED, 0) !== (LIVE | DOOMED)) return;
    const fd = words[at + FD] ?? NO_FD;
    if (fd !== NO_FD) files.close(fd);
    words[at + FD] = NO_FD;
    if ((words[at + GENERATION] ?? 0) >>> 0 === MAX_GENERATION) return;
    this.lock();
    words[at + NEXT_FREE] = words[this.#at + FIRST_FREE] ?? 0;
    words[this.#at + FIRST_FREE] = slot;
    this.unlock();
  }
}

/** The slots that a thread's operation uses: the last two of a table that it asked for. */
export class Hand {
  readonly #table: SlotTable;
  #last = 0;
  #before = 0;

  constructor(table: SlotTable) {
    this.#table = table;
  }

  /** Takes over a user of `slot`; the last but one is given back. */
  take(slot: number): void {
    if (this.#before !== 0) this.#table.release(this.#before);
    this.#before = this.#last;
    this.#last = slot;
  }

  /** Gives both back, at the end of an operation or when one of them is given up. */
  empty(): void {
    const [last, before] = [this.#last, this.#before];
    this.#last = 0;
    this.#before = 0;
    if (last !== 0) this.#table.release(last);
    if (before !== 0) this.#table.release(before);
  }
}
