/**
 * The layout of a state: a flat Uint8Array in which every field has a name, so that a state can be copied and hashed
 * as words and still be printed. One byte an element; counters that could grow without bound do not belong in a state.
 */

export type Field = {
  readonly name: string;
  /** Index of the first byte. */
  readonly offset: number;
  /** Elements, a byte each. */
  readonly length: number;
};

export class Layout {
  readonly #fields: Field[] = [];
  #usedBytes = 0;

  /** Reserves `length` bytes and returns the offset of the first. */
  field(name: string, length = 1): number {
    if (length < 0 || !Number.isInteger(length)) throw new RangeError(`field ${name}: ${length} bytes`);
    if (this.#fields.some((field) => field.name === name)) throw new Error(`field ${name} is named twice`);
    const offset = this.#usedBytes;
    this.#fields.push({ name, offset, length });
    this.#usedBytes += length;
    return offset;
  }

  get fields(): readonly Field[] {
    return this.#fields;
  }

  /** Rounded up to whole 32-bit words, because states are stored, compared and hashed by words. */
  get stateBytes(): number {
    return Math.max(4, (this.#usedBytes + 3) & ~3);
  }

  /** Every field of `state` that is not zero, by name. */
  print(state: Uint8Array): string {
    const parts: string[] = [];
    for (const field of this.#fields) {
      const values = [...state.subarray(field.offset, field.offset + field.length)];
      if (values.every((value) => value === 0)) continue;
      parts.push(`${field.name}=${values.join(",")}`);
    }
    return parts.join(" ");
  }
}
