/**
 * All states seen so far: the packed states one after the other in chunks of one growing store, and an open-addressing
 * hash table (linear probing) of 8-byte slots, full hash and index, that points into it. Nothing is allocated per state.
 * A chunk is reserved at once, and the operating system gives it memory page by page as states are written (a store that
 * grew by copying spent a third of its time on that). Only the first chunk begins small and doubles: most searches of one
 * case end below a thousand states, and a whole chunk took longer to reserve and to clear than they take.
 *
 * Above the state itself a stored state costs 8 bytes / load factor (0.35 to 0.7: 11 to 23 bytes). Two states are equal
 * only if all their words are: no fingerprints, so no state is lost to a collision.
 */

const INITIAL_SLOTS = 1 << 13;
const MAX_LOAD = 0.7;
/** States in a chunk: 2 to the power of this. */
const CHUNK_BITS = 16;
const CHUNK_MASK = (1 << CHUNK_BITS) - 1;
/** States that the first chunk begins with. */
const FIRST_STATES = 1 << 9;

/** For the columns beside the states: they double while small, then grow by a quarter, to keep the slack small. */
export function grownCapacity(entries: number): number {
  return entries < 1 << 18 ? entries * 2 : entries + (entries >>> 2);
}

export class StateStore {
  readonly words: number;
  readonly #chunks: Int32Array[] = [];
  #slots: Int32Array = new Int32Array(INITIAL_SLOTS * 2);
  #slotMask: number = INITIAL_SLOTS - 1;
  #count = 0;
  /** States that there is room for. */
  #capacity = 0;

  constructor(stateBytes: number) {
    if (stateBytes % 4 !== 0) throw new RangeError(`a state is whole words, not ${stateBytes} bytes`);
    this.words = stateBytes / 4;
  }

  get count(): number {
    return this.#count;
  }

  /** Bytes of states and slots. Of the last chunk only what is written: the rest has no memory behind it yet. */
  get allocatedBytes(): number {
    return this.#count * this.words * 4 + this.#slots.byteLength;
  }

  /** Copies state `index` into `into` (a view of `words` words). */
  load(index: number, into: Int32Array): void {
    const chunk = this.#chunks[index >>> CHUNK_BITS] as Int32Array;
    const base = (index & CHUNK_MASK) * this.words;
    for (let word = 0; word < this.words; word++) into[word] = chunk[base + word] as number;
  }

  /** Index of `state` if it is stored, else -1 - (the index it was just given). */
  insert(state: Int32Array): number {
    const words = this.words;
    let hash = 0x2545f491;
    for (let word = 0; word < words; word++) {
      hash = Math.imul(hash ^ (state[word] as number), 0x5bd1e995);
      hash ^= hash >>> 15;
    }
    hash = Math.imul(hash ^ (hash >>> 13), 0x2c1b3c6d);
    hash ^= hash >>> 16;
    const slots = this.#slots;
    let slot = hash & this.#slotMask;
    for (;;) {
      const entry = slots[slot * 2 + 1] as number;
      if (entry === 0) break;
      if (slots[slot * 2] === hash) {
        const chunk = this.#chunks[(entry - 1) >>> CHUNK_BITS] as Int32Array;
        const base = ((entry - 1) & CHUNK_MASK) * words;
        let word = 0;
        while (word < words && chunk[base + word] === state[word]) word++;
        if (word === words) return entry - 1;
      }
      slot = (slot + 1) & this.#slotMask;
    }
    return this.#append(state, hash, slot);
  }

  #append(state: Int32Array, hash: number, slot: number): number {
    const index = this.#count;
    const words = this.words;
    if (index === this.#capacity) this.#reserve();
    const chunk = this.#chunks[index >>> CHUNK_BITS] as Int32Array;
    const base = (index & CHUNK_MASK) * words;
    for (let word = 0; word < words; word++) chunk[base + word] = state[word] as number;
    this.#slots[slot * 2] = hash;
    this.#slots[slot * 2 + 1] = index + 1;
    this.#count = index + 1;
    if (this.#count > (this.#slotMask + 1) * MAX_LOAD) this.#growSlots();
    return -1 - index;
  }

  #reserve(): void {
    const states = 1 << CHUNK_BITS;
    const [first] = this.#chunks;
    if (this.#capacity >= states) {
      this.#chunks.push(new Int32Array(this.words * states));
      this.#capacity += states;
      return;
    }
    this.#capacity = first === undefined ? FIRST_STATES : this.#capacity * 2;
    const larger = new Int32Array(this.words * this.#capacity);
    if (first !== undefined) larger.set(first);
    this.#chunks[0] = larger;
  }

  /** Full hashes are in the slots, so growing never reads the states. */
  #growSlots(): void {
    const old = this.#slots;
    const slots = new Int32Array(old.length * 2);
    const mask = slots.length / 2 - 1;
    for (let at = 0; at < old.length; at += 2) {
      const entry = old[at + 1] as number;
      if (entry === 0) continue;
      const hash = old[at] as number;
      let slot = hash & mask;
      while (slots[slot * 2 + 1] !== 0) slot = (slot + 1) & mask;
      slots[slot * 2] = hash;
      slots[slot * 2 + 1] = entry;
    }
    this.#slots = slots;
    this.#slotMask = mask;
  }
}
