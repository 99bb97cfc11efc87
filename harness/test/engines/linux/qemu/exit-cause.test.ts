import { describe, expect, it } from "vitest";
import {
  causeOf,
  exitIn,
  lastWords,
  placeOf,
  registersIn,
} from "../../../../src/engines/linux/qemu/exit-cause.ts";
import type { QmpEvent } from "../../../../src/engines/linux/qemu/qmp.ts";

/** As QEMU prints it (kvm_cpu_exec(), cpu_dump_state()). */
const badAddress = [
  "error: kvm run failed Bad address",
  "RAX=0000000000000000 RBX=00000000004050c0 RCX=0000000000000000 RDX=0000000000000008",
  "RIP=0000000000401234 RFL=00010246 [---Z-P-] CPL=3 II=0 A20=1 SMM=0 HLT=0",
  "ES =0000 0000000000000000 ffffffff 00c00000",
  "Code=c3 48 8b 07 <48> 89 06 c3",
  "",
].join("\n");

describe("exitIn", () => {
  it.each([
    [badAddress, { kind: "error", errno: "EFAULT", exitReason: 0 }],
    [
      "error: kvm run failed Memory page has hardware error\n",
      { kind: "error", errno: "EHWPOISON", exitReason: 0 },
    ],
    [
      "error: kvm run failed Function not implemented\n",
      { kind: "error", errno: "Function not implemented", exitReason: 0 },
    ],
    ["KVM internal error. Suberror: 3\nextra data[0]: 0x80\n", { kind: "internal-error", suberror: 3 }],
    ["KVM: entry failed, hardware error 0x80000021\n", { kind: "fail-entry", hardwareReason: 0x80000021n }],
    ["", { kind: "other", exitReason: 0 }],
  ])("%j", (stderr, exit) => {
    expect(exitIn(stderr)).toEqual(exit);
  });
});

describe("registersIn", () => {
  it("takes the last dump, in 64 bits or 32", () => {
    expect(registersIn(badAddress)).toEqual({ rip: 0x401234n, cpl: 3 });
    const kernel = "EIP=c1c00d12 EFL=00010046 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=0";
    expect(registersIn(badAddress + kernel)).toEqual({ rip: 0xc1c00d12n, cpl: 0 });
    expect(registersIn("error: kvm run failed Bad address\n")).toBeNull();
  });

  it("names the step that was under way, where one was", () => {
    const dump = registersIn(badAddress);
    expect(placeOf(dump, { task: 1, step: 2, gva: 0x40001000n })).toEqual({
      rip: 0x401234n,
      cpl: 3,
      task: 1,
      step: 2,
      gva: 0x40001000n,
      gpa: null,
      hva: null,
    });
    expect(placeOf(dump, null)).toMatchObject({ task: -1, step: -1, gva: 0n });
    expect(placeOf(null, null)).toBeNull();
  });
});

describe("causeOf", () => {
  const shutdown = (reason: string): QmpEvent => ({ name: "SHUTDOWN", data: { guest: true, reason } });
  const exited = (exitCode: number, stderr = "") => ({ exitCode, signal: undefined, stderr });
  const killed = (signal: string) => ({ exitCode: undefined, signal, stderr: "" });

  it.each([
    ["SIGBUS, of a lost page under TCG", killed("SIGBUS"), [], { kind: "vmm-killed", signal: "SIGBUS" }],
    [
      "SIGKILL of somebody else",
      killed("SIGKILL"),
      [],
      { kind: "defect", message: "QEMU was killed from outside, by SIGKILL" },
    ],
    [
      "SIGTERM, which QEMU handles",
      exited(0),
      [shutdown("host-signal")],
      {
        kind: "defect",
        message: "QEMU was ended from outside, by SIGTERM, SIGINT or SIGHUP (host-signal)",
      },
    ],
    [
      "a reset from outside, with -no-reboot",
      exited(0),
      [shutdown("host-qmp-system-reset")],
      {
        kind: "defect",
        message: "QEMU was ended from outside, by `system_reset` of QMP (host-qmp-system-reset)",
      },
    ],
    ["a reset, with -no-reboot", exited(0), [shutdown("guest-reset")], { kind: "guest-off", how: "reset" }],
    ["power off", exited(0), [shutdown("guest-shutdown")], { kind: "guest-off", how: "power-off" }],
    [
      "an option that it does not have",
      exited(1, "/a/b/qemu-system-x86_64: -device nothing: 'nothing' is not a valid device model name\n"),
      [],
      {
        kind: "defect",
        message: "QEMU ended with 1: -device nothing: 'nothing' is not a valid device model name",
      },
    ],
    ["no word at all", exited(0), [], { kind: "defect", message: "QEMU ended with 0" }],
    [
      "no start",
      { exitCode: undefined, signal: undefined, stderr: "" },
      [],
      { kind: "defect", message: "QEMU was not started" },
    ],
  ])("%s", (_what, exit, events, why) => {
    expect(causeOf(exit, events, false)).toEqual(why);
  });

  it("is nothing of QEMU's where this side has killed it", () => {
    expect(causeOf(killed("SIGKILL"), [], true)).toEqual({ kind: "stopped-from-outside" });
  });

  it("quotes the last line without the program's name", () => {
    expect(lastWords("warning: x\nqemu-system-x86_64: cannot\n")).toBe("cannot");
    expect(lastWords("")).toBe("");
  });
});
