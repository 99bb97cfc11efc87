import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { checkedRange, RangeFault } from "../../src/dax/window.ts";

const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const alignment = fc.constantFrom(1n, 4096n, 2n * 1024n * 1024n);

describe("checkedRange", () => {
  it("accepts exactly the aligned, non-empty ranges inside the window (FUSE_MAP_ALIGNMENT)", () => {
    fc.assert(
      fc.property(u64, u64, u64, alignment, (offset, length, size, align) => {
        const inside =
          length > 0n && offset % align === 0n && length % align === 0n && offset + length <= size;
        if (inside) {
          const range = checkedRange(offset, length, size, align);
          expect([range.offsetBytes, range.lengthBytes]).toEqual([offset, length]);
        } else {
          expect(() => checkedRange(offset, length, size, align)).toThrow(RangeFault);
        }
      }),
    );
  });

  it("accepts every aligned range of a small window", () => {
    for (let page = 0n; page < 4n; page += 1n) {
      for (let pages = 1n; pages <= 4n - page; pages += 1n) {
        expect(checkedRange(page * 4096n, pages * 4096n, 16_384n, 4096n).lengthBytes).toBe(pages * 4096n);
      }
    }
  });

  it.each([
    [0n, 2n ** 64n - 1n, /length 18446744073709551615 is not a multiple of 4096/],
    [2n ** 64n - 4096n, 8192n, /ends at 18446744073709555712, past the window of 16384 bytes/],
    [100n, 4096n, /window offset 100 is not a multiple of 4096/],
    [-4096n, 4096n, /window offset -4096 is negative/],
    [0n, 0n, /length 0 is not positive/],
  ])("names value and limit: %s + %s", (offset, length, message) => {
    expect(() => checkedRange(offset, length, 16_384n, 4096n)).toThrow(message);
  });
});
