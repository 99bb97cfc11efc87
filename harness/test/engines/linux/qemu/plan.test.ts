import { describe, expect, it } from "vitest";
import { proposals, type Scenario } from "../../../../../language/src/index.ts";
import { proposalOf, scenarioWith } from "../../../../../language/test/support/cases.ts";
import type { Accelerator } from "../../../../src/engines/linux/qemu/arguments.ts";
import { planQemu, supportsQemu } from "../../../../src/engines/linux/qemu/plan.ts";
import { loadScenarios } from "../../../../src/fixtures.ts";

const plain = scenarioWith({});
const named = (id: string): Scenario => {
  const found = loadScenarios().find((one) => one.id === id);
  if (found === undefined) throw new Error(`there is no scenario ${id}`);
  return found;
};
const reasonOf = (accelerator: Accelerator, scenario: Scenario, proposal: string): string | null => {
  const answer = supportsQemu(accelerator, scenario, proposalOf(proposal));
  return answer.kind === "no" ? answer.reason : null;
};
const runIn = (accelerator: Accelerator): readonly string[] =>
  proposals.filter(({ id }) => reasonOf(accelerator, plain, id) === null).map(({ id }) => id);

describe("supportsQemu", () => {
  it("runs on KVM what needs nothing of its VMM but that it stops", () => {
    expect(runIn("kvm")).toEqual([
      "apf-guest",
      "apf-loop",
      "no-hlt-exits",
      "no-hlt-exits-no-apf",
      "lease-fuse",
      "pre-content",
      "notify",
      "sealed",
    ]);
  });

  it("runs under TCG what is not about KVM", () => {
    expect(runIn("tcg")).toEqual(["native", "lease-fuse", "pre-content", "notify", "sealed"]);
  });

  it.each<[Accelerator, string, string, string]>([
    ["kvm", "load-after-truncate", "fence-exit", "the fence (exits=fence) is our own VMM's"],
    ["kvm", "load-after-truncate", "final-efault-pf", "vmm=inject-pf is our own VMM's"],
    ["kvm", "load-after-truncate", "native", "no VM"],
    ["kvm", "load-after-guarded-truncate", "lease-kernel", "F_SETLEASE"],
    ["tcg", "load-after-guarded-truncate", "lease-kernel", "F_SETLEASE"],
    ["kvm", "load-after-truncate", "final-efault", "kvm=final-efault is in no kernel"],
    ["tcg", "load-after-truncate", "apf-guest", "apf-guest is about KVM"],
    ["tcg", "nvdimm/load-after-truncate", "native", "an NVDIMM of QEMU's is one file"],
    ["kvm", "load-in-nested-guest", "apf-guest", "our own VMM only"],
    ["kvm", "load-resumed-after-regrow", "no-hlt-exits-no-apf", "runstate_needs_reset()"],
    [
      "tcg",
      "kernel-read-of-slow-page",
      "native",
      "its witness is of KVM, and QEMU's TCG has none: guest.apf is on",
    ],
    ["tcg", "load-of-huge-page-after-truncate", "native", "backing.huge-page is seen"],
    ["tcg", "hundred-tasks", "native", "at most 16"],
    ["tcg", "load-after-truncate-interrupts-off", "native", "interrupts off"],
  ])("%s: refuses %s under %s: %s", (accelerator, scenario, proposal, reason) => {
    expect(reasonOf(accelerator, named(scenario), proposal)).toContain(reason);
  });
});

describe("planQemu", () => {
  const place = {
    filePath: "/f/file",
    sourceDirectory: "/f",
    lifeMs: 1000,
    slowness: 2,
    ioPatienceMs: 2000,
    latestEndMs: 5000,
    leaseSocket: "/l",
  };
  const kernel = {
    name: "debian:6.12",
    origin: "linux-image",
    release: "6.12",
    sha256: "0".repeat(64),
    patches: [],
    imagePath: "/k",
    initrdPath: "/i",
    nestedInitrdPath: "/n",
    pciInitrdPath: "/p",
    lacksInQemu: [],
  };
  const qemu = { command: ["/q"], version: "11.1.2", origin: "/q" };
  const planned = (accelerator: Accelerator, proposal: string, scenario = plain) =>
    planQemu(scenario, proposalOf(proposal), place, { accelerator, qemu, kernel });

  it("boots the guest as the proposal has it: async page faults of KVM's, HLT in the guest", () => {
    const boot = (accelerator: Accelerator, proposal: string) => planned(accelerator, proposal).boot;
    expect(boot("kvm", "apf-guest")).toMatchObject({ asyncPageFaults: "offered", hltInGuest: false });
    expect(boot("kvm", "apf-loop").asyncPageFaults).toBe("hidden");
    expect(boot("kvm", "no-hlt-exits-no-apf")).toMatchObject({ asyncPageFaults: "hidden", hltInGuest: true });
    expect(boot("tcg", "lease-kernel").asyncPageFaults).toBe("hidden");
    expect(boot("tcg", "native").initrdPath).toBe("/p");
  });

  it("has as many vCPUs as the scenario names", () => {
    expect(planned("tcg", "native").boot.cpus).toBe(1);
    expect(planned("tcg", "native", named("two-vcpus-spin")).boot.cpus).toBe(2);
  });

  it("gives the guard to the server, and lets the guest hold attributes as the scenario says", () => {
    expect(planned("tcg", "native").guard).toBeNull();
    expect(planned("tcg", "lease-fuse").guard).toEqual({ name: "fuse-lease", leaseSocket: "/l" });
    expect(planned("tcg", "native").attributeMs).toBe(2000);
    expect(planned("tcg", "native", named("load-after-size-never-cached")).attributeMs).toBe(0);
  });
});
