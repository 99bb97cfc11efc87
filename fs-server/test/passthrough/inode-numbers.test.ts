import { describe, expect, it } from "vitest";
import { shownInode } from "../../src/passthrough/inode-numbers.ts";

const HOME = 0x800001;
const [SUBVOLUME, OTHER] = [0x2a, 0x2b];

describe("inode numbers", () => {
  it("of the source's own device stay", () => {
    for (const ino of [1n, 2n ** 34n, 2n ** 62n - 1n]) expect(shownInode(HOME, HOME, ino)).toBe(ino);
  });

  it("are 63 bits and differ by device and by number", () => {
    const inos = [1n, 256n, 257n, 2n ** 33n - 1n, 2n ** 33n, 2n ** 48n, 2n ** 63n, 2n ** 64n - 1n];
    const devices = [HOME, SUBVOLUME, OTHER, 2 ** 28 - 1, 2 ** 28, 2 ** 32 - 1];
    const all = devices.flatMap((device) => inos.map((ino) => shownInode(HOME, device, ino)));
    expect(new Set(all).size).toBe(devices.length * inos.length);
    expect(all.every((ino) => ino > 0n && ino < 2n ** 63n)).toBe(true);
  });

  it("are the same every time", () => {
    expect(shownInode(HOME, SUBVOLUME, 256n)).toBe(2n ** 62n + (0x2an << 33n) + 256n);
    expect(shownInode(HOME, SUBVOLUME, 2n ** 40n)).toBe(shownInode(HOME, SUBVOLUME, 2n ** 40n));
  });
});
