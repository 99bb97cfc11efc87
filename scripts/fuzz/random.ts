/** Random choices that are the same for the same seed, on every machine (xorshift32). */

export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0 || 0x9e3779b9;
    for (let round = 0; round < 4; round += 1) this.next();
  }

  /** The choices of one input: they depend on seed and index alone, so that any input can be made again by itself. */
  static of(seed: number, index: number): Random {
    return new Random(Math.imul(seed ^ 0x5bd1e995, 0x9e3779b1) ^ Math.imul(index + 1, 0x85ebca6b));
  }

  next(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x >>> 0;
    return this.#state;
  }

  below(limit: number): number {
    return this.next() % limit;
  }

  /** True in one of `many` cases. */
  oneIn(many: number): boolean {
    return this.below(many) === 0;
  }

  pick<T>(from: readonly T[]): T {
    if (from.length === 0) throw new Error("nothing to pick from");
    return from[this.below(from.length)] as T;
  }

  /** Several of them, each at most once, in their order. */
  some<T>(from: readonly T[], most: number): readonly T[] {
    const wanted = this.below(Math.min(most, from.length) + 1);
    const chosen = new Set<number>();
    for (let count = 0; count < wanted; count += 1) chosen.add(this.below(from.length));
    return from.filter((_, index) => chosen.has(index));
  }
}
