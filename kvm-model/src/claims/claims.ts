/**
 * The statements of the talk and the threads around it, each as a question that the explorer decides by itself.
 * A claim is a case and facts that must, or must not, be reachable in it. One row a claim.
 */
import type { Parts } from "../../../language/src/index.ts";
import type { ExploreOptions } from "../explore/explorer.ts";
import { type AccessStep, type ModelCase, modelCase } from "../model/case.ts";
import { collectFacts, type Fact, type Facts } from "../model/facts.ts";
import { guestModel } from "../model/model.ts";
import { caseOf, type Situation } from "./cases.ts";

export type Claim = {
  readonly id: string;
  readonly says: string;
  /** `talk`: said in 2020. `disputed`: claimed and contradicted in the threads. `inferred`: from reading code. */
  readonly kind: "talk" | "disputed" | "inferred";
  readonly of: ModelCase;
  /** Facts of model/facts.ts. */
  readonly reachable: readonly Fact[];
  readonly unreachable: readonly Fact[];
};

const today: Parts = {
  kvm: "today",
  exits: "kvm",
  vmm: "stop",
  guest: "unaware",
  server: "none",
  lapic: "kernel",
};
const apf: Parts = { ...today, guest: "apf" };

/** A situation at a point of the axes: by default as today, with a guest that uses async page faults. */
const when = (situation: Situation, parts: Partial<Parts>, more: Partial<ModelCase> = {}): ModelCase =>
  caseOf(situation, { ...apf, ...parts }, more);

/** One task, one access to one page. */
function alone(name: string, access: Omit<AccessStep, "page">, more: Partial<ModelCase>): ModelCase {
  const victim = { name: "victim", vcpu: 0, steps: [{ page: 0, ...access }] };
  return modelCase({ name, pages: ["resident"], tasks: [victim], ...more });
}

const cut = [{ op: "truncate", pages: 0 }] as const;
const unschedulable = { op: "dax-read", preemptible: false } as const;
const legacy = { pages: ["on-disk"], kvm: "legacy-pf", guest: "apf" } as const;

function twoReads(ack: "ack" | "no ack"): ModelCase {
  return modelCase({
    name: ack === "ack" ? "two-reads-ack" : "two-reads-no-ack",
    pages: ["on-disk", "on-disk"],
    tasks: [
      { name: "first", vcpu: 0, steps: [{ op: "load", page: 0 }] },
      { name: "second", vcpu: 0, steps: [{ op: "load", page: 1 }] },
    ],
    guest: "apf",
    ack: ack === "ack",
  });
}

function migrated(enabling: "wake-all" | "no wake-all"): ModelCase {
  const sleeper = { name: "sleeper", vcpu: 0, steps: [{ op: "load", page: 0 }], asleep: true } as const;
  const wakeAll = enabling === "wake-all";
  return modelCase({ name: "migrated", pages: ["on-disk"], tasks: [sleeper], guest: "apf", wakeAll });
}

const groups = {
  hang: ["livelock", "deadlock"],
  dead: ["vm-stopped", "oops", "panic"],
} as const satisfies Readonly<Record<string, readonly Fact[]>>;
type Group = keyof typeof groups;

/** `+`: must be reachable. `-`: must not be. */
type Sign = "+" | "-";
type Wanted = `${Sign}${Fact | Group}`;

type Row = readonly [id: string, kind: Claim["kind"], of: ModelCase, facts: readonly Wanted[], says: string];

// biome-ignore format: a row a claim
const faultPath: readonly Row[] = [
  ["loop", "talk", when("load", today), ["+livelock", "-vm-stopped"], "With async page faults possible, the guest retries for ever."],
  ["loop-told", "talk", when("load", {}), ["+livelock", "-vm-stopped"], "... also when the guest is told not-present and ready each time."],
  ["loop-two-vcpus", "inferred", when("two-vcpus", today), ["+livelock", "-vm-stopped"], "... on every vCPU that touches the page."],
  ["efault", "talk", when("load", { ...today, lapic: "user" }), ["+stopped-efault", "-hang"], "Without async page faults KVM_RUN returns -EFAULT and the VM is gone."],
  ["efault-if-off", "inferred", when("interrupts-off", {}), ["+stopped-efault", "-hang"], "With interrupts off it is -EFAULT too, whatever the APIC."],
  ["efault-hlt", "inferred", when("load", { ...today, exits: "hlt-in-guest" }), ["+stopped-efault", "-hang"], "Giving HLT to a guest without async page faults turns the loop into -EFAULT."],
  ["loop-hlt", "inferred", when("load", { exits: "hlt-in-guest" }), ["+livelock", "-vm-stopped"], "... and changes nothing for a guest that has enabled them, as Linux does."],
  ["efault-hlt-kernel", "inferred", when("copy-from-user", { exits: "hlt-in-guest" }), ["+stopped-efault", "-hang"], "... but for its kernel's own accesses, which it cannot be notified of."],
  ["efault-limit", "inferred", when("two-victims", {}, { asyncLimit: 1 }), ["+stopped-efault"], "The fault beyond the 64 outstanding ones is synchronous, hence -EFAULT."],
  ["kernel-mode-halts", "talk", when("copy-from-user", {}), ["+livelock", "-vm-stopped"], "A fault in guest kernel mode cannot be told: artificial halt, and the same loop."],
  ["memory-fault-loop", "inferred", when("load", { kvm: "memory-fault-exit" }), ["+livelock", "-vm-stopped"], "Filling in KVM_EXIT_MEMORY_FAULT does not end the loop: that path is never reached."],
  ["memory-fault-exit", "inferred", when("load", { kvm: "memory-fault-exit", lapic: "user" }), ["+stopped-memory-fault", "-hang"], "Where the fault is synchronous, it tells the VMM the address."],
  ["tmpfs-full", "inferred", when("tmpfs-full", {}), ["+livelock", "-vm-stopped"], "A full tmpfs loops in the same way, with no truncation at all."],
  ["poison-never-loops", "inferred", alone("hwpoison", { op: "load" }, { host: [{ op: "hwpoison", page: 0 }], guest: "apf" }), ["+sigbus-mceerr", "-hang"], "Hardware poison is tested before the async path: it never loops."],
  ["emulated", "inferred", alone("emulated", { op: "load", emulated: true }, { host: cut, guest: "apf" }), ["+stopped-mmio", "-livelock", "-stopped-efault"], "An emulated access becomes KVM_EXIT_MMIO for RAM, async page faults or not."],
  ["emulated-atomic", "inferred", alone("emulated-atomic", { op: "atomic", emulated: true }, { host: cut }), ["+stopped-mmio", "-stopped-internal-error", "-livelock"], "... an emulated atomic too: its read comes first."],
  ["emulated-fetch", "inferred", alone("emulated-fetch", { op: "fetch", emulated: true }, { host: cut }), ["+stopped-internal-error", "-stopped-mmio", "-livelock"], "... and an emulated instruction fetch an internal error."],
  ["no-stale-mapping", "inferred", when("two-vcpus", { kvm: "final-efault" }), ["+met-gone-page", "-stale-mapping"], "mmu_invalidate_seq keeps a dropped page from being mapped, in every order of events."],
  ["large-page-loop", "inferred", when("large-page", {}), ["+livelock", "-vm-stopped", "-stale-mapping"], "A 2 MiB mapping makes no difference to the loop."],
  ["large-page", "inferred", when("large-page", { kvm: "final-efault", vmm: "inject-pf", guest: "pv-error" }), ["+met-gone-page", "+all-done", "-stale-mapping", "-livelock", "-vm-stopped"], "Cutting off part of a 2 MiB range takes the guest's whole mapping; what is left of the file comes back by a fault."],
];

// biome-ignore format: a row a claim
const kernelProposals: readonly Row[] = [
  ["uniform", "talk", when("load", { kvm: "uniform-efault" }), ["+stopped-efault", "-hang"], "Goyal's hash makes both paths end in -EFAULT."],
  ["uniform-two", "disputed", when("two-victims", { kvm: "uniform-efault" }), ["+stopped-efault", "-hang"], "... with two faulting tasks too, as long as their gfns do not collide."],
  ["uniform-collision", "disputed", when("two-victims", { kvm: "uniform-efault" }, { errorSlots: 1 }), ["+livelock"], "Two gfns in one slot overwrite each other for ever: the hash is a hint, not a bound."],
  ["error-gfn-overwritten", "disputed", when("two-victims", { kvm: "error-gfn" }), ["+livelock"], "A single error_gfn is overwritten by a second faulting task, and both go round for ever."],
  ["error-pending-two", "disputed", when("two-victims", { kvm: "error-pending" }), ["+stopped-efault", "-hang"], "Kuznetsov's error_pending does not have that problem."],
  ["error-pending-stuck", "disputed", when("io-after-kill", { kvm: "error-pending" }), ["+apf-left-off"], "error_pending stays set after the faulting task is killed: async page faults are off for good."],
  ["exit-request-elsewhere", "disputed", when("load", { kvm: "exit-request" }), ["+exit-elsewhere", "-hang"], "Christopherson's exit request arrives while another task runs."],
  ["exit-request-wrong-victim", "disputed", when("two-victims", { kvm: "exit-request", vmm: "inject-mce" }), ["+wrong-victim"], "... so a VMM that injects there hits the wrong task."],
  ["final-efault", "inferred", when("two-victims", { kvm: "final-efault" }), ["+stopped-efault", "-hang", "-exit-elsewhere"], "Believing the lookup's -EFAULT ends the loop with no state to keep."],
  ["final-efault-keeps-apf", "inferred", when("only-io", { kvm: "final-efault" }), ["+ran-during-io", "+all-done", "-dead"], "... and a page that only needs I/O still goes the asynchronous way."],
  ["final-efault-io-error", "inferred", when("io-error", { kvm: "final-efault" }), ["+stopped-efault", "-hang"], "... and a page that cannot be read ends in -EFAULT on the second turn."],
  ["ready-error", "talk", when("two-victims", { kvm: "ready-error", guest: "apf-error" }), ["+sigbus-adrerr", "+all-done", "-hang", "-dead", "-wrong-victim"], "An error in page-ready gives the faulting task SIGBUS, and nobody else anything."],
  ["error-pending-reported", "disputed", when("two-victims", { kvm: "error-pending", vmm: "inject-ve", guest: "ve" }), ["+all-done", "-hang", "-apf-left-off"], "Once an error has been reported, error_pending lets async page faults go on."],
  ["uniform-reported", "inferred", when("two-victims", { kvm: "uniform-efault", vmm: "inject-ve", guest: "ve" }), ["+all-done", "-hang", "-error-gfn-left"], "Goyal's hash forgets a gfn as soon as its error has been reported."],
  ["ready-error-nested", "inferred", when("nested", { kvm: "ready-error", guest: "apf-error" }, { vmexitDelivery: true }), ["+livelock", "-sigbus-adrerr"], "An error in page-ready is of no use to L1 whose guest faulted: it waits in kernel mode."],
  ["ready-error-kernel", "talk", when("copy-from-user", { kvm: "ready-error", guest: "apf-error" }), ["+stopped-efault", "-efault-returned"], "It cannot report a kernel-mode fault: that ends in -EFAULT after all."],
];

// biome-ignore format: a row a claim
const events: readonly Row[] = [
  ["nmi-cr2", "talk", when("nmi-cr2", {}), ["+livelock"], "An NMI that faults before CR2 is read loses the token: the task sleeps for ever."],
  ["nmi-flags", "talk", when("nmi-flags", {}), ["+wrong-victim"], "... or eats the flags, and the task dies of a fault at the token's address."],
  ["nmi-saved", "talk", when("nmi-flags", {}, { nmi: "saved" }), ["+all-done", "-hang", "-wrong-victim"], "Saving both in the NMI handler closes the window."],
  ["send-always", "talk", alone("send-always", unschedulable, { ...legacy, sendAlways: true }), ["+panic"], "Send-always in a section that may not schedule kills the guest."],
  ["user-only", "talk", alone("user-only", unschedulable, legacy), ["+all-done", "-panic", "-hang"], "... which is why Linux asks for user mode only."],
  ["legacy-loop", "talk", when("load", { kvm: "legacy-pf" }), ["+livelock", "-vm-stopped"], "The protocol of 2010 has the same loop."],
  ["ack", "talk", twoReads("ack"), ["+all-done", "-hang"], "Page-ready by interrupt loses no event as long as the guest acknowledges."],
  ["no-ack", "talk", twoReads("no ack"), ["+deadlock"], "... and does when it does not."],
  ["late-ready", "talk", when("killed", { kvm: "final-efault" }, { pages: ["on-disk"], host: [] }), ["+all-done", "-hang", "-wrong-victim"], "A killed task's late page-ready hurts nobody."],
  ["wake-all", "inferred", migrated("wake-all"), ["+all-done", "-hang"], "The wake-all broadcast wakes a sleeper whose page-ready stayed behind in a migration."],
  ["no-wake-all", "inferred", migrated("no wake-all"), ["+deadlock"], "... which would otherwise sleep for ever."],
  ["nested-halt", "talk", when("nested", {}), ["+livelock", "-vm-stopped"], "Without delivery to L1, a fault of L2 halts, and loops."],
  ["nested-vmexit", "talk", when("nested", {}, { vmexitDelivery: true }), ["+livelock", "-vm-stopped"], "With #PF VM exits L1 can run something else, and the loop stays."],
];

// biome-ignore format: a row a claim
const machineChecks: readonly Row[] = [
  ["mce-load", "talk", when("load", { kvm: "inject-mce", guest: "mce-safe-loads" }), ["+sigbus-mceerr", "-hang", "-dead"], "#MC as a hypervisor could: the task gets SIGBUS at its load."],
  ["mce-store-hardware", "talk", when("store", { kvm: "inject-mce", guest: "mce-safe-loads" }, { machineCheck: "as-hardware" }), ["+imprecise", "+silent-data", "-sigbus-mceerr"], "#MC as hardware does it misses stores."],
  ["mce-copy-to-user", "talk", when("copy-to-user", { kvm: "inject-mce", guest: "mce-safe-loads" }), ["+panic"], "A guest whose exception tables cover loads only panics in copy_to_user."],
  ["mce-copy-from-user", "talk", when("copy-from-user", { kvm: "inject-mce", guest: "mce-safe-loads" }), ["+efault-returned", "-dead"], "... and survives copy_from_user."],
  ["mce-safe-all", "talk", when("copy-to-user", { kvm: "inject-mce", guest: "mce-safe-all" }), ["+efault-returned", "-dead"], "A guest whose tables cover stores too survives both."],
  ["mce-read-virtiofs", "inferred", when("dax-read", { kvm: "inject-mce", guest: "mce-safe-loads" }), ["+panic"], "read(2) of a virtio-fs DAX file panics: its copy is not machine-check safe."],
  ["mce-read-pmem", "inferred", when("dax-read", { kvm: "inject-mce", guest: "mce-safe-loads" }, { daxCopies: "pmem" }), ["+efault-returned", "-dead"], "... and the same read(2) on pmem returns an error."],
  ["mce-permanent", "talk", when("regrown", { kvm: "inject-mce", guest: "mce-safe-loads" }), ["+refused-after-regrowth"], "Poison is permanent, truncation is not: after regrowth the page stays refused."],
  ["ve-reversible", "talk", when("regrown", { kvm: "inject-ve", guest: "ve" }), ["+all-done", "-refused-after-regrowth", "-dead"], "#VE leaves no such mark."],
  ["regrown-zeros", "inferred", when("regrown", { kvm: "inject-ve", guest: "ve" }), ["+all-done", "-value-after-regrowth", "-silent-data"], "What grows again is zeros, never the old bytes."],
  ["ve-kernel", "talk", when("copy-to-user", { kvm: "inject-ve", guest: "ve" }), ["+efault-returned", "-dead"], "#VE reports kernel-mode faults to the exception table."],
  ["pf-spurious", "inferred", when("load", { kvm: "final-efault", vmm: "inject-pf" }), ["+livelock"], "A plain #PF tells today's Linux nothing: its mapping looks fine, and it goes round for ever."],
  ["pv-interrupt-if-off", "talk", when("interrupts-off", { kvm: "final-efault", vmm: "inject-pv", guest: "pv-error" }), ["+vm-stopped", "-livelock"], "An error interrupt cannot reach a guest with interrupts off: the VM stops."],
  ["nmi-if-off", "inferred", when("interrupts-off", { lapic: "user", vmm: "nmi", guest: "pv-error" }), ["+oops", "-livelock"], "An NMI can (gVisor's way); without an exception table entry the guest kernel oopses."],
];

// biome-ignore format: a row a claim
const guards: readonly Row[] = [
  ["lease-cooperating", "talk", when("through-server", { server: "fuse-lease" }), ["+sigbus-adrerr", "-met-gone-page", "-hang", "-dead"], "Leases hold among clients that go through the server."],
  ["lease-bypassed", "talk", when("load", { server: "fuse-lease" }), ["+livelock"], "... and fail when the host truncates the file directly."],
  ["kernel-lease", "talk", when("load", { server: "kernel-lease" }), ["+sigbus-adrerr", "-met-gone-page", "-hang", "-dead", "-host-delayed"], "The kernel's own lease stops a direct truncation too."],
  ["kernel-lease-open-fd", "inferred", when("through-open-fd", { server: "kernel-lease" }), ["+livelock"], "... but cannot be had while somebody has the file open for writing."],
  ["kernel-lease-45s", "inferred", when("unresponsive", { server: "kernel-lease" }), ["+host-delayed", "+livelock", "-host-stuck"], "A holder that does not answer delays the host by 45 s, and the truncation goes on."],
  ["pre-content", "inferred", when("load", { server: "pre-content" }), ["+sigbus-adrerr", "-met-gone-page", "-hang", "-dead"], "Permission events stop truncate(2)."],
  ["pre-content-o-trunc", "inferred", when("through-open-trunc", { server: "pre-content" }), ["+sigbus-adrerr", "-met-gone-page", "-hang", "-dead"], "... and open(O_TRUNC), if FAN_OPEN_PERM is asked for too."],
  ["pre-content-open-perm", "inferred", when("through-open-trunc", { server: "pre-content" }, { without: ["open-permission-asked"] }), ["+livelock"], "FAN_PRE_ACCESS alone does not see open(O_TRUNC)."],
  ["recall-by-vmm", "inferred", when("load", { server: "pre-content", vmm: "inject-pf", guest: "pv-error" }), ["+sigbus-adrerr", "-hang", "-dead"], "A VMM that takes the range away itself needs nothing of the guest but to understand the error."],
  ["notify-racy", "talk", when("load", { server: "notify", lapic: "user" }), ["+sigbus-adrerr", "+stopped-efault", "+met-gone-page"], "Notification after the fact is racy: the guest may be told, or the VM may be gone by then."],
  ["notify-ends-loop", "inferred", when("load", { server: "notify" }), ["+sigbus-adrerr", "+met-gone-page", "-hang", "-dead"], "... and with async page faults on it ends the loop, late."],
  ["sealed", "inferred", when("load", { server: "sealed" }), ["+host-denied", "+all-done", "-met-gone-page", "-hang", "-dead"], "A sealed file cannot be truncated: nobody ever meets a missing page."],
  ["fence", "inferred", when("load", { exits: "fence" }), ["+stopped-efault", "-hang"], "Unmapping the range in the VMM turns the endless loop into -EFAULT."],
  ["remap-zero", "inferred", when("load", { kvm: "final-efault", vmm: "remap-zero" }), ["+silent-data", "+all-done", "-hang"], "Zero pages in place of the file end it, and present zeros as data."],
  ["poison", "inferred", when("regrown", { kvm: "final-efault", vmm: "poison" }), ["+sigbus-mceerr", "+refused-after-regrowth", "-hang"], "Poisoned memory in place of the file gives SIGBUS, with the poison's permanence."],
];

function isGroup(name: Fact | Group): name is Group {
  return name in groups;
}

function signed(wanted: readonly Wanted[], sign: Sign): Fact[] {
  return wanted
    .filter((fact) => fact.startsWith(sign))
    .map((fact) => fact.slice(1) as Fact | Group)
    .flatMap((fact): readonly Fact[] => (isGroup(fact) ? groups[fact] : [fact]));
}

export const claims: readonly Claim[] = [
  ...faultPath,
  ...kernelProposals,
  ...events,
  ...machineChecks,
  ...guards,
].map(([id, kind, of, facts, says]) => ({
  id,
  says,
  kind,
  of,
  reachable: signed(facts, "+"),
  unreachable: signed(facts, "-"),
}));

export type ClaimVerdict = {
  readonly claim: Claim;
  /** `open`: a bound was met and no path contradicts the claim. */
  readonly verdict: "confirmed" | "refuted" | "open";
  /** Of each reachable fact: the shortest way to it. Of a refuted claim: the path that contradicts it. */
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
