/** QEMU's command line for a kernel VM. */
import { describe, expect, it } from "vitest";
import { qemuArguments } from "../../src/kernel/qemu.ts";

const options = {
  accelerator: "tcg",
  imagePath: "/image",
  initramfsPath: "/initramfs",
  scratchPath: "/scratch.img",
  swapPath: "/swap.img",
  cpus: 1,
  memoryMiB: 64,
  bootId: "b",
  channelFd: 3,
} as const;

const blockDevices = (words: readonly string[]): readonly string[] =>
  words.filter((word, at) => words[at - 1] === "-device" && word.startsWith("virtio-blk-pci"));

describe("the disks of a kernel VM", () => {
  it("are devices in their order, the scratch disk first: inside it is /dev/vda", () => {
    const words = qemuArguments(options);
    expect(blockDevices(words)).toEqual([
      expect.stringContaining("drive=scratch"),
      expect.stringContaining("drive=swap"),
    ]);
    // The devices of such drives come behind all others.
    expect(words.filter((word) => word.includes("if=virtio"))).toEqual([]);
  });

  it("are the swap disk alone where there is none for temporary files", () => {
    expect(blockDevices(qemuArguments({ ...options, scratchPath: null }))).toEqual([
      expect.stringContaining("drive=swap"),
    ]);
  });
});
