/** What a part of `scripts/check-ends` has found, and the numbers behind it. */

export type Finding = {
  /** What is wrong, in one line or several. */
  readonly what: string;
  /** The command that does it again. */
  readonly command: string;
};

export type PartResult = {
  readonly findings: readonly Finding[];
  /** One line: how much was done. */
  readonly summary: string;
};

export type PartOptions = {
  /** Signals of the part `kills`; the others do a share of it. */
  readonly kills: number;
  readonly seed: number;
  /** Only this one of them; null: all. */
  readonly only: number | null;
  readonly log: (line: string) => void;
};

/** Numbers from 0 to below 1 that depend on seed and index alone (mulberry32). */
export function randomOf(seed: number, index: number): () => number {
  let state = (Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) + Math.imul(index + 1, 0xc2b2ae35)) | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function oneOf<Value>(values: readonly Value[], random: () => number): Value {
  const value = values[Math.floor(random() * values.length)];
  if (value === undefined) throw new Error("one of none");
  return value;
}

/** Does `work` for every one, `jobs` at a time. */
export async function each<Item>(
  items: readonly Item[],
  jobs: number,
  work: (item: Item) => Promise<void>,
): Promise<void> {
  const queue = items.values();
  const worker = async (): Promise<void> => {
    for (const item of queue) await work(item);
  };
  await Promise.all(Array.from({ length: jobs }, worker));
}
