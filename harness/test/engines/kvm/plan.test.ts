import { describe, expect, it } from "vitest";
import { exitParts, guestParts, proposals, vmmParts } from "../../../../language/src/index.ts";
import { proposalOf, scenarioWith } from "../../../../language/test/support/cases.ts";
import { planCase, supportsPair, supportsProposal } from "../../../src/engines/kvm/plan.ts";

const place = {
  filePath: "/f/file",
  sourceDirectory: "/f",
  lifeMs: 1000,
  slowness: 1,
  ioPatienceMs: 2000,
  latestEndMs: 5000,
  leaseSocket: null,
};
describe("supportsPair", () => {
  it("refuses system calls on a file by name: the micro-guest has no files", () => {
    const victim = { in: "guest-task", steps: [{ verb: "msync", offset: 0n, size: 8 }] } as const;
    expect(supportsPair(scenarioWith({ actors: { victim } }), proposalOf("apf-guest"))).toMatchObject({
      kind: "no",
      reason: "victim: msync is a system call that the micro-guest has not",
    });
    expect(supportsPair(scenarioWith({}), proposalOf("apf-guest")).kind).toBe("yes");
  });

  it("refuses who watches the file where the memory is a guest_memfd", () => {
    const file = scenarioWith({ layout: "nvdimm" });
    const scenario = { ...file, backing: { ...file.backing, kind: "guest-memfd" } } as const;
    for (const id of ["fence-exit", "lease-kernel"]) {
      expect(supportsPair(scenario, proposalOf(id))).toMatchObject({
        reason: "who watches the file learns nothing of a guest_memfd",
      });
    }
    expect(supportsPair(scenario, proposalOf("apf-guest")).kind).toBe("yes");
  });

  it("refuses what a client of a file server holds", () => {
    const cached = scenarioWith({});
    const scenario = { ...cached, backing: { ...cached.backing, cache: "never" } } as const;
    expect(supportsPair(scenario, proposalOf("apf-guest"))).toMatchObject({
      kind: "no",
      reason: "the micro-guest is no client of a file server: it holds no attributes",
    });
  });
});

describe("layout virtio-fs", () => {
  it("is refused: the micro-guest has no page cache", () => {
    const scenario = scenarioWith({ layout: "virtio-fs" });
    expect(supportsPair(scenario, proposalOf("apf-guest"))).toMatchObject({
      reason: "layout virtio-fs is about a guest's page cache; the micro-guest has none",
    });
  });
});

describe("planCase", () => {
  it("turns each preset into the set-up that its title promises", () => {
    const planOf = (id: string) => planCase(scenarioWith({}), proposalOf(id), place);
    const machine = (id: string) => ({ ...planOf(id).machine, policy: planOf(id).policy });
    const plain = { lapicInKernel: true, hltInGuest: false, asyncPageFaults: "on", policy: "stop" };
    expect(machine("efault-exit")).toMatchObject({ ...plain, lapicInKernel: false, asyncPageFaults: "off" });
    expect(machine("apf-loop")).toMatchObject({ ...plain, asyncPageFaults: "off" });
    expect(machine("apf-guest")).toMatchObject(plain);
    expect(machine("apf-send-always")).toMatchObject({ ...plain, asyncPageFaults: "send-always" });
    expect(machine("no-hlt-exits")).toMatchObject({ ...plain, hltInGuest: true });
    expect(machine("no-hlt-exits-no-apf")).toMatchObject({
      ...plain,
      hltInGuest: true,
      asyncPageFaults: "off",
    });
    expect(planOf("fence-exit")).toMatchObject({ fence: true, policy: "stop" });
    expect(planOf("apf-guest").fence).toBe(false);
  });

  it("has the policy from the axis alone, whatever makes the exit and whatever the guest understands", () => {
    for (const exits of exitParts) {
      for (const vmm of vmmParts) {
        for (const guest of guestParts) {
          const plan = planCase(scenarioWith({}), { ...proposalOf("apf-guest"), exits, vmm, guest }, place);
          expect(plan.policy).toBe(vmm);
          expect(plan.fence).toBe(exits === "fence");
          expect(plan.machine.hltInGuest).toBe(exits === "hlt-in-guest");
        }
      }
    }
  });

  it("numbers signals and places accesses in the window, in the order of the scenario", () => {
    const plan = planCase(scenarioWith({}), proposalOf("efault-exit"), place);
    expect(plan.signals).toEqual(["touched", "cut"]);
    expect(plan.tasks).toMatchObject([
      {
        actor: "victim",
        program: {
          cpl: 3,
          steps: [
            { verb: "load", size: 8, address: 0x40001000n },
            { verb: "signal", address: 0n },
            { verb: "await", address: 1n },
            { verb: "load", size: 8, address: 0x40001000n },
          ],
        },
      },
    ]);
    expect(plan.stuckIsAwaited).toBe(false);
  });

  it("rounds the window up to what the Linux driver maps at once", () => {
    const window = [{ fileOffset: 0n, at: 0x200000n, length: 0x1000n }];
    expect(planCase(scenarioWith({ window }), proposalOf("apf-loop"), place).windowBytes).toBe(0x400000);
  });

  it.each([
    ["sigbus-injection", { pageReadyErrors: true, handsOverVeInfo: false, kvmRaisesMachineChecks: false }],
    ["kvm-ve-injection", { pageReadyErrors: false, handsOverVeInfo: true, kvmRaisesMachineChecks: false }],
    ["kvm-mce-injection", { handsOverVeInfo: false, kvmRaisesMachineChecks: true, takesMachineChecks: true }],
    // The VMM fills the area in, and sets the banks up, itself.
    ["ve-injection", { handsOverVeInfo: false, kvmRaisesMachineChecks: false }],
    ["mce-injection", { handsOverVeInfo: false, kvmRaisesMachineChecks: false, takesMachineChecks: true }],
    ["apf-loop", { pageReadyErrors: false, takesMachineChecks: false }],
  ])("has the guest of %s consent to what KVM may do", (id, machine) => {
    expect(planCase(scenarioWith({}), proposalOf(id), place).machine).toMatchObject(machine);
  });

  it("knows when somebody waits for the vCPU to be stuck", () => {
    const actors = {
      host: { in: "host-process", through: "file", steps: [{ verb: "await", name: "stuck" }] },
    } as const;
    expect(planCase(scenarioWith({ actors }), proposalOf("apf-loop"), place).stuckIsAwaited).toBe(true);
  });
});

describe("supports", () => {
  it("takes the presets that have a VM, and says why not the others", () => {
    const answers = proposals.map((proposal) => [proposal.id, supportsProposal(proposal).kind]);
    expect(Object.fromEntries(answers)).toMatchObject({
      native: "no",
      "efault-exit": "yes",
      "apf-loop": "yes",
    });
    const proposal = { ...proposalOf("apf-loop"), kvm: "final-efault" } as const;
    expect(supportsProposal(proposal)).toMatchObject({ reason: /^kvm=final-efault is in no kernel/u });
  });

  it("takes on a kernel with a proposal built in that proposal, and no other", () => {
    const builtIn = { kvm: "final-efault", guest: "today" } as const;
    expect(supportsProposal(proposalOf("final-efault-pf"), builtIn)).toEqual({ kind: "yes" });
    const reasonOf = (id: string) => supportsProposal(proposalOf(id), builtIn);
    expect(reasonOf("apf-guest")).toMatchObject({ reason: "this kernel has kvm=final-efault" });
    expect(reasonOf("exit-request")).toMatchObject({
      reason: "this kernel has kvm=final-efault, not kvm=exit-request",
    });
  });
});
