/** What a proposal needs, in its structured form and in one line; and which guests have async page faults on. */
import { describe, expect, it } from "vitest";
import { enablesApf, guestPersonas } from "../src/axes.ts";
import { needsOf, needsText } from "../src/needs.ts";
import { presetOf, presets, proposals, recordedProposal } from "../src/presets.ts";
import type { Proposal } from "../src/proposal.ts";

function proposalOf(id: string): Proposal {
  const found = proposals.find((one) => one.id === id);
  if (found === undefined) throw new Error(`no proposal ${id}`);
  return found;
}

describe("the needs of a proposal", () => {
  it.each([
    ["native", "no VM"],
    ["efault-exit", "APIC in VMM; APF off"],
    ["apf-guest", "APIC in kernel; APF on"],
    ["apf-loop", "APIC in kernel; APF off"],
    ["apf-send-always", "APIC in kernel; APF on, at CPL 0 too"],
    ["legacy-pf", "APIC in kernel; APF on; Linux before 5.8"],
    ["no-hlt-exits", "APIC in kernel; APF on; VMM: gives HLT to the guest"],
    ["pf-injection", "APIC in kernel; APF on; guest: #PF as an error; VMM: watches the file, injects #PF"],
    ["pf-injection-user-apic", "APIC in VMM; APF off; guest: #PF as an error; VMM: injects #PF"],
    ["mce-injection-no-apf", "APIC in kernel; APF off; VMM: watches the file, injects #MC"],
    [
      "nmi-injection",
      "APIC in kernel; APF on; guest: an NMI as an error; VMM: watches the file, sends an NMI",
    ],
    ["poison", "APIC in kernel; APF on; VMM: watches the file, maps a poisoned page; Linux 6.6"],
    ["final-efault", "APIC in kernel; APF on; KVM patched: the lookup's -EFAULT is final"],
    [
      "lease-kernel",
      "APIC in kernel; APF on; guest: #PF as an error; VMM: takes a recalled range away, injects #PF; server: F_SETLEASE",
    ],
    ["sealed", "APIC in kernel; APF on; server: a sealed copy"],
  ])("%s: %s", (id, text) => {
    expect(needsText(needsOf(proposalOf(id)))).toBe(text);
  });

  it("are structured, too", () => {
    expect(needsOf(proposalOf("ve-injection"))).toEqual({
      apic: "kernel",
      asyncPageFaults: "on",
      guestUnderstands: "#VE",
      kernel: { kind: "stock", since: null },
      vmm: ["watches the file", "injects #VE"],
      server: null,
    });
  });

  it("tell apart any two proposals that differ in an axis but for the reports that one guest understands", () => {
    const texts = proposals.map((one) => needsText(needsOf(one)));
    expect(new Set(texts).size).toBe(texts.length);
  });
});

describe("async page faults", () => {
  it("are on in the guest of every row but those that are variants of another, and off where the APIC is not in the kernel", () => {
    for (const preset of presets) {
      const isOn = enablesApf(preset);
      if (preset.variantOf === null) expect(isOn, preset.id).toBe(preset.lapic === "kernel");
      if (preset.lapic === "user") expect(isOn, preset.id).toBe(false);
      if (preset.id.endsWith("-no-apf")) expect(isOn, preset.id).toBe(false);
    }
    expect(enablesApf({ guest: "apf", lapic: "user" })).toBe(false);
    expect(enablesApf({ guest: "none", lapic: null })).toBe(false);
    expect(enablesApf({ guest: "pv-error", lapic: "kernel" })).toBe(true);
  });

  it("are all that a guest without them lacks", () => {
    for (const guest of ["pv-error", "mce-safe-loads", "ve"] as const) {
      expect(guestPersonas[`${guest}-no-apf`]).toEqual({ ...guestPersonas[guest], asyncPageFaults: "off" });
    }
    expect(guestPersonas.unaware).toEqual({ ...guestPersonas.apf, asyncPageFaults: "off" });
  });
});

describe("variants", () => {
  it("are of a row that is none itself, and differ from it in guest, exit or APIC alone", () => {
    for (const { variantOf, ...variant } of presets) {
      if (variantOf === null) continue;
      const row = presetOf(variantOf);
      expect(row, variant.id).toMatchObject({
        variantOf: null,
        kvm: variant.kvm,
        vmm: variant.vmm,
        server: variant.server,
      });
    }
  });

  it("of recorded runs are known, though no table has them", () => {
    expect(recordedProposal("lease-fuse-no-apf")).toMatchObject({
      server: "fuse-lease",
      guest: "pv-error-no-apf",
      lapic: "kernel",
    });
    expect(presetOf("lease-fuse-no-apf")).toBeNull();
    expect(recordedProposal("pf-injection")).toEqual(proposalOf("pf-injection"));
    expect(recordedProposal("fence")).toBeNull();
  });
});
