import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { setupOffset as at, parseBzImage } from "../../../../src/arch/x86/linux/bz-image.ts";
import { BootImageError, type LinuxImage } from "../../../../src/arch/x86/linux/image.ts";
import { makeBzImage, PAYLOAD_BYTES } from "./bz-image.ts";

const payloadOf = ({ segments }: LinuxImage): Uint8Array => segments[0]?.bytes ?? new Uint8Array();

describe("parseBzImage", () => {
  it("reads what a loader needs", () => {
    const image = parseBzImage(makeBzImage());
    expect(image).toMatchObject({
      release: "6.12.117+deb12-amd64",
      start: 0x1000000n,
      entry: 0x1000200n,
      end: 0x4000000n,
      maxCommandLineBytes: 2047,
      maxInitrdAddress: 0x7fffffffn,
    });
    expect(payloadOf(image).length).toBe(PAYLOAD_BYTES);
    expect(payloadOf(image)[0]).toBe(0x90);
    expect(image.setupHeader.length).toBe(0x26c - 0x1f1);
  });

  it("takes what follows the payload for somebody else's, as a signature", () => {
    const signed = Buffer.concat([makeBzImage(), Buffer.alloc(1000)]);
    expect(payloadOf(parseBzImage(signed)).length).toBe(PAYLOAD_BYTES);
  });

  it.each<[string, (view: DataView) => void, RegExp]>([
    ["no magic", (v) => v.setUint32(at.magic, 0, true), /no "HdrS" at 0x202/],
    ["no boot flag", (v) => v.setUint16(at.bootFlag, 0, true), /boot_flag is 0x0, not 0xaa55/],
    ["an old protocol", (v) => v.setUint16(at.version, 0x20b, true), /boot protocol 0x20b: at least 0x20c/],
    ["a 32-bit kernel", (v) => v.setUint16(at.xloadFlags, 0, true), /XLF_KERNEL_64/],
    ["a header that ends too early", (v) => v.setUint8(at.jump, 0x10), /setup header ends at 0x212/],
    ["a header that ends too late", (v) => v.setUint8(at.jump, 0xff), /setup header ends at 0x301/],
    [
      "a payload beyond the file",
      (v) => v.setUint32(at.sysSize, 0x101, true),
      /speaks of \d+ bytes, the file has/,
    ],
    ["a payload of 64 GiB", (v) => v.setUint32(at.sysSize, 0xffffffff, true), /truncated/],
    ["no payload", (v) => v.setUint32(at.sysSize, 0, true), /syssize is 0 bytes/],
    ["setup sectors beyond the file", (v) => v.setUint8(at.setupSects, 255), /truncated/],
    ["an alignment of 0", (v) => v.setUint32(at.kernelAlignment, 0, true), /kernel_alignment is 0x0/],
    ["an alignment of 3", (v) => v.setUint32(at.kernelAlignment, 3, true), /no power of two/],
    ["a load address of 0", (v) => v.setBigUint64(at.prefAddress, 0n, true), /pref_address is 0x0/],
    ["a load address above 4 GiB", (v) => v.setBigUint64(at.prefAddress, 1n << 40n, true), /1 MiB to 4 GiB/],
    [
      "a load address that is not aligned",
      (v) => v.setBigUint64(at.prefAddress, 0x1001000n, true),
      /aligned/,
    ],
    ["an init_size below the payload", (v) => v.setUint32(at.initSize, 16, true), /init_size is 16/],
    ["an init_size of 4 GiB", (v) => v.setUint32(at.initSize, 0xffffffff, true), /init_size/],
  ])("refuses %s", (_name, spoil, message) => {
    expect(() => parseBzImage(makeBzImage(spoil))).toThrow(BootImageError);
    expect(() => parseBzImage(makeBzImage(spoil))).toThrow(message);
  });

  it.each([0, 1, 0x1f0, 0x28f])("refuses a file of %d bytes", (bytes) => {
    expect(() => parseBzImage(makeBzImage().subarray(0, bytes))).toThrow(BootImageError);
  });

  it("throws nothing else, and promises nothing that is not in the file", () => {
    const flips = fc.array(fc.record({ at: fc.nat(0x2a0), value: fc.nat(255) }), { maxLength: 6 });
    fc.assert(
      fc.property(flips, fc.nat(0x2000), (changes, cut) => {
        const bytes = makeBzImage((view) => {
          for (const { at, value } of changes) view.setUint8(at, value);
        });
        const file = bytes.subarray(0, Math.max(0, bytes.length - cut + 0x1800));
        try {
          const image = parseBzImage(file);
          const payload = payloadOf(image);
          expect(payload.byteOffset + payload.length).toBeLessThanOrEqual(file.length);
          expect(image.end - image.start).toBeGreaterThanOrEqual(BigInt(payload.length));
          expect(image.setupHeader.length).toBeLessThanOrEqual(0x290 - 0x1f1);
        } catch (error) {
          expect(error).toBeInstanceOf(BootImageError);
        }
      }),
      { numRuns: 5000 },
    );
  });
});
