import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { hex, parseNumber, sizeText } from "../../src/scenario/number.ts";

describe("parseNumber", () => {
  it.each([
    ["0", 0n],
    ["4096", 4096n],
    ["0x1800", 0x1800n],
    ["4KiB", 4096n],
    ["4MiB", 4n << 20n],
    ["2GiB", 2n << 30n],
    ["0xffffffffffffffff", 2n ** 64n - 1n],
  ])("reads %s", (text, value) => {
    expect(parseNumber(text)).toBe(value);
  });

  it.each(["", "-1", "+1", "1.5", "0x", "0xg", "4MB", "4 MiB", "1e3", " 1", "9".repeat(129)])(
    "refuses %j",
    (text) => {
      expect(parseNumber(text)).toBeNull();
    },
  );

  it("keeps all 64 bits, in both notations", () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (value) => {
        expect(parseNumber(String(value))).toBe(value);
        expect(parseNumber(hex(value))).toBe(value);
      }),
    );
  });
});

describe("sizeText", () => {
  it("uses the largest unit that divides", () => {
    expect(sizeText(2n << 20n)).toBe("2 MiB");
    expect(sizeText(12n << 10n)).toBe("12 KiB");
    expect(sizeText(0x1801n)).toBe("0x1801 bytes");
  });
});
