import { describe, expect, it } from "vitest";
import { type GuestStep, proposals, type Scenario } from "../../../../language/src/index.ts";
import { proposalOf, scenarioWith } from "../../../../language/test/support/cases.ts";
import { planLinux, supportsLinux, supportsOwnVmm } from "../../../src/engines/linux/plan.ts";
import { loadScenarios } from "../../../src/fixtures.ts";

const place = {
  filePath: "/f/file",
  sourceDirectory: "/f",
  lifeMs: 1000,
  slowness: 2,
  ioPatienceMs: 2000,
  latestEndMs: 5000,
  leaseSocket: null,
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

const reasonOf = (scenario: Scenario, proposal: string): string | null => {
  const answer = supportsLinux(scenario, proposalOf(proposal));
  return answer.kind === "no" ? answer.reason : null;
};
const plain = scenarioWith({});
const named = (id: string): Scenario => {
  const found = loadScenarios().find((one) => one.id === id);
  if (found === undefined) throw new Error(`there is no scenario ${id}`);
  return found;
};

describe("supportsOwnVmm", () => {
  it("refuses a file server that is stopped, for which the VMM itself would wait, and none that is killed", () => {
    const answer = (id: string) => supportsOwnVmm(named(id), proposalOf("apf-guest"));
    expect(answer("load-while-server-stopped")).toMatchObject({
      kind: "no",
      reason: expect.stringContaining("stopped server"),
    });
    expect(answer("load-after-server-killed")).toEqual({ kind: "yes" });
    expect(supportsLinux(named("load-while-server-stopped"), proposalOf("apf-guest"))).toEqual({
      kind: "yes",
    });
  });
});

describe("supportsLinux", () => {
  it.each([
    ["efault-exit", "APIC in the kernel"],
    ["pv-injection", "no driver"],
    ["ve-injection", "TDX guests only"],
    ["apf-send-always", "since 5.8"],
    ["sigbus-injection", "kvm=ready-error is in no kernel"],
    ["native", "no VM"],
  ])("refuses %s: %s", (proposal, reason) => {
    expect(reasonOf(plain, proposal)).toContain(reason);
  });

  it("takes a guest for what its kernel was built with", () => {
    const supports = (id: string, kvm: "ready-error" | "inject-ve", guest: "today" | typeof kvm) =>
      supportsLinux(plain, proposalOf(id), { kvm, guest });
    expect(supports("sigbus-injection", "ready-error", "ready-error")).toEqual({ kind: "yes" });
    expect(supports("sigbus-injection", "ready-error", "today")).toMatchObject({
      reason: "no Linux understands an error in page-ready",
    });
    expect(supports("kvm-ve-injection", "inject-ve", "inject-ve")).toEqual({ kind: "yes" });
    expect(supports("apf-guest", "inject-ve", "inject-ve")).toMatchObject({
      reason: "this kernel has kvm=inject-ve",
    });
  });

  it("runs today's kernel, the fence, and every report that Linux gets in some way", () => {
    const run = proposals.filter(({ id }) => reasonOf(plain, id) === null).map(({ id }) => id);
    expect(run).toEqual([
      "apf-guest",
      "apf-loop",
      "no-hlt-exits",
      "no-hlt-exits-no-apf",
      "fence-exit",
      "pf-injection",
      "pf-injection-no-apf",
      "mce-injection",
      "mce-injection-no-apf",
      "nmi-injection",
      "remap-zero",
      "poison",
      "lease-fuse",
      "lease-kernel",
      "pre-content",
      "notify",
      "sealed",
    ]);
  });

  it.each([
    ["kernel-load-after-truncate", "apf-guest", "CPL 0"],
    ["kernel-read-without-fixup", "apf-guest", "not Linux's own"],
    ["load-after-truncate-interrupts-off", "apf-guest", "interrupts off"],
    ["nmi-before-reading-saved", "apf-guest", "its own"],
    ["load-of-swapped-page", "apf-guest", "mappings are shared"],
    ["virtio-fs/load-of-cached-page", "fence-exit", "virtio-fs: the fence has nothing to act on"],
    ["virtio-fs/load-of-cached-page", "remap-zero", "the fence has nothing"],
    ["virtio-fs/load-of-cached-page", "notify", "guard notify has nothing"],
    ["load-after-memory-failure", "poison", null],
    ["load-after-memory-failure-in-huge-page", "poison", "the file's or the guest's own RAM"],
    ["load-after-memory-failure-told-early", "poison", "leaves its mapping as it is"],
    ["load-after-unmap", "apf-guest", "leaves its mapping as it is"],
    ["hundred-tasks", "apf-guest", "at most 16"],
    ["load-again-after-regrow", "pf-injection", "no handler for SIGBUS"],
    ["load-again-after-regrow", "notify", "no handler for SIGBUS"],
    ["fetch-after-truncate", "remap-zero", "undefined|zeros mean"],
  ])("refuses %s under %s: %s", (scenario, proposal, reason) => {
    const found = reasonOf(named(scenario), proposal);
    if (reason === null) expect(found).toBeNull();
    else expect(found).toMatch(new RegExp(reason));
  });
});

describe("planLinux", () => {
  it("boots the guest as the proposal's guest is, and gives the case its policy", () => {
    const boot = (id: string) => planLinux(plain, proposalOf(id), place, kernel).boot;
    expect(boot("apf-guest")).toMatchObject({ cpus: 1, asyncPageFaults: "offered", hltInGuest: false });
    expect(boot("apf-loop").asyncPageFaults).toBe("hidden");
    expect(boot("mce-injection-no-apf").asyncPageFaults).toBe("hidden");
    expect(boot("no-hlt-exits")).toMatchObject({ asyncPageFaults: "offered", hltInGuest: true });
    const plan = planLinux(plain, proposalOf("pf-injection"), place, kernel);
    expect(plan).toMatchObject({ policy: "inject-pf", fence: true, mount: { options: "dax=always" } });
  });

  it.each([
    ["load-after-truncate", "virtio-fs", "virtiofs daxfault dax=always"],
    ["virtio-fs/load-of-cached-page", "virtio-fs", "virtiofs daxfault dax=never"],
    ["nvdimm/load-after-truncate", "virtio-pmem", "ext4 /dev/pmem0 dax=always"],
  ])("gives %s a %s device, mounted as %s", (id, device, mounted) => {
    const { boot, mount, attributeMs } = planLinux(named(id), proposalOf("apf-guest"), place, kernel);
    expect(boot.device).toBe(device);
    expect(`${mount.type} ${mount.source} ${mount.options}`).toBe(mounted);
    // On an emulated machine a step takes longer, and the guest must not learn anything meanwhile.
    expect(attributeMs).toBe(1000 * place.slowness);
  });

  it("boots a guest that has guests of its own with KVM in it, and no other", () => {
    const virtualization = (scenario: Scenario) =>
      planLinux(scenario, proposalOf("apf-guest"), place, kernel).boot.virtualization;
    const nested = named("load-in-nested-guest");
    expect(virtualization(plain)).toBe("hidden");
    expect(virtualization(nested)).toBe("offered");
    const { tasks } = planLinux(nested, proposalOf("apf-guest"), place, kernel);
    expect(tasks.map(({ program }) => program.nested)).toEqual([true, false]);
  });

  const beyondNested: readonly GuestStep[] = [
    { verb: "kernel-read", offset: 0x1000n, size: 8, options: [] },
    { verb: "load", offset: 0x1000n, size: 32 },
    { verb: "msync", offset: 0x1000n, size: 8 },
  ];
  it.each(beyondNested)("has no nested $verb", (step) => {
    const victim = { in: "guest-task", nested: true, steps: [step] } as const;
    expect(reasonOf(scenarioWith({ actors: { victim } }), "apf-guest")).toContain("the nested VM has no");
  });

  it("has the guest hold attributes for as long as the scenario says", () => {
    const timeout = (id: string) => planLinux(named(id), proposalOf("apf-guest"), place, kernel).attributeMs;
    expect(timeout("load-after-size-never-cached")).toBe(0);
    expect(timeout("load-after-size-always-cached")).toBe(86_400_000);
    expect(timeout("load-after-truncate")).toBe(1000 * place.slowness);
  });

  it("shares a boot among policies, and not among guests", () => {
    const boot = (id: string) => JSON.stringify(planLinux(plain, proposalOf(id), place, kernel).boot);
    expect(boot("pf-injection")).toBe(boot("mce-injection"));
    expect(boot("apf-guest")).toBe(boot("fence-exit"));
    expect(boot("apf-guest")).not.toBe(boot("apf-loop"));
  });
});
