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
    for (const piece of ["daxfault-in", "it: mount x: errno 2\r\nhal", "f"]) console.take(piece);
    expect(console.lines).toEqual(["daxfault-init: mount x: errno 2", "half"]);
    expect(console.initComplaint).toBe("daxfault-init: mount x: errno 2");
    expect(console.lastLine).toBe("half");
  });

  it("keeps the beginning and the end of one that never stops, and says how much is left out", () => {
    const console = new Console();
    for (let i = 0; i < 10_000; i += 1) console.take(`line ${i}\n`);
    const { lines } = console;
    expect(lines.length).toBeLessThanOrEqual(4001);
    expect(lines[0]).toBe("line 0");
    expect(lines.at(-1)).toBe("line 9999");
    expect(lines.filter((line) => line.includes("left out"))).toEqual(["... 6000 lines left out ..."]);
  });
});
