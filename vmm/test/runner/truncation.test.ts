/** The facts that the whole project is about, at the lowest level: no harness, no judge. */
import { ftruncateSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { loadImage, type VcpuMessage } from "../../src/index.ts";
import { access, counting, FILE_BYTES, type Outcome, runCase, type Setup, signal } from "../support/case.ts";
import { kvmOrReason } from "../support/kvm.ts";

const kvm = kvmOrReason();
const rip = kvm.reason === null ? (loadImage().accessInstructions.get("load/8") ?? 0n) : 0n;

function truncated(setup: Setup, cpl: 0 | 3 = 3): Promise<Outcome> {
  const steps = [
    access("load", 8, 0x1000),
    signal("signal", 0),
    signal("await", 1),
    access("load", 8, 0x1000),
  ];
  return runCase(
    setup,
    new Uint8Array(FILE_BYTES).fill(0x41),
    [{ cpl, steps }, counting],
    (_n, file, raise) => {
      ftruncateSync(file, 0);
      raise(1);
    },
  );
}

const stoppedOf = (messages: readonly VcpuMessage[]) =>
  messages.find((message) => message.type === "stopped");
const loopingOf = (messages: readonly VcpuMessage[]) =>
  messages.find((message) => message.type === "looping");

describe.skipIf(kvm.reason !== null)(`a guest load behind the end of the file${kvm.note}`, () => {
  for (const [name, setup] of Object.entries({
    "without an in-kernel APIC": { lapicInKernel: false, hltInGuest: false, asyncPageFaults: "off" as const },
    "with HLT given to the guest": { lapicInKernel: true, hltInGuest: true, asyncPageFaults: "off" as const },
  })) {
    it(`makes KVM_RUN return EFAULT at the very instruction, ${name}`, async () => {
      const outcome = await truncated(setup);
      expect(stoppedOf(outcome.messages)).toMatchObject({
        exit: { kind: "error", errno: "EFAULT" },
        place: { rip, cpl: 3, task: 0, step: 3, gva: 0x40001000n, gpa: 0x40001000n },
      });
      expect(outcome.results[0]?.map(({ status }) => status)).toEqual([
        "done",
        "not-reached",
        "not-reached",
        "started",
      ]);
    });
  }

  it("never comes back when KVM can go the asynchronous way, though the guest never asked for it", async () => {
    const outcome = await truncated({ lapicInKernel: true, hltInGuest: false, asyncPageFaults: "off" });
    const looping = loopingOf(outcome.messages);
    expect(looping).toMatchObject({ place: { rip, cpl: 3, gva: 0x40001000n } });
    expect(looping?.type === "looping" && looping.faultsPerSecond).toBeGreaterThan(200);
    const ended = outcome.messages.find((message) => message.type === "ended");
    expect(ended).toMatchObject({ final: { asyncPageFaultMsr: 0n } });
    expect(outcome.apfNotPresentCount).toBe(0);
  });

  it("is told not-present and ready for ever when the guest did ask, with a new token each turn", async () => {
    const outcome = await truncated({ lapicInKernel: true, hltInGuest: false, asyncPageFaults: "on" });
    expect(loopingOf(outcome.messages)).toMatchObject({ place: { gva: 0x40001000n } });
    expect(outcome.apfNotPresentCount).toBeGreaterThan(10);
    expect(outcome.apfReadyCount).toBeGreaterThanOrEqual(outcome.apfNotPresentCount);
    const tokens = outcome.events.filter(({ kind }) => kind === "apf-not-present").map(({ cr2 }) => cr2);
    expect(new Set(tokens).size).toBe(tokens.length);
    expect(outcome.events.find(({ kind }) => kind === "apf-not-present")).toMatchObject({
      cpl: 3,
      errorCode: 0n,
      rip,
    });
    // The other task got on all the while: that is what async page faults are for.
    expect(outcome.counts[1]).toBeGreaterThan(10_000n);
  });
});
