import { describe, expect, it } from "vitest";
import { parseBzImage, setupOffset } from "../../../../src/arch/x86/linux/bz-image.ts";
import { BootImageError } from "../../../../src/arch/x86/linux/image.ts";
import {
  bootParams,
  identityMap,
  initrdAddress,
  type LinuxBoot,
  linuxLayout,
  memoryMap,
  sharedAddress,
  writeLinux,
} from "../../../../src/arch/x86/linux/layout.ts";
import { makeBzImage } from "./bz-image.ts";

const MIB = 2 ** 20;
const kernel = parseBzImage(makeBzImage());
const boot: LinuxBoot = {
  kernel,
  initrd: new Uint8Array(5000).fill(7),
  commandLine: "console=ttyS0",
  ramBytes: 96 * MIB,
  sharedBytes: 0,
  persistent: { start: 0x40000000n, bytes: 0x2000000n },
  acpi: Uint8Array.of(1, 2, 3),
};

describe("memoryMap", () => {
  it("is ascending, without overlaps, and ends with the persistent memory", () => {
    const map = memoryMap(boot);
    for (const [index, entry] of map.entries()) {
      const before = map[index - 1];
      if (before !== undefined) expect(entry.start).toBeGreaterThanOrEqual(before.start + before.bytes);
    }
    expect(map.at(-1)).toEqual({ start: 0x40000000n, bytes: 0x2000000n, type: "persistent" });
    expect(memoryMap({ ...boot, persistent: null }).some(({ type }) => type === "persistent")).toBe(false);
  });
});

describe("what the guest shares with the host", () => {
  const sharing = { ...boot, sharedBytes: 0x10000 };

  it("is the end of RAM, reserved, and the initrd lies below", () => {
    expect(sharedAddress(sharing)).toBe(BigInt(96 * MIB - 0x10000));
    expect(memoryMap(sharing)).toContainEqual({
      start: BigInt(96 * MIB - 0x10000),
      bytes: 0x10000n,
      type: "reserved",
    });
    const ram = memoryMap(sharing).filter(({ type }) => type === "ram");
    expect(ram.every(({ start, bytes }) => start + bytes <= sharedAddress(sharing))).toBe(true);
    expect(initrdAddress(sharing)).toBe(BigInt(96 * MIB - 0x10000 - 8192));
  });

  it.each([100, 96 * MIB, -4096])("is no %d bytes", (sharedBytes) => {
    expect(() => sharedAddress({ ...boot, sharedBytes })).toThrow(/expected whole pages of it/);
  });
});

describe("initrdAddress", () => {
  it("is as high as RAM allows, in whole pages", () => {
    expect(initrdAddress(boot)).toBe(BigInt(96 * MIB - 8192));
  });

  it("is below what the kernel allows", () => {
    const low = { ...kernel, maxInitrdAddress: BigInt(80 * MIB) - 1n };
    expect(initrdAddress({ ...boot, kernel: low })).toBe(BigInt(80 * MIB - 8192));
  });

  it("refuses RAM that does not hold kernel and initrd", () => {
    expect(() => initrdAddress({ ...boot, ramBytes: 64 * MIB })).toThrow(BootImageError);
    expect(() => initrdAddress({ ...boot, ramBytes: 64 * MIB })).toThrow(/67108864 bytes of RAM are too few/);
    expect(() => initrdAddress({ ...boot, initrd: new Uint8Array(33 * MIB) })).toThrow(BootImageError);
  });
});

describe("bootParams", () => {
  const view = new DataView(bootParams(boot).buffer);

  it("has the setup header with the loader's fields filled in", () => {
    expect(view.getUint32(setupOffset.magic, true)).toBe(0x53726448);
    expect(view.getUint8(setupOffset.typeOfLoader)).toBe(0xff);
    expect(view.getUint8(setupOffset.loadFlags) & 1).toBe(1);
    expect(view.getUint32(setupOffset.ramdiskImage, true)).toBe(96 * MIB - 8192);
    expect(view.getUint32(setupOffset.ramdiskSize, true)).toBe(5000);
    expect(view.getUint32(setupOffset.cmdLinePointer, true)).toBe(Number(linuxLayout.COMMAND_LINE));
  });

  it("has the memory map and the RSDP, and zeros where Linux expects them (the sentinel)", () => {
    expect(view.getBigUint64(0x70, true)).toBe(linuxLayout.ACPI_TABLES);
    expect(view.getUint8(0x1e8)).toBe(4);
    expect(view.getUint8(0x1ef)).toBe(0);
    expect(view.getBigUint64(0x2d0 + 3 * 20, true)).toBe(0x40000000n);
    expect(view.getUint32(0x2d0 + 3 * 20 + 16, true)).toBe(12);
  });
});

describe("identityMap", () => {
  it("maps each address of the first 4 GiB to itself, writable, not for user mode", () => {
    const bytes = identityMap();
    const view = new DataView(bytes.buffer);
    const word = (table: bigint, index: bigint) =>
      view.getBigUint64(Number(table - linuxLayout.PAGE_TABLES + 8n * index), true);
    for (const address of [0n, 0x1000000n, 0x3fffffffn, 0x40000000n, 0xfee00000n, 0xffffffffn]) {
      const pml4 = word(linuxLayout.PAGE_TABLES, address >> 39n);
      const pdpt = word(pml4 & ~0xfffn, (address >> 30n) & 511n);
      const pd = word(pdpt & ~0xfffn, (address >> 21n) & 511n);
      expect((pd & ~0x1fffffn) + (address & 0x1fffffn)).toBe(address);
      for (const entry of [pml4, pdpt, pd]) expect(entry & 7n).toBe(3n);
      expect(pd & 0x80n).toBe(0x80n);
    }
  });
});

describe("writeLinux", () => {
  it("puts everything in its place", () => {
    const ram = new Uint8Array(96 * MIB);
    writeLinux(ram, boot);
    expect(ram[0x1000000]).toBe(0x90);
    expect(ram[96 * MIB - 8192]).toBe(7);
    expect(Buffer.from(ram.subarray(0x20000, 0x2000e)).toString()).toBe("console=ttyS0\0");
    expect([...ram.subarray(0xe0000, 0xe0003)]).toEqual([1, 2, 3]);
  });

  it.each<[string, Partial<LinuxBoot>, RegExp]>([
    [
      "a command line that is too long",
      { commandLine: "x".repeat(2048) },
      /2048 bytes: this kernel takes 2047/,
    ],
    ["ACPI tables that do not fit", { acpi: new Uint8Array(0x20001) }, /ACPI tables of 131073 bytes/],
    ["RAM of another size", { ramBytes: 95 * MIB }, /in a mapping of/],
  ])("refuses %s", (_name, change, message) => {
    expect(() => writeLinux(new Uint8Array(96 * MIB), { ...boot, ...change })).toThrow(message);
  });
});
