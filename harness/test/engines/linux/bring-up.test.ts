import { describe, expect, it } from "vitest";
import { BringUp, GuestError, keepLine, Moment } from "../../../src/engines/linux/bring-up.ts";

const own = new BringUp("debian:6.1", null, 30_000);
const inQemu = new BringUp("debian:6.1", "QEMU", 30_000);
const up = { lines: ["[    1.0] hello", ""], end: null, isIdle: true };

const messageOf = (body: () => void): string => {
  try {
    body();
  } catch (error) {
    expect(error).toBeInstanceOf(GuestError);
    return error instanceof Error ? error.message : "";
  }
  return "no error";
};

describe("BringUp", () => {
  it("has nothing to say of a guest that is up, and of one that has mapped its file", () => {
    expect(messageOf(() => own.checkUp(up))).toBe("no error");
    expect(messageOf(() => own.checkMapped({ lines: [], refusal: null, isMapped: true }))).toBe("no error");
  });

  it("names the kernel, the VMM that is not ours, the bound and the last words of one that does not come up", () => {
    const state = { ...up, isIdle: false };
    const rest = "its program was not up after 30000 ms; last on its console: [    1.0] hello";
    expect(messageOf(() => own.checkUp(state))).toBe(`--guest-kernel debian:6.1: ${rest}`);
    expect(messageOf(() => inQemu.checkUp(state))).toBe(`--guest-kernel debian:6.1 in QEMU: ${rest}`);
    expect(messageOf(() => inQemu.checkUp({ ...state, besides: ", and QEMU is silent" }))).toContain(
      "after 30000 ms, and QEMU is silent; last",
    );
  });

  it("names what the kernel seems to lack", () => {
    const lines = ["VFS: Unable to mount root fs on unknown-block(0,0)"];
    const end = { kind: "guest-panic", reason: "VFS" } as const;
    expect(messageOf(() => own.checkUp({ lines, end, isIdle: true }))).toMatch(
      /did not come up: its kernel panicked: VFS; it may lack CONFIG_BLK_DEV_INITRD .*; last on its console: VFS/,
    );
  });

  it("takes the guest's own complaint before how the machine ended", () => {
    const lines = ["daxfault-init: no /dev/mem (CONFIG_DEVMEM, CONFIG_DEVTMPFS)", "reboot: Power down"];
    const end = { kind: "guest-off", how: "power-off" } as const;
    expect(messageOf(() => inQemu.checkUp({ lines, end, isIdle: true }))).toBe(
      "--guest-kernel debian:6.1: it cannot be a guest: daxfault-init: no /dev/mem (CONFIG_DEVMEM, CONFIG_DEVTMPFS)",
    );
  });

  it("says why a case was refused, or that its file was not mapped", () => {
    const lines: readonly string[] = [];
    const refusal = { kind: "defect", message: "file server: killed by SIGKILL" } as const;
    expect(messageOf(() => own.checkMapped({ lines, refusal, isMapped: true }))).toBe(
      "file server: killed by SIGKILL; its console is empty",
    );
    expect(messageOf(() => own.checkMapped({ lines, refusal: null, isMapped: false }))).toBe(
      "the guest has not mapped the file after 30000 ms; its console is empty",
    );
  });

  it("tells a kernel's refusal, which names an option, from a case's", () => {
    expect(own.refusalText("no virtio-fs (CONFIG_VIRTIO_FS): mount: -19")).toMatch(
      /^--guest-kernel debian:6.1: /,
    );
    expect(own.refusalText("mount: -5")).toBe("the guest's program refuses the case: mount: -5");
  });
});

it("keeps the first lines of a console and the last ones", () => {
  const lines: string[] = [];
  for (let at = 0; at < 1000; at++) keepLine(lines, String(at));
  expect(lines).toHaveLength(200);
  expect(lines.slice(0, 100)).toEqual(Array.from({ length: 100 }, (_, at) => String(at)));
  expect(lines.slice(100)).toEqual(Array.from({ length: 100 }, (_, at) => String(900 + at)));
});

it("lets everybody go on who waits for a moment, before and after it", async () => {
  const moment = new Moment();
  const before = moment.reached;
  expect(moment.isOver).toBe(false);
  moment.reach();
  await before;
  await moment.reached;
  expect(moment.isOver).toBe(true);
});
