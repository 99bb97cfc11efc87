import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  append,
  copyIn,
  copyOut,
  GuestMemory,
  type GuestRegion,
  type GuestSpan,
  lengthOf,
  slicesOf,
} from "../../../src/transport/virtio/memory.ts";

const ram = (gpa: bigint, bytes: number): GuestRegion & { kind: "ram" } => ({
  kind: "ram",
  gpa,
  bytes: new Uint8Array(bytes),
});
const TOP = 2n ** 64n;

describe("guest memory", () => {
  const low = ram(0n, 64);
  const adjoining = ram(64n, 32);
  const high = ram(TOP - 64n, 64);
  const window: GuestRegion = { kind: "window", gpa: 4096n, address: 0x7000_0000n, lengthBytes: 2n ** 40n };
  const memory = new GuestMemory([high, window, adjoining, low]);
  const lengths = (gpa: bigint, length: number): number[] | null =>
    memory.spans(gpa, length)?.map(lengthOf) ?? null;

  it.each([
    ["all of a region", 0n, 64, [64]],
    ["across two that adjoin", 60n, 10, [4, 6]],
    ["one byte past the end", 90n, 7, null],
    ["in a hole", 200n, 1, null],
    ["across a hole", 90n, 4096, null],
    ["up to the end of a window", 4096n + 2n ** 40n - 4n, 4, [4]],
    ["past the end of a window", 4096n + 2n ** 40n - 4n, 5, null],
    ["up to 2^64", TOP - 4n, 4, [4]],
    ["past 2^64, where a sum would wrap to the low region", TOP - 4n, 8, null],
    ["all of the address space", 0n, 2 ** 32, null],
  ])("translates %s", (_, gpa, length, expected) => {
    expect(lengths(gpa, length)).toEqual(expected);
  });

  it("marks what lies in a window, and gives its host address, never its bytes", () => {
    expect(memory.spans(4100n, 8)).toEqual([{ kind: "window", address: 0x7000_0004n, lengthBytes: 8 }]);
    expect(memory.view(4100n, 8)).toBe(null);
  });

  it("views RAM of one region only", () => {
    expect(memory.view(16n, 48)?.length).toBe(48);
    expect(memory.view(16n, 49)).toBe(null);
  });

  it("finds exactly the bytes that are inside, at any address and length", () => {
    const regions = [low, adjoining, high];
    const small = new GuestMemory(regions);
    const near = fc.constantFrom(0n, 60n, 90n, 100n, TOP - 70n, TOP - 3n);
    const length = fc.integer({ min: 1, max: 120 });
    fc.assert(
      fc.property(near, fc.bigInt({ min: 0n, max: 12n }), length, (base, more, lengthBytes) => {
        const gpa = base + more;
        const isInside = Array.from({ length: lengthBytes }, (_, i) => gpa + BigInt(i)).every((byte) =>
          regions.some((region) => byte >= region.gpa && byte < region.gpa + BigInt(region.bytes.length)),
        );
        const spans = small.spans(gpa, lengthBytes);
        expect(spans !== null).toBe(isInside);
        if (spans !== null) expect(spans.reduce((sum, span) => sum + lengthOf(span), 0)).toBe(lengthBytes);
      }),
      { numRuns: 500 },
    );
  });

  it.each([
    ["overlap", [ram(0n, 64), ram(48n, 64)]],
    ["are empty", [ram(0n, 0)]],
    ["end behind 2^64", [ram(TOP - 16n, 32)]],
    [
      "are aligned differently here",
      [{ kind: "ram" as const, gpa: 0n, bytes: new Uint8Array(64).subarray(8) }],
    ],
  ])("refuses regions that %s", (_, regions) => {
    expect(() => new GuestMemory(regions)).toThrow(RangeError);
  });
});

describe("spans", () => {
  const spansOf = (bytes: readonly Uint8Array[]): GuestSpan[] =>
    bytes.map((each) => ({ kind: "ram", bytes: each }));

  it("are one where they continue each other in host memory, and only there", () => {
    const buffer = new Uint8Array(64);
    const spans: GuestSpan[] = [];
    const pieces = [
      buffer.subarray(0, 8),
      buffer.subarray(8, 16),
      buffer.subarray(20, 24),
      new Uint8Array(4),
    ];
    for (const span of spansOf(pieces)) append(spans, span);
    expect(spans.map(lengthOf)).toEqual([16, 4, 4]);
    append(spans, { kind: "window", address: 4096n, lengthBytes: 4 });
    append(spans, { kind: "window", address: 4100n, lengthBytes: 4 });
    expect(spans).toHaveLength(5);
  });

  it("are copied in and out in order, until either ends, from any offset", () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 9 }), { maxLength: 9 }),
        fc.nat(40),
        fc.nat(40),
        (pieces, start, length) => {
          const all = Buffer.concat(pieces);
          const expected = all.subarray(start, start + length);
          const into = Buffer.alloc(expected.length);
          const spans = slicesOf(spansOf(pieces), start, length);
          expect(copyIn(spans, into)).toBe(true);
          expect(into).toEqual(expected);
          const marks = Buffer.alloc(expected.length, 0xa5);
          expect(copyOut(spans, marks)).toBe(true);
          const after = Buffer.from(all);
          after.subarray(start, start + length).fill(0xa5);
          expect(Buffer.concat(pieces)).toEqual(after);
        },
      ),
    );
  });
});
