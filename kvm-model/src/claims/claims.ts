/**
 * What the talk and the threads around it say, each as a question that the explorer decides by itself.
 * A claim is a case and facts that must, or must not, be reachable in it. `facts` are those of model/facts.ts.
 */
import type { ExploreOptions } from "../explore/explorer.ts";
import { type ModelCase, modelCase } from "../model/case.ts";
import { collectFacts, type Fact, type Facts } from "../model/facts.ts";
import { guestModel } from "../model/model.ts";
import { caseOf, type Parts, type Situation } from "./cases.ts";

export type Claim = {
  readonly id: string;
  readonly says: string;
  /** `talk`: said in 2020. `disputed`: claimed and contradicted in the threads. `inferred`: from reading code. */
  readonly kind: "talk" | "disputed" | "inferred";
  readonly of: ModelCase;
  readonly reachable: readonly Fact[];
  readonly unreachable: readonly Fact[];
};

const today: Parts = { kvm: "today", vmm: "stop", guest: "unaware", server: "none", lapic: "kernel" };
const apf: Parts = { ...today, guest: "apf" };
const hang: readonly Fact[] = ["livelock", "deadlock"];
const dead: readonly Fact[] = ["vm-stopped", "oops", "panic"];

function claim(
  id: string,
  kind: Claim["kind"],
  says: string,
  of: ModelCase,
  reachable: readonly Fact[],
  unreachable: readonly Fact[] = [],
): Claim {
  return { id, kind, says, of, reachable, unreachable };
}

const when = (situation: Situation, parts: Partial<Parts>, more: Partial<ModelCase> = {}): ModelCase =>
  caseOf(situation, { ...apf, ...parts }, more);

const faultPath: readonly Claim[] = [
  claim(
    "loop",
    "talk",
    "With async page faults possible, the guest retries for ever.",
    when("load", today),
    ["livelock"],
    ["vm-stopped"],
  ),
  claim(
    "loop-told",
    "talk",
    "... also when the guest is told not-present and ready each time.",
    when("load", {}),
    ["livelock"],
    ["vm-stopped"],
  ),
  claim(
    "loop-two-vcpus",
    "inferred",
    "... on every vCPU that touches the page.",
    when("two-vcpus", today),
    ["livelock"],
    ["vm-stopped"],
  ),
  claim(
    "efault",
    "talk",
    "Without async page faults KVM_RUN returns -EFAULT and the VM is gone.",
    when("load", { ...today, lapic: "user" }),
    ["stopped-efault"],
    hang,
  ),
  claim(
    "efault-if-off",
    "inferred",
    "With interrupts off it is -EFAULT too, whatever the APIC.",
    when("interrupts-off", {}),
    ["stopped-efault"],
    hang,
  ),
  claim(
    "efault-hlt",
    "inferred",
    "Giving HLT to a guest without async page faults turns the loop into -EFAULT.",
    when("load", { ...today, vmm: "no-hlt-exits" }),
    ["stopped-efault"],
    hang,
  ),
  claim(
    "efault-limit",
    "inferred",
    "The fault beyond the 64 outstanding ones is synchronous, hence -EFAULT.",
    when("two-victims", {}, { asyncLimit: 1 }),
    ["stopped-efault"],
  ),
  claim(
    "kernel-mode-halts",
    "talk",
    "A fault in guest kernel mode cannot be told: artificial halt, and the same loop.",
    when("copy-from-user", {}),
    ["livelock"],
    ["vm-stopped"],
  ),
  claim(
    "memory-fault-loop",
    "inferred",
    "Filling in KVM_EXIT_MEMORY_FAULT does not end the loop: that path is never reached.",
    when("load", { kvm: "memory-fault-exit" }),
    ["livelock"],
    ["vm-stopped"],
  ),
  claim(
    "memory-fault-exit",
    "inferred",
    "Where the fault is synchronous, it tells the VMM the address.",
    when("load", { kvm: "memory-fault-exit", lapic: "user" }),
    ["stopped-memory-fault"],
    hang,
  ),
  claim(
    "tmpfs-full",
    "inferred",
    "A full tmpfs loops in the same way, with no truncation at all.",
    when("tmpfs-full", {}),
    ["livelock"],
    ["vm-stopped"],
  ),
  claim(
    "poison-never-loops",
    "inferred",
    "Hardware poison is tested before the async path: it never loops.",
    modelCase({
      name: "hwpoison",
      pages: ["resident"],
      tasks: [{ name: "victim", vcpu: 0, steps: [{ op: "load", page: 0 }] }],
      host: [{ op: "hwpoison", page: 0 }],
      guest: "apf",
    }),
    ["sigbus-mceerr"],
    hang,
  ),
  claim(
    "emulated",
    "inferred",
    "An emulated access becomes KVM_EXIT_MMIO for RAM, async page faults or not.",
    modelCase({
      name: "emulated",
      pages: ["resident"],
      tasks: [{ name: "victim", vcpu: 0, steps: [{ op: "load", page: 0, emulated: true }] }],
      host: [{ op: "truncate", pages: 0 }],
      guest: "apf",
    }),
    ["stopped-mmio"],
    ["livelock", "stopped-efault"],
  ),
  claim(
    "emulated-atomic",
    "inferred",
    "... an emulated atomic too: its read comes first.",
    modelCase({
      name: "emulated-atomic",
      pages: ["resident"],
      tasks: [{ name: "victim", vcpu: 0, steps: [{ op: "atomic", page: 0, emulated: true }] }],
      host: [{ op: "truncate", pages: 0 }],
    }),
    ["stopped-mmio"],
    ["stopped-internal-error", "livelock"],
  ),
  claim(
    "emulated-fetch",
    "inferred",
    "... and an emulated instruction fetch an internal error.",
    modelCase({
      name: "emulated-fetch",
      pages: ["resident"],
      tasks: [{ name: "victim", vcpu: 0, steps: [{ op: "fetch", page: 0, emulated: true }] }],
      host: [{ op: "truncate", pages: 0 }],
    }),
    ["stopped-internal-error"],
    ["stopped-mmio", "livelock"],
  ),
  claim(
    "no-stale-mapping",
    "inferred",
    "mmu_invalidate_seq keeps a dropped page from being mapped, in every order of events.",
    when("two-vcpus", { kvm: "final-efault" }),
    ["met-gone-page"],
    ["stale-mapping"],
  ),
  claim(
    "large-page-loop",
    "inferred",
    "A 2 MiB mapping makes no difference to the loop.",
    when("large-page", {}),
    ["livelock"],
    ["vm-stopped", "stale-mapping"],
  ),
  claim(
    "large-page",
    "inferred",
    "Cutting off part of a 2 MiB range takes the guest's whole mapping; what is left of the file comes back by a fault.",
    when("large-page", { kvm: "final-efault", vmm: "inject-pf", guest: "pv-error" }),
    ["met-gone-page", "all-done"],
    ["stale-mapping", "livelock", "vm-stopped"],
  ),
];

const kernelProposals: readonly Claim[] = [
  claim(
    "uniform",
    "talk",
    "Goyal's hash makes both paths end in -EFAULT.",
    when("load", { kvm: "uniform-efault" }),
    ["stopped-efault"],
    hang,
  ),
  claim(
    "uniform-two",
    "disputed",
    "... with two faulting tasks too, as long as their gfns do not collide.",
    when("two-victims", { kvm: "uniform-efault" }),
    ["stopped-efault"],
    hang,
  ),
  claim(
    "uniform-collision",
    "disputed",
    "Two gfns in one slot overwrite each other for ever: the hash is a hint, not a bound.",
    when("two-victims", { kvm: "uniform-efault" }, { errorSlots: 1 }),
    ["livelock"],
  ),
  claim(
    "error-gfn-overwritten",
    "disputed",
    "A single error_gfn is overwritten by a second faulting task, and both go round for ever.",
    when("two-victims", { kvm: "error-gfn" }),
    ["livelock"],
  ),
  claim(
    "error-pending-two",
    "disputed",
    "Kuznetsov's error_pending does not have that problem.",
    when("two-victims", { kvm: "error-pending" }),
    ["stopped-efault"],
    hang,
  ),
  claim(
    "error-pending-stuck",
    "disputed",
    "error_pending stays set after the faulting task is killed: async page faults are off for good.",
    when("io-after-kill", { kvm: "error-pending" }),
    ["apf-left-off"],
  ),
  claim(
    "exit-request-elsewhere",
    "disputed",
    "Christopherson's exit request arrives while another task runs.",
    when("load", { kvm: "exit-request" }),
    ["exit-elsewhere"],
    hang,
  ),
  claim(
    "exit-request-wrong-victim",
    "disputed",
    "... so a VMM that injects there hits the wrong task.",
    when("two-victims", { kvm: "exit-request", vmm: "inject-mce" }),
    ["wrong-victim"],
  ),
  claim(
    "final-efault",
    "inferred",
    "Believing the lookup's -EFAULT ends the loop with no state to keep.",
    when("two-victims", { kvm: "final-efault" }),
    ["stopped-efault"],
    [...hang, "exit-elsewhere"],
  ),
  claim(
    "final-efault-keeps-apf",
    "inferred",
    "... and a page that only needs I/O still goes the asynchronous way.",
    when("only-io", { kvm: "final-efault" }),
    ["ran-during-io", "all-done"],
    dead,
  ),
  claim(
    "final-efault-io-error",
    "inferred",
    "... and a page that cannot be read ends in -EFAULT on the second turn.",
    when("io-error", { kvm: "final-efault" }),
    ["stopped-efault"],
    hang,
  ),
  claim(
    "ready-error",
    "talk",
    "An error in page-ready gives the faulting task SIGBUS, and nobody else anything.",
    when("two-victims", { kvm: "ready-error", guest: "apf-error" }),
    ["sigbus-adrerr", "all-done"],
    [...hang, ...dead, "wrong-victim"],
  ),
  claim(
    "error-pending-reported",
    "disputed",
    "Once an error has been reported, error_pending lets async page faults go on.",
    when("two-victims", { kvm: "error-pending", vmm: "inject-ve", guest: "ve" }),
    ["all-done"],
    [...hang, "apf-left-off"],
  ),
  claim(
    "uniform-reported",
    "inferred",
    "Goyal's hash forgets a gfn as soon as its error has been reported.",
    when("two-victims", { kvm: "uniform-efault", vmm: "inject-ve", guest: "ve" }),
    ["all-done"],
    [...hang, "error-gfn-left"],
  ),
  claim(
    "ready-error-nested",
    "inferred",
    "An error in page-ready is of no use to L1 whose guest faulted: it waits in kernel mode.",
    when("nested", { kvm: "ready-error", guest: "apf-error" }, { vmexitDelivery: true }),
    ["livelock"],
    ["sigbus-adrerr"],
  ),
  claim(
    "ready-error-kernel",
    "talk",
    "It cannot report a kernel-mode fault: that ends in -EFAULT after all.",
    when("copy-from-user", { kvm: "ready-error", guest: "apf-error" }),
    ["stopped-efault"],
    ["efault-returned"],
  ),
];

const events: readonly Claim[] = [
  claim(
    "nmi-cr2",
    "talk",
    "An NMI that faults before CR2 is read loses the token: the task sleeps for ever.",
    when("nmi-cr2", {}),
    ["livelock"],
  ),
  claim(
    "nmi-flags",
    "talk",
    "... or eats the flags, and the task dies of a fault at the token's address.",
    when("nmi-flags", {}),
    ["wrong-victim"],
  ),
  claim(
    "nmi-saved",
    "talk",
    "Saving both in the NMI handler closes the window.",
    when("nmi-flags", {}, { nmi: "saved" }),
    ["all-done"],
    [...hang, "wrong-victim"],
  ),
  claim(
    "send-always",
    "talk",
    "Send-always in a section that may not schedule kills the guest.",
    modelCase({
      name: "send-always",
      pages: ["on-disk"],
      kvm: "legacy-pf",
      guest: "apf",
      sendAlways: true,
      tasks: [{ name: "victim", vcpu: 0, steps: [{ op: "dax-read", page: 0, preemptible: false }] }],
    }),
    ["panic"],
  ),
  claim(
    "user-only",
    "talk",
    "... which is why Linux asks for user mode only.",
    modelCase({
      name: "user-only",
      pages: ["on-disk"],
      kvm: "legacy-pf",
      guest: "apf",
      tasks: [{ name: "victim", vcpu: 0, steps: [{ op: "dax-read", page: 0, preemptible: false }] }],
    }),
    ["all-done"],
    ["panic", ...hang],
  ),
  claim(
    "legacy-loop",
    "talk",
    "The protocol of 2010 has the same loop.",
    when("load", { kvm: "legacy-pf" }),
    ["livelock"],
    ["vm-stopped"],
  ),
  claim(
    "ack",
    "talk",
    "Page-ready by interrupt loses no event as long as the guest acknowledges.",
    twoReads(true),
    ["all-done"],
    hang,
  ),
  claim("no-ack", "talk", "... and does when it does not.", twoReads(false), ["deadlock"]),
  claim(
    "late-ready",
    "talk",
    "A killed task's late page-ready hurts nobody.",
    when("killed", { kvm: "final-efault" }, { pages: ["on-disk"], host: [] }),
    ["all-done"],
    [...hang, "wrong-victim"],
  ),
  claim(
    "wake-all",
    "inferred",
    "The wake-all broadcast wakes a sleeper whose page-ready stayed behind in a migration.",
    migrated(true),
    ["all-done"],
    hang,
  ),
  claim("no-wake-all", "inferred", "... which would otherwise sleep for ever.", migrated(false), [
    "deadlock",
  ]),
  claim(
    "nested-halt",
    "talk",
    "Without delivery to L1, a fault of L2 halts, and loops.",
    when("nested", {}),
    ["livelock"],
    ["vm-stopped"],
  ),
  claim(
    "nested-vmexit",
    "talk",
    "With #PF VM exits L1 can run something else, and the loop stays.",
    when("nested", {}, { vmexitDelivery: true }),
    ["livelock"],
    ["vm-stopped"],
  ),
];

function twoReads(ack: boolean): ModelCase {
  return modelCase({
    name: ack ? "two-reads-ack" : "two-reads-no-ack",
    pages: ["on-disk", "on-disk"],
    tasks: [
      { name: "first", vcpu: 0, steps: [{ op: "load", page: 0 }] },
      { name: "second", vcpu: 0, steps: [{ op: "load", page: 1 }] },
    ],
    guest: "apf",
    ack,
  });
}

function migrated(wakeAll: boolean): ModelCase {
  const sleeper = { name: "sleeper", vcpu: 0, steps: [{ op: "load", page: 0 }], asleep: true } as const;
  return modelCase({ name: "migrated", pages: ["on-disk"], tasks: [sleeper], guest: "apf", wakeAll });
}

const machineChecks: readonly Claim[] = [
  claim(
    "mce-load",
    "talk",
    "#MC as a hypervisor could: the task gets SIGBUS at its load.",
    when("load", { kvm: "inject-mce", guest: "mce-safe-loads" }),
    ["sigbus-mceerr"],
    [...hang, ...dead],
  ),
  claim(
    "mce-store-hardware",
    "talk",
    "#MC as hardware does it misses stores.",
    when("store", { kvm: "inject-mce", guest: "mce-safe-loads" }, { machineCheck: "as-hardware" }),
    ["imprecise", "silent-data"],
    ["sigbus-mceerr"],
  ),
  claim(
    "mce-copy-to-user",
    "talk",
    "A guest whose exception tables cover loads only panics in copy_to_user.",
    when("copy-to-user", { kvm: "inject-mce", guest: "mce-safe-loads" }),
    ["panic"],
  ),
  claim(
    "mce-copy-from-user",
    "talk",
    "... and survives copy_from_user.",
    when("copy-from-user", { kvm: "inject-mce", guest: "mce-safe-loads" }),
    ["efault-returned"],
    dead,
  ),
  claim(
    "mce-safe-all",
    "talk",
    "A guest whose tables cover stores too survives both.",
    when("copy-to-user", { kvm: "inject-mce", guest: "mce-safe-all" }),
    ["efault-returned"],
    dead,
  ),
  claim(
    "mce-read-virtiofs",
    "inferred",
    "read(2) of a virtio-fs DAX file panics: its copy is not machine-check safe.",
    when("dax-read", { kvm: "inject-mce", guest: "mce-safe-loads" }),
    ["panic"],
  ),
  claim(
    "mce-read-pmem",
    "inferred",
    "... and the same read(2) on pmem returns an error.",
    when("dax-read", { kvm: "inject-mce", guest: "mce-safe-loads" }, { daxCopies: "pmem" }),
    ["efault-returned"],
    dead,
  ),
  claim(
    "mce-permanent",
    "talk",
    "Poison is permanent, truncation is not: after regrowth the page stays refused.",
    when("regrown", { kvm: "inject-mce", guest: "mce-safe-loads" }),
    ["refused-after-regrowth"],
  ),
  claim(
    "ve-reversible",
    "talk",
    "#VE leaves no such mark.",
    when("regrown", { kvm: "inject-ve", guest: "ve" }),
    ["all-done"],
    ["refused-after-regrowth", ...dead],
  ),
  claim(
    "regrown-zeros",
    "inferred",
    "What grows again is zeros, never the old bytes.",
    when("regrown", { kvm: "inject-ve", guest: "ve" }),
    ["all-done"],
    ["value-after-regrowth", "silent-data"],
  ),
  claim(
    "ve-kernel",
    "talk",
    "#VE reports kernel-mode faults to the exception table.",
    when("copy-to-user", { kvm: "inject-ve", guest: "ve" }),
    ["efault-returned"],
    dead,
  ),
  claim(
    "pf-spurious",
    "inferred",
    "A plain #PF tells today's Linux nothing: its mapping looks fine, and it goes round for ever.",
    when("load", { kvm: "final-efault", vmm: "inject-pf" }),
    ["livelock"],
  ),
  claim(
    "pv-interrupt-if-off",
    "talk",
    "An error interrupt cannot reach a guest with interrupts off: the VM stops.",
    when("interrupts-off", { kvm: "final-efault", vmm: "inject-pv", guest: "pv-error" }),
    ["vm-stopped"],
    ["livelock"],
  ),
  claim(
    "nmi-if-off",
    "inferred",
    "An NMI can (gVisor's way); without an exception table entry the guest kernel oopses.",
    when("interrupts-off", { lapic: "user", vmm: "nmi", guest: "pv-error" }),
    ["oops"],
    ["livelock"],
  ),
];

const guards: readonly Claim[] = [
  claim(
    "lease-cooperating",
    "talk",
    "Leases hold among clients that go through the server.",
    when("through-server", { server: "fuse-lease" }),
    ["sigbus-adrerr"],
    ["met-gone-page", ...hang, ...dead],
  ),
  claim(
    "lease-bypassed",
    "talk",
    "... and fail when the host truncates the file directly.",
    when("load", { server: "fuse-lease" }),
    ["livelock"],
  ),
  claim(
    "kernel-lease",
    "talk",
    "The kernel's own lease stops a direct truncation too.",
    when("load", { server: "kernel-lease" }),
    ["sigbus-adrerr"],
    ["met-gone-page", ...hang, ...dead, "host-delayed"],
  ),
  claim(
    "kernel-lease-open-fd",
    "inferred",
    "... but cannot be had while somebody has the file open for writing.",
    when("through-open-fd", { server: "kernel-lease" }),
    ["livelock"],
  ),
  claim(
    "kernel-lease-45s",
    "inferred",
    "A holder that does not answer delays the host by 45 s, and the truncation goes on.",
    when("unresponsive", { server: "kernel-lease" }),
    ["host-delayed", "livelock"],
    ["host-stuck"],
  ),
  claim(
    "pre-content",
    "inferred",
    "Permission events stop truncate(2).",
    when("load", { server: "pre-content" }),
    ["sigbus-adrerr"],
    ["met-gone-page", ...hang, ...dead],
  ),
  claim(
    "pre-content-o-trunc",
    "inferred",
    "... and open(O_TRUNC), if FAN_OPEN_PERM is asked for too.",
    when("through-open-trunc", { server: "pre-content" }),
    ["sigbus-adrerr"],
    ["met-gone-page", ...hang, ...dead],
  ),
  claim(
    "pre-content-open-perm",
    "inferred",
    "FAN_PRE_ACCESS alone does not see open(O_TRUNC).",
    when("through-open-trunc", { server: "pre-content" }, { without: ["open-permission-asked"] }),
    ["livelock"],
  ),
  claim(
    "recall-by-vmm",
    "inferred",
    "A VMM that takes the range away itself needs nothing of the guest but to understand the error.",
    when("load", { server: "pre-content", vmm: "inject-pf", guest: "pv-error" }),
    ["sigbus-adrerr"],
    [...hang, ...dead],
  ),
  claim(
    "notify-racy",
    "talk",
    "Notification after the fact is racy: the guest may be told, or the VM may be gone by then.",
    when("load", { server: "notify", lapic: "user" }),
    ["sigbus-adrerr", "stopped-efault", "met-gone-page"],
  ),
  claim(
    "notify-ends-loop",
    "inferred",
    "... and with async page faults on it ends the loop, late.",
    when("load", { server: "notify" }),
    ["sigbus-adrerr", "met-gone-page"],
    [...hang, ...dead],
  ),
  claim(
    "sealed",
    "inferred",
    "A sealed file cannot be truncated: nobody ever meets a missing page.",
    when("load", { server: "sealed" }),
    ["host-denied", "all-done"],
    ["met-gone-page", ...hang, ...dead],
  ),
  claim(
    "fence",
    "inferred",
    "Unmapping the range in the VMM turns the endless loop into -EFAULT.",
    when("load", { vmm: "fence" }),
    ["stopped-efault"],
    hang,
  ),
  claim(
    "remap-zero",
    "inferred",
    "Zero pages in place of the file end it, and present zeros as data.",
    when("load", { kvm: "final-efault", vmm: "remap-zero" }),
    ["silent-data", "all-done"],
    hang,
  ),
  claim(
    "poison",
    "inferred",
    "Poisoned memory in place of the file gives SIGBUS, with the poison's permanence.",
    when("regrown", { kvm: "final-efault", vmm: "poison" }),
    ["sigbus-mceerr", "refused-after-regrowth"],
    hang,
  ),
];

export const claims: readonly Claim[] = [
  ...faultPath,
  ...kernelProposals,
  ...events,
  ...machineChecks,
  ...guards,
];

export type ClaimVerdict = {
  readonly claim: Claim;
  /** `open`: a bound was met and nothing speaks against the claim. */
  readonly verdict: "confirmed" | "refuted" | "open";
  /** Of each reachable fact: the shortest way to it. Of a refuted claim: what speaks against it. */
  readonly tokens: Readonly<Record<string, string>>;
  readonly missing: readonly Fact[];
  readonly facts: Facts;
};

export function decideClaim(claim: Claim, options: Partial<ExploreOptions> = {}): ClaimVerdict {
  const { facts } = collectFacts(guestModel(claim.of), options);
  const missing = claim.reachable.filter((fact) => facts.found[fact] === null);
  const against = claim.unreachable.filter((fact) => facts.found[fact] !== null);
  const shown = [...claim.reachable, ...against];
  const tokens = Object.fromEntries(
    shown.flatMap((fact) => (facts.found[fact] === null ? [] : [[fact, facts.found[fact]?.token ?? ""]])),
  );
  const exhaustive = facts.exhaustiveness.kind === "exhaustive";
  const refuted = against.length > 0 || (missing.length > 0 && exhaustive);
  const verdict = refuted ? "refuted" : exhaustive ? "confirmed" : "open";
  return { claim, verdict, tokens, missing: [...missing, ...against], facts };
}
