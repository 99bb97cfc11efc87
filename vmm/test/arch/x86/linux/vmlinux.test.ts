import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { BootImageError } from "../../../../src/arch/x86/linux/image.ts";
import { parseKernel } from "../../../../src/arch/x86/linux/kernel.ts";
import { isElf, parseVmlinux } from "../../../../src/arch/x86/linux/vmlinux.ts";
import { makeBzImage } from "./bz-image.ts";

const FILE_BYTES = 0x3000;

/** Two segments to load and a note, as a small vmlinux has them. */
function makeVmlinux(spoil: (view: DataView) => void = () => {}): Uint8Array {
  const bytes = new Uint8Array(FILE_BYTES);
  const view = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, 2, true);
  view.setUint16(18, 62, true);
  view.setBigUint64(0x18, 0x1000100n, true);
  view.setBigUint64(0x20, 64n, true);
  view.setUint16(0x36, 56, true);
  view.setUint16(0x38, 3, true);
  const header = (index: number, type: number, [offset, address, file, memory]: readonly bigint[]) => {
    const at = 64 + 56 * index;
    view.setUint32(at, type, true);
    view.setBigUint64(at + 8, offset ?? 0n, true);
    view.setBigUint64(at + 24, address ?? 0n, true);
    view.setBigUint64(at + 32, file ?? 0n, true);
    view.setBigUint64(at + 40, memory ?? 0n, true);
  };
  header(0, 1, [0x1000n, 0x1000000n, 0x1000n, 0x1000n]);
  header(1, 4, [0x1000n, 0x1000000n, 0x10n, 0x10n]);
  header(2, 1, [0x2000n, 0x2000000n, 0x800n, 0x5000n]);
  spoil(view);
  return bytes;
}

describe("parseVmlinux", () => {
  it("reads what is to be loaded, and how far the kernel reaches", () => {
    const image = parseVmlinux(makeVmlinux());
    expect(image).toMatchObject({ start: 0x1000000n, end: 0x2005000n, entry: 0x1000100n });
    expect(image.segments.map(({ address, bytes }) => [address, bytes.length])).toEqual([
      [0x1000000n, 0x1000],
      [0x2000000n, 0x800],
    ]);
  });

  it.each<[string, (view: DataView) => void, RegExp]>([
    ["a 32-bit file", (v) => v.setUint8(4, 1), /no program for x86-64/],
    ["another processor's", (v) => v.setUint16(18, 183, true), /no program for x86-64/],
    ["a shared object", (v) => v.setUint16(16, 3, true), /no program for x86-64/],
    ["headers of another size", (v) => v.setUint16(0x36, 32, true), /program headers of 32 bytes/],
    ["too many headers", (v) => v.setUint16(0x38, 0xffff, true), /65535 program headers/],
    ["headers beyond the file", (v) => v.setBigUint64(0x20, 1n << 63n, true), /program headers at/],
    ["headers that run out of it", (v) => v.setBigUint64(0x20, 0x2ff0n, true), /a program header at 12272/],
    ["no segment", (v) => v.setUint16(0x38, 0, true), /without a segment/],
    [
      "a segment beyond the file",
      (v) => v.setBigUint64(64 + 8, 0x2001n, true),
      /a segment of 4096 bytes at 8193/,
    ],
    ["one whose end overflows", (v) => v.setBigUint64(64 + 32, (1n << 64n) - 1n, true), /the file has 12288/],
    [
      "one that does not fit its memory",
      (v) => v.setBigUint64(64 + 40, 0xfffn, true),
      /in 4095 bytes of memory/,
    ],
    ["one below 1 MiB", (v) => v.setBigUint64(64 + 24, 0xff000n, true), /a segment at 0xff000/],
    ["one above 4 GiB", (v) => v.setBigUint64(64 + 24, 0xfffffff0n, true), /expected 1 MiB to 4 GiB/],
    ["an entry in no segment", (v) => v.setBigUint64(0x18, 0n, true), /its entry 0x0/],
  ])("refuses %s", (_name, spoil, message) => {
    expect(() => parseVmlinux(makeVmlinux(spoil))).toThrow(BootImageError);
    expect(() => parseVmlinux(makeVmlinux(spoil))).toThrow(message);
  });

  it("throws nothing else, and loads nothing that is not in the file", () => {
    const flips = fc.array(fc.record({ at: fc.nat(64 + 3 * 56), value: fc.nat(255) }), { maxLength: 6 });
    fc.assert(
      fc.property(flips, fc.nat(FILE_BYTES), (changes, size) => {
        const bytes = makeVmlinux((view) => {
          for (const { at, value } of changes) view.setUint8(at, value);
        });
        try {
          const image = parseVmlinux(bytes.subarray(0, size));
          for (const one of image.segments) {
            expect(one.bytes.byteOffset + one.bytes.length).toBeLessThanOrEqual(size);
            expect(one.address + BigInt(one.bytes.length)).toBeLessThanOrEqual(image.end);
          }
        } catch (error) {
          expect(error).toBeInstanceOf(BootImageError);
        }
      }),
      { numRuns: 5000 },
    );
  });
});

describe("parseKernel", () => {
  it("takes either file, and refuses what is neither", () => {
    expect(isElf(makeVmlinux())).toBe(true);
    expect(parseKernel(makeVmlinux()).entry).toBe(0x1000100n);
    expect(parseKernel(makeBzImage()).entry).toBe(0x1000200n);
    for (const bytes of [new Uint8Array(), new Uint8Array(10_000)]) {
      expect(() => parseKernel(bytes)).toThrow(BootImageError);
    }
  });
});
