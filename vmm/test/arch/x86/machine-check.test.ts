import { describe, expect, it } from "vitest";
import {
  type MachineCheckState,
  type SignalledVcpu,
  signalBroadcast,
  whenToSignal,
} from "../../../src/arch/x86/machine-check.ts";

const idle: MachineCheckState = { isEnabled: true, isInProgress: false, interruptsOn: true, isLate: false };

describe("a machine check that another vCPU has broadcast", () => {
  it.each<readonly [string, Partial<MachineCheckState>, "now" | "later" | "never"]>([
    ["a vCPU that is idle or runs a task", {}, "now"],
    ["a kernel with interrupts off", { interruptsOn: false }, "now"],
    ["a handler under way", { isInProgress: true }, "later"],
    ["a handler under way, with interrupts off", { isInProgress: true, interruptsOn: false }, "later"],
    ["the end of the handler it waited for", { isLate: true, interruptsOn: false }, "later"],
    ["what the handler returned to", { isLate: true }, "now"],
    ["a vCPU that is not started: CR4.MCE is off", { isEnabled: false }, "never"],
    ["the same, whatever else", { isEnabled: false, isInProgress: true, isLate: true }, "never"],
  ])("at %s", (_, changes, expected) => {
    expect(whenToSignal({ ...idle, ...changes })).toBe(expected);
  });

  it("is an uncorrected error of bank 1 for KVM, and none for the guest", () => {
    const raised: unknown[] = [];
    const written: (readonly [number, bigint])[] = [];
    const vcpu: SignalledVcpu = {
      control4: () => 0x40n,
      getMsr: () => 0n,
      setMsr: (index, value) => written.push([index, value]) > 0,
      interruptsOn: () => true,
      injectMachineCheck: (error) => raised.push(error),
    };
    expect(signalBroadcast(vcpu, false)).toBe(true);
    expect(raised).toEqual([
      { bank: 1, status: 0xa000000000000000n, globalStatus: 5n, address: 0n, misc: 0n },
    ]);
    // MC1_STATUS.
    expect(written).toEqual([[0x405, 0n]]);
  });
});
