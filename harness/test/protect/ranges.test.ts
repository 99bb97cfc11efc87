import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Piece } from "../../src/diagnose/facts.ts";
import { cutOf, rangesOf } from "../../src/protect/ranges.ts";

const PAGE = 4096n;
const piece = (offset: bigint, bytes: bigint): Piece => ({ start: 0n, end: bytes, offset, access: "rw-s" });

describe("ranges of a file that are mapped", () => {
  it("join where they meet or overlap, in whatever order they come", () => {
    const ranges = rangesOf([
      piece(2n * PAGE, PAGE),
      piece(0n, PAGE),
      piece(PAGE, PAGE),
      piece(8n * PAGE, PAGE),
    ]);
    expect(ranges).toEqual([
      { from: 0n, to: 3n * PAGE },
      { from: 8n * PAGE, to: 9n * PAGE },
    ]);
  });

  it("are at most so many, and what was mapped stays covered", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 0, max: 200 }), fc.integer({ min: 1, max: 3 })), {
          minLength: 1,
        }),
        fc.integer({ min: 1, max: 8 }),
        (pages, max) => {
          const pieces = pages.map(([at, count]) => piece(BigInt(at) * PAGE, BigInt(count) * PAGE));
          const ranges = rangesOf(pieces, max);
          expect(ranges.length).toBeLessThanOrEqual(max);
          for (const { offset, start, end } of pieces) {
            const to = offset + (end - start);
            expect(ranges.some((range) => range.from <= offset && range.to >= to)).toBe(true);
          }
          for (const [index, { from }] of ranges.entries())
            expect(from).toBeGreaterThan(ranges[index - 1]?.to ?? -1n);
        },
      ),
    );
  });
});

describe("a truncation", () => {
  const ranges = [
    { from: PAGE, to: 2n * PAGE },
    { from: 4n * PAGE, to: 8n * PAGE },
  ];
  it.each([
    ["to nothing", 0n, 6n * PAGE, { from: PAGE, to: 2n * PAGE }],
    ["behind the first range", 2n * PAGE, 6n * PAGE, { from: 4n * PAGE, to: 6n * PAGE }],
    ["by one byte", 6n * PAGE - 1n, 6n * PAGE, { from: 6n * PAGE - 1n, to: 6n * PAGE }],
    ["of what lies behind the mapping", 8n * PAGE, 9n * PAGE, null],
    ["of what lies between", 2n * PAGE, 4n * PAGE, null],
    ["of what is gone already", 3n * PAGE, 4n * PAGE, null],
  ])("%s", (_, from, size, cut) => {
    expect(cutOf(ranges, from, size)).toEqual(cut);
  });
});
