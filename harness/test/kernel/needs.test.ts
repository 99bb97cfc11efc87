import { describe, expect, it } from "vitest";
import { parseConfig, smallFragment } from "../../src/kernel/build/config.ts";
import { guestLacks, guestNeeds, lackIn, qemuNeeds } from "../../src/kernel/needs.ts";

const all = guestNeeds.map(({ option }) => `CONFIG_${option}=y`);
const without = (...options: readonly string[]): string =>
  all.filter((line) => !options.includes(line.slice("CONFIG_".length, -2))).join("\n");

describe("guestLacks", () => {
  it("is content with all that is needed, and with modules of what the first process loads", () => {
    expect(guestLacks(parseConfig(all.join("\n")), false)).toEqual([]);
    const modular = `${without("VIRTIO_MMIO", "VIRTIO_FS")}\nCONFIG_VIRTIO_MMIO=m\nCONFIG_VIRTIO_FS=m\n`;
    expect(guestLacks(parseConfig(modular), true)).toEqual([]);
  });

  it.each([
    ["DEVMEM", "CONFIG_DEVMEM is off (/dev/mem, by which its program and the host share memory)"],
    [
      "X86_IOPL_IOPERM",
      "CONFIG_X86_IOPL_IOPERM is off (iopl(2), by which its program writes to the doorbell port)",
    ],
    ["VIRTIO_MMIO", "CONFIG_VIRTIO_MMIO is off (its devices are virtio by MMIO)"],
    ["FUSE_DAX", "CONFIG_FUSE_DAX is off (the DAX window of virtio-fs)"],
  ])("names %s", (option, text) => {
    expect(guestLacks(parseConfig(`${without(option)}\n# CONFIG_${option} is not set`), true)).toEqual([
      text,
    ]);
  });

  it("names a module that is not at hand", () => {
    const config = parseConfig(`${without("VIRTIO_FS")}\nCONFIG_VIRTIO_FS=m`);
    expect(guestLacks(config, false)).toEqual([
      "CONFIG_VIRTIO_FS is a module, and there is none (virtio-fs)",
    ]);
  });

  it("finds nothing missing in the small kernel's own configuration", () => {
    expect(guestLacks(parseConfig(smallFragment), false)).toEqual([]);
  });
});

describe("lackIn", () => {
  it.each<readonly [string, readonly string[], string | null]>([
    [
      "no initrd",
      ["[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)"],
      "CONFIG_BLK_DEV_INITRD (its first root file system)",
    ],
    [
      "no ELF",
      [
        "[    1.2] Failed to execute /init (error -8)",
        "[    1.3] Kernel panic - not syncing: No working init found.",
      ],
      "CONFIG_BINFMT_ELF (its only program)",
    ],
    ["no console", ["", "  "], "CONFIG_SERIAL_8250_CONSOLE (its console, ttyS0)"],
    ["no line at all", [], "CONFIG_SERIAL_8250_CONSOLE (its console, ttyS0)"],
    ["anything else", ["[    1.2] Kernel panic - not syncing: Attempted to kill init!"], null],
  ])("names the option of %s", (_, lines, expected) => {
    expect(lackIn(lines)).toBe(expected);
  });
});

describe("qemuNeeds", () => {
  it("names what QEMU's machine has besides, and what of it the small kernel lacks", () => {
    const config = parseConfig("CONFIG_PCI=y\nCONFIG_VIRTIO_PCI=m\nCONFIG_PVH=y\nCONFIG_DEVPORT=y");
    expect(guestLacks(config, true, qemuNeeds)).toEqual([]);
    expect(guestLacks(parseConfig(smallFragment), false, qemuNeeds)).toEqual([
      "CONFIG_VIRTIO_PCI is off (its devices are virtio by PCI)",
      "CONFIG_DEVPORT is off (/dev/port, by which its program writes to the doorbell port)",
      "CONFIG_PVH is off (QEMU enters a vmlinux by its PVH entry)",
    ]);
  });
});
