/**
 * All states seen so far: the packed states one after the other in a growing ArrayBuffer, and an open-addressing hash
 * table (linear probing) of 8-byte slots, full hash and index, that points into it. Nothing is allocated per state.
 *
 * Above the state itself a stored state costs 8 bytes / load factor (0.35 to 0.7: 11 to 23 bytes), and the slack of the
 * growing buffer (at most a quarter once it is large). Two states are equal only if all their words are: no
 * fingerprints, so no state is lost to a collision.
 */

const INITIAL_STATES = 1 << 12;
const MAX_LOAD = 0.7;
/** Below this many states buffers double; above it they grow by a quarter, to keep the slack small. */
const DOUBLE_BELOW_STATES = 1 << 18;

export function grownCapacity(states: number): number {
  return states < DOUBLE_BELOW_STATES ? states * 2 : states + (states >>> 2);
}

export class StateStore {
  readonly words: number;
  #capacity = INITIAL_STATES;
  #states: Int32Array;
  #slots: Int32Array;
  #slotMask: number;
  #count = 0;

  constructor(stateBytes: number) {
    if (stateBytes % 4 !== 0) throw new RangeError(`a state is whole words, not ${stateBytes} bytes`);
    this.words = stateBytes / 4;
    this.#states = new Int32Array(this.#capacity * this.words);
    const slots = INITIAL_STATES * 2;
    this.#slots = new Int32Array(slots * 2);
    this.#slotMask = slots - 1;
  }

  get count(): number {
    return this.#count;
  }

  /** Bytes of all buffers, slack included. */
  get allocatedBytes(): number {
    return this.#states.byteLength + this.#slots.byteLength;
  }

  /** Copies state `index` into `into` (a view of `words` words). */
  load(index: number, into: Int32Array): void {
    const base = index * this.words;
    for (let word = 0; word < this.words; word++) into[word] = this.#states[base + word] as number;
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
    const states = this.#states;
    let slot = hash & this.#slotMask;
    for (;;) {
      const entry = slots[slot * 2 + 1] as number;
      if (entry === 0) break;
      if (slots[slot * 2] === hash) {
        const base = (entry - 1) * words;
        let word = 0;
        while (word < words && states[base + word] === state[word]) word++;
        if (word === words) return entry - 1;
      }
      slot = (slot + 1) & this.#slotMask;
    }
    return this.#append(state, hash, slot);
  }

  #append(state: Int32Array, hash: number, slot: number): number {
    const index = this.#count;
    if (index === this.#capacity) {
      this.#capacity = grownCapacity(this.#capacity);
      const grown = new Int32Array(this.#capacity * this.words);
      grown.set(this.#states);
      this.#states = grown;
    }
    const base = index * this.words;
    for (let word = 0; word < this.words; word++) this.#states[base + word] = state[word] as number;
    this.#slots[slot * 2] = hash;
    this.#slots[slot * 2 + 1] = index + 1;
    this.#count = index + 1;
    if (this.#count > (this.#slotMask + 1) * MAX_LOAD) this.#growSlots();
    return -1 - index;
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
