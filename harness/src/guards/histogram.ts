/** Times of a race by bins, for people and for records. Pure. */
/** Upper ends of the histogram's bins, in microseconds: each twice the one before, up to half a second. */
const BINS_US: readonly number[] = Array.from({ length: 14 }, (_, index) => 50 * 2 ** index);

export type Bin = {
  /** null: no upper end. */
  readonly upToUs: number | null;
  readonly count: number;
};

/** Counts by bin; the first has no lower end, the last no upper one. */
export function histogram(values: readonly number[]): readonly Bin[] {
  const ends = [...BINS_US, Number.POSITIVE_INFINITY];
  return ends.map((end, index) => {
    const from = index === 0 ? Number.NEGATIVE_INFINITY : (ends[index - 1] ?? 0);
    const count = values.filter((value) => value > from && value <= end).length;
    return { upToUs: Number.isFinite(end) ? end : null, count };
  });
}
