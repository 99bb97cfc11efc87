import { describe, expect, it } from "vitest";
import { clockOf } from "../../../../src/engines/linux/qemu/clock.ts";
import {
  asyncPageFaultsIn,
  fuseVersionIn,
  windowBytesIn,
} from "../../../../src/engines/linux/qemu/guest-words.ts";

const lines = [
  "<6>[    2.897360] fuse: init (API version 7.41)",
  "<5>[    2.911400] virtiofs virtio0: Cache len: 0x4000000 @ 0xf8000000",
  "daxfault-guest: async page faults on",
];

describe("what a guest says of its set-up", () => {
  it("is read off the console of the boot", () => {
    expect(fuseVersionIn(lines)).toBe("7.41");
    expect(windowBytesIn(lines)).toBe(0x4000000);
    expect(asyncPageFaultsIn(lines)).toBe(true);
    expect(asyncPageFaultsIn(["daxfault-guest: async page faults off"])).toBe(false);
  });

  it("is not known where it was not said", () => {
    expect([fuseVersionIn([]), windowBytesIn([]), asyncPageFaultsIn([])]).toEqual([null, null, null]);
  });
});

describe("clockOf", () => {
  it("ties the guest's time stamps to the host's clock by the first doorbell and the last one", () => {
    const anchors = [
      { tsc: 1_000_000n, atMs: 10 },
      { tsc: 1_500_000n, atMs: 60.3 },
      { tsc: 3_000_000n, atMs: 210 },
    ];
    expect(clockOf(anchors)).toEqual({ tsc: 3_000_000n, atMs: 210, tscKhz: 10_000 });
  });

  it.each([
    ["no doorbell", []],
    ["one", [{ tsc: 1n, atMs: 0 }]],
    [
      "two too close to each other",
      [
        { tsc: 1n, atMs: 0 },
        { tsc: 100n, atMs: 50 },
      ],
    ],
    [
      "time that runs back",
      [
        { tsc: 100n, atMs: 0 },
        { tsc: 1n, atMs: 500 },
      ],
    ],
  ])("is null for %s", (_what, anchors) => {
    expect(clockOf(anchors)).toBeNull();
  });
});
