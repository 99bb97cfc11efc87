import { describe, expect, it } from "vitest";
import { Console, crashIn } from "../../src/kernel/console.ts";

describe("crashIn", () => {
  it.each([
    [
      "[    1.234567] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
      "panic",
      "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
    ],
    [
      "[   12.000001][  T123] BUG: unable to handle page fault for address: ffffc90000",
      "oops",
      "BUG: unable to handle page fault for address: ffffc90000",
    ],
    ["[    2.5] kernel BUG at mm/slub.c:305!", "oops", "kernel BUG at mm/slub.c:305!"],
    ["[    2.5] Oops: 0002 [#1] PREEMPT SMP NOPTI", "oops", "Oops: 0002 [#1] PREEMPT SMP NOPTI"],
    [" -- System halted", "halted", "-- System halted"],
  ])("recognises %s", (line, kind, text) => {
    expect(crashIn(["[    0.000000] Linux version 6.1.0", line])).toEqual({ kind, text });
  });

  it("says with a panic what led to it, and where", () => {
    const lines = [
      "[ 1.0] BUG: unable to handle page fault for address: ffffffff0000",
      "[ 1.0] RIP: 0010:kvm_arch_async_page_ready+0x4e/0x160",
      "[ 1.1] Kernel panic - not syncing: Fatal exception in interrupt",
    ];
    expect(crashIn(lines)?.text).toBe(
      "Kernel panic - not syncing: Fatal exception in interrupt (BUG: unable to handle page fault for address: " +
        "ffffffff0000, at kvm_arch_async_page_ready+0x4e/0x160)",
    );
  });

  it("takes a panic for graver than the oops before it", () => {
    expect(
      crashIn([
        "[ 1.0] BUG: unable to handle page fault for address: 0",
        "[ 1.1] Kernel panic - not syncing: Fatal",
      ]),
    ).toMatchObject({ kind: "panic" });
  });

  it.each(["[    0.1] Kernel command line: panic=-1", "[    0.2] kvm: Nested Paging enabled", "oops=panic"])(
    "takes %s for no crash",
    (line) => {
      expect(crashIn([line])).toBeNull();
    },
  );
});

describe("Console", () => {
  it("puts lines together from pieces, and shows one that has not ended", () => {
    const console = new Console();
    for (const piece of ["daxfault-in", "it: mount x: errno 2\r\nhal", "f"]) console.feed(piece);
    expect(console.lines).toEqual(["daxfault-init: mount x: errno 2", "half"]);
    expect(console.initComplaint).toBe("daxfault-init: mount x: errno 2");
    expect(console.lastLine).toBe("half");
  });

  it("keeps the beginning and the end of one that never stops, and says how much is left out", () => {
    const console = new Console();
    for (let i = 0; i < 10_000; i += 1) console.feed(`line ${i}\n`);
    const { lines } = console;
    expect(lines.length).toBeLessThanOrEqual(4001);
    expect(lines[0]).toBe("line 0");
    expect(lines.at(-1)).toBe("line 9999");
    expect(lines.filter((line) => line.includes("left out"))).toEqual(["... 6000 lines left out ..."]);
  });
});

describe("Console.initComplaint", () => {
  it("is not what init went on without", () => {
    const console = new Console();
    console.feed("daxfault-init goes on: insmod /modules/fuse.ko: errno 8\n");
    expect(console.initComplaint).toBeNull();
  });

  it("says what a kernel without 9p lacks", () => {
    const console = new Console();
    console.feed("daxfault-init: mount daxfault-root /root 9p ro trans=virtio: errno 19\n");
    expect(console.initComplaint).toMatch(/errno 19 \(this kernel has no 9p file system: .*--modules DIR/);
  });
});
