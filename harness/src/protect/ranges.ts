/** Which parts of a file are mapped, and does something cut into them? Pure. */
import type { Piece } from "../diagnose/facts.ts";

/** Bytes of a file: `to` is the first behind it. */
export type Range = { readonly from: bigint; readonly to: bigint };

/** So many ranges of a file are kept apart: a DAX window may have thousands of pieces of 2 MiB. */
export const RANGES_MAX = 400;

/** What the pieces cover, in order; where there are too many, the narrowest gaps between them are taken for mapped. */
export function rangesOf(pieces: readonly Piece[], max: number = RANGES_MAX): readonly Range[] {
  const all = pieces
    .map(({ start, end, offset }) => ({ from: offset, to: offset + (end - start) }))
    .sort((a, b) => (a.from < b.from ? -1 : 1));
  return narrowed(joined(all, -1n), max);
}

/** Neighbours whose gap is `gap` or less are one. */
function joined(ranges: readonly Range[], gap: bigint): readonly Range[] {
  const out: Range[] = [];
  for (const range of ranges) {
    const last = out.at(-1);
    if (last === undefined || range.from - last.to > (gap < 0n ? 0n : gap)) out.push(range);
    else if (range.to > last.to) out[out.length - 1] = { from: last.from, to: range.to };
  }
  return out;
}

function narrowed(ranges: readonly Range[], max: number): readonly Range[] {
  if (ranges.length <= max) return ranges;
  const gaps = ranges.slice(1).map(({ from }, index) => from - (ranges[index]?.to ?? 0n));
  const sorted = [...gaps].sort((a, b) => (a < b ? -1 : 1));
  return joined(ranges, sorted[ranges.length - max - 1] ?? 0n);
}

/** The first mapped bytes that go where everything of a file of `sizeBytes` from `fromBytes` on goes; null: none. */
export function cutOf(ranges: readonly Range[], fromBytes: bigint, sizeBytes: bigint): Range | null {
  for (const { from, to } of ranges) {
    const cut = { from: from > fromBytes ? from : fromBytes, to: to < sizeBytes ? to : sizeBytes };
    if (cut.from < cut.to) return cut;
  }
  return null;
}
