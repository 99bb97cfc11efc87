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

/** Of one slot by hash_32(gfn, 6): the same window's pages 6 and 40. */
const collision = [0x40006n, 0x40028n];

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
  ["loop", "talk", when("load", today), ["+livelock", "-vm-stopped", "-wrong-victim"], "With async page faults possible, the guest retries for ever."],
  ["loop-told", "talk", when("load", {}), ["+livelock", "-vm-stopped"], "... also when the guest is told not-present and ready each time."],
  ["loop-two-vcpus", "inferred", when("two-vcpus", today), ["+livelock", "-vm-stopped"], "... on every vCPU that touches the page."],
  ["efault", "talk", when("load", { ...today, lapic: "user" }), ["+stopped-efault", "-hang"], "Without async page faults KVM_RUN returns -EFAULT and the VM is gone."],
  ["efault-if-off", "inferred", when("interrupts-off", {}), ["+stopped-efault", "-hang"], "With interrupts off it is -EFAULT too, whatever the APIC."],
  ["efault-hlt", "inferred", when("load", { ...today, exits: "hlt-in-guest" }), ["+stopped-efault", "-hang"], "Giving HLT to a guest without async page faults turns the loop into -EFAULT."],
  ["hlt-apf-loops", "inferred", when("load", { exits: "hlt-in-guest" }), ["+livelock", "-vm-stopped"], "... and changes nothing for one that uses them, as every Linux guest does: what can be delivered stays asynchronous."],
  ["efault-hlt-kernel", "inferred", when("copy-from-user", { exits: "hlt-in-guest" }), ["+stopped-efault", "-hang"], "... but for its kernel's own accesses, which it cannot be notified of."],
  ["efault-limit", "inferred", when("two-victims", {}, { asyncLimit: 1 }), ["+stopped-efault", "+livelock"], "A fault beyond the 64 outstanding ones is synchronous, hence -EFAULT; but those of lost pages last only until the worker has failed, so that it may loop for ever."],
  ["efault-limit-io", "inferred", when("limit-io", {}, { asyncLimit: 1 }), ["+stopped-efault", "+all-done"], "... and is met where they last: a lost page beside pages that need I/O."],
  ["kernel-mode-halts", "talk", when("copy-from-user", {}), ["+livelock", "-vm-stopped"], "A fault in guest kernel mode cannot be told: artificial halt, and the same loop."],
  ["memory-fault-loop", "inferred", when("load", { kvm: "memory-fault-exit" }), ["+livelock", "-vm-stopped"], "Filling in KVM_EXIT_MEMORY_FAULT does not end the loop: that path is never reached."],
  ["memory-fault-exit", "inferred", when("load", { kvm: "memory-fault-exit", lapic: "user" }), ["+stopped-memory-fault", "-hang"], "Where the fault is synchronous, it tells the VMM the address."],
  ["tmpfs-full", "inferred", when("tmpfs-full", {}), ["+livelock", "-vm-stopped"], "A full tmpfs loops in the same way, with no truncation at all."],
  ["poison-never-loops", "inferred", alone("hwpoison", { op: "load" }, { host: [{ op: "hwpoison", page: 0 }], guest: "apf" }), ["+sigbus-mceerr", "-hang"], "Hardware poison is tested before the async path: it never loops."],
  ["emulated", "inferred", alone("emulated", { op: "load", emulated: true }, { host: cut, guest: "apf" }), ["+stopped-mmio", "-livelock", "-stopped-efault"], "An emulated access becomes KVM_EXIT_MMIO for RAM, async page faults or not."],
  ["emulated-atomic", "inferred", alone("emulated-atomic", { op: "atomic", emulated: true }, { host: cut }), ["+stopped-mmio", "-stopped-internal-error", "-livelock"], "... an emulated atomic too: its read comes first."],
  ["emulated-fetch", "inferred", alone("emulated-fetch", { op: "fetch", emulated: true }, { host: cut }), ["+stopped-internal-error", "-stopped-mmio", "-livelock"], "... and an emulated instruction fetch an internal error."],
  ["no-stale-mapping", "inferred", when("two-vcpus", { kvm: "final-efault" }), ["+met-gone-page", "-stale-mapping"], "mmu_invalidate_seq keeps a dropped page from being mapped, in every order of events."],
  ["prefetch-no-stale-mapping", "inferred", when("load", {}, { pages: ["on-disk"] }), ["+met-gone-page", "+all-done", "-stale-mapping"], "... and page-ready, which maps its page on the way, is under the same check."],
  ["large-page-loop", "inferred", when("large-page", {}), ["+livelock", "-vm-stopped", "-stale-mapping"], "A 2 MiB mapping makes no difference to the loop."],
  ["large-page", "inferred", when("large-page", { kvm: "final-efault", vmm: "inject-pf", guest: "pv-error" }), ["+met-gone-page", "+all-done", "-stale-mapping", "-livelock", "-vm-stopped"], "Cutting off part of a 2 MiB range takes the guest's whole mapping; what is left of the file comes back by a fault."],
];

// biome-ignore format: a row a claim
const kernelProposals: readonly Row[] = [
  ["uniform", "talk", when("load", { kvm: "uniform-efault" }), ["+stopped-efault", "-hang"], "Goyal's hash makes both paths end in -EFAULT."],
  ["uniform-two", "disputed", when("two-victims", { kvm: "uniform-efault" }), ["+stopped-efault", "-hang"], "... with two faulting tasks too, as long as their gfns do not collide."],
  ["uniform-collision", "disputed", when("two-victims", { kvm: "uniform-efault" }, { gfns: collision }), ["+livelock"], "Two gfns of one slot, such as 0x40006 and 0x40028, overwrite each other for ever: the hash is a hint, not a bound."],
  ["uniform-nested", "inferred", when("nested", { kvm: "uniform-efault" }), ["+livelock"], "... and not where L2 faulted and L1 was told: the vCPU runs L1 when the page is ready, so that KVM does not try it, and learns of no failure."],
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
  ["ready-error-nested", "inferred", when("nested", { kvm: "ready-error", guest: "apf-error" }), ["+livelock", "-sigbus-adrerr", "-vm-stopped"], "An error in page-ready is of no use to L1 whose guest faulted: it waits in kernel mode."],
  ["ready-error-kernel", "talk", when("copy-from-user", { kvm: "ready-error", guest: "apf-error" }), ["+stopped-efault", "-efault-returned"], "It cannot report a kernel-mode fault: that ends in -EFAULT after all."],
];

// biome-ignore format: a row a claim
const events: readonly Row[] = [
  ["nmi-cr2", "talk", when("nmi-cr2", {}), ["+livelock"], "An NMI handler that faults and does not save CR2 loses the token: the task sleeps for ever. Linux saves it."],
  ["nmi-flags", "talk", when("nmi-flags", {}), ["+wrong-victim", "-panic"], "... or, in a guest whose fault inside the NMI resets the flags and goes on, the task dies of a fault at the token's address."],
  ["nmi-linux-5.8", "inferred", when("nmi-flags", {}, { nmi: "linux-5.8" }), ["+panic", "-wrong-victim", "-hang"], "A Linux guest since 5.8 panics instead: the fault inside takes the flags for its own, in an interrupt disabled region."],
  ["nmi-linux", "inferred", when("nmi-flags", {}, { nmi: "linux" }), ["+all-done", "-wrong-victim", "-hang", "-dead"], "... until the fix of 2026, which leaves the flags alone where the fault comes from inside an NMI."],
  ["nmi-saved", "talk", when("nmi-flags", {}, { nmi: "saved" }), ["+all-done", "-hang", "-wrong-victim"], "Saving both in the NMI handler closes the window."],
  ["by-ve", "disputed", when("nmi-flags", {}, { delivery: "ve", nmi: "linux-5.8" }), ["+all-done", "-wrong-victim", "-hang", "-dead"], "\"Not present\" by #VE is out of an NMI's reach: its token is in the information area, not in CR2 and the flags."],
  ["by-ve-cr2", "disputed", when("nmi-cr2", {}, { delivery: "ve" }), ["+all-done", "-wrong-victim", "-hang", "-dead"], "... whatever the NMI does to CR2."],
  ["by-mce", "disputed", when("nmi-cr2", {}, { delivery: "mce" }), ["+all-done", "-wrong-victim", "-hang", "-dead"], "... so it is by #MC, which has its bank."],
  ["by-interrupt", "disputed", when("nmi-cr2", {}, { delivery: "interrupt" }), ["+all-done", "-wrong-victim", "-hang", "-dead"], "... and by an interrupt that is taken before any other: the task that waits is the one that faulted."],
  ["by-ve-loop", "inferred", when("load", {}, { delivery: "ve" }), ["+livelock", "-vm-stopped"], "None of them ends the loop: the worker's result is dropped however the guest learns that it has to wait."],
  ["by-mce-loop", "inferred", when("load", {}, { delivery: "mce" }), ["+livelock", "-vm-stopped"], "... by #MC neither,"],
  ["by-interrupt-loop", "inferred", when("load", {}, { delivery: "interrupt" }), ["+livelock", "-vm-stopped"], "... nor by an interrupt."],
  ["by-mce-if-off", "inferred", when("interrupts-off", {}, { delivery: "mce" }), ["+stopped-efault", "-hang"], "... and with interrupts off the fault stays synchronous: a guest that may not schedule cannot wait, whatever could reach it."],
  ["send-always", "talk", alone("send-always", unschedulable, { ...legacy, sendAlways: true }), ["+panic"], "Send-always in a section that may not schedule kills the guest."],
  ["user-only", "talk", alone("user-only", unschedulable, legacy), ["+all-done", "-panic", "-hang"], "... which is why Linux asks for user mode only."],
  ["legacy-loop", "talk", when("load", { kvm: "legacy-pf" }), ["+livelock", "-vm-stopped"], "The protocol of 2010 has the same loop."],
  ["legacy-ready-uninjected", "inferred", when("copy-from-user", { kvm: "legacy-pf" }, { pages: ["on-disk"], host: [] }), ["+dummy-node-left", "+all-done", "-hang", "-dead"], "Before 5.8 a guest that was merely halted got a page-ready as well, and kept a node for a token that no task waits for."],
  ["ready-if-injected", "inferred", when("copy-from-user", {}, { pages: ["on-disk"], host: [] }), ["+all-done", "-dummy-node-left", "-hang", "-dead"], "... since 5.8 it gets one only if it had got \"not present\"."],
  ["ack", "talk", twoReads("ack"), ["+all-done", "-hang"], "Page-ready by interrupt loses no event as long as the guest acknowledges."],
  ["no-ack", "talk", twoReads("no ack"), ["+deadlock"], "... and does when it does not."],
  ["late-ready", "talk", when("killed", { kvm: "final-efault" }, { pages: ["on-disk"], host: [] }), ["+all-done", "-hang", "-wrong-victim"], "A killed task's late page-ready hurts nobody."],
  ["wake-all", "inferred", migrated("wake-all"), ["+all-done", "-hang"], "The wake-all broadcast wakes a sleeper whose page-ready stayed behind in a migration."],
  ["no-wake-all", "inferred", migrated("no wake-all"), ["+deadlock"], "... which would otherwise sleep for ever."],
  ["nested-halt", "talk", when("nested", {}, { vmexitDelivery: false }), ["+livelock", "-vm-stopped"], "Without delivery to L1, a fault of L2 halts, and loops."],
  ["nested-vmexit", "talk", when("nested", {}), ["+livelock", "-vm-stopped"], "With #PF VM exits, for which a Linux L1 asks, L1 can run something else, and the loop stays."],
  ["nested-io", "inferred", when("nested-io", {}), ["+ran-during-io", "+all-done", "-dead"], "... and a page of L2's that only needs I/O lets L1 run something else."],
  ["nested-io-halt", "inferred", when("nested-io", {}, { vmexitDelivery: false }), ["+all-done", "-ran-during-io", "-dead"], "... which it does not where L1 has not asked."],
  ["nested-early-ready", "inferred", alone("nested-early-ready", { op: "load", mode: "nested" }, { pages: ["on-disk"], guest: "apf" }), ["+all-done", "-hang", "-dead"], "Page ready may come before L1 waits for the token, interrupts being on: the dummy node keeps it."],
  ["nested-pf", "inferred", when("nested", { kvm: "final-efault", vmm: "inject-pf", guest: "pv-error" }), ["+livelock", "-sigbus", "-vm-stopped"], "A #PF that the VMM injects while L2 runs goes to L2, which knows nothing of it, and never to L1: the access goes round."],
  ["nested-ve", "inferred", when("nested", { kvm: "final-efault", vmm: "inject-ve", guest: "ve" }), ["+lost-report", "-sigbus", "-oops", "-panic", "-vm-stopped"], "... and a #VE of the VMM's kills L2: no error reaches L1."],
  ["nested-kvm-ve", "inferred", when("nested", { kvm: "inject-ve", guest: "ve" }), ["+sigbus-adrerr", "+all-done", "-hang", "-dead", "-lost-report"], "A #VE that KVM queues itself is subject to L1's interception, so that L1 can report it."],
  ["nested-mce", "inferred", when("nested", { lapic: "user", vmm: "inject-mce", guest: "mce-safe-loads" }), ["+sigbus-mceerr", "+all-done", "-hang", "-dead", "-lost-report"], "A machine check is queued by KVM, and KVM in L1 always intercepts it: its VMM gets SIGBUS."],
  ["nested-nmi", "inferred", when("nested", { lapic: "user", vmm: "nmi", guest: "pv-error" }), ["+sigbus-adrerr", "-hang", "-dead"], "An NMI is L1's, too."],
];

// biome-ignore format: a row a claim
const machineChecks: readonly Row[] = [
  ["mce-load", "talk", when("load", { kvm: "inject-mce", guest: "mce-safe-loads" }), ["+sigbus-mceerr", "-hang", "-dead"], "#MC as a hypervisor could: the task gets SIGBUS at its load."],
  ["mce-store", "inferred", when("store", { kvm: "inject-mce", guest: "mce-safe-loads" }), ["+sigbus-mceerr", "+all-done", "-imprecise", "-silent-data", "-hang", "-dead"], "... and at its store: a store to a page that is not mapped is an EPT violation, and has not retired."],
  ["mce-store-poison", "inferred", when("store", { kvm: "final-efault", vmm: "poison", guest: "mce-safe-loads" }), ["+sigbus-mceerr", "+all-done", "-imprecise", "-silent-data", "-hang", "-dead"], "... with UFFDIO_POISON, too: the marker is no memory, KVM finds -EHWPOISON at the fault of the store."],
  ["mce-load-hardware", "inferred", when("memory-error-load", { guest: "mce-safe-loads" }), ["+sigbus-mceerr", "+all-done", "-imprecise", "-silent-data", "-hang", "-dead"], "Memory that goes bad under a mapping is reported at the load that consumes it."],
  ["mce-store-hardware", "talk", when("memory-error-store", { guest: "mce-safe-loads" }), ["+imprecise", "+silent-data", "+sigbus-mceerr", "+all-done", "-hang", "-dead"], "#MC as hardware does it misses stores: the error is found later, if at all."],
  ["mce-unaware", "inferred", when("load", { kvm: "inject-mce", guest: "unaware" }), ["+stopped-triple-fault", "-sigbus", "-hang"], "A guest that has not set CR4.MCE ends in a triple fault."],
  ["mce-copy-to-user", "talk", when("copy-to-user", { kvm: "inject-mce", guest: "mce-safe-loads" }), ["+panic"], "A guest whose exception tables cover loads only panics in copy_to_user."],
  ["mce-copy-from-user", "talk", when("copy-from-user", { kvm: "inject-mce", guest: "mce-safe-loads" }), ["+efault-returned", "-dead"], "... and survives copy_from_user."],
  ["mce-safe-all", "talk", when("copy-to-user", { kvm: "inject-mce", guest: "mce-safe-all" }), ["+efault-returned", "-dead"], "A guest whose tables cover stores too survives both."],
  ["mce-read-virtiofs", "inferred", when("dax-read", { kvm: "inject-mce", guest: "mce-safe-loads" }), ["+panic"], "read(2) of a virtio-fs DAX file panics: its copy is not machine-check safe."],
  ["mce-read-pmem", "inferred", when("dax-read", { kvm: "inject-mce", guest: "mce-safe-loads" }, { daxCopies: "pmem" }), ["+efault-returned", "-dead"], "... and the same read(2) on pmem returns an error."],
  ["mce-permanent", "talk", when("regrown", { kvm: "inject-mce", guest: "mce-safe-loads" }), ["+refused-after-regrowth"], "Poison is permanent, truncation is not: a guest that remembers it refuses the page after regrowth (Linux its RAM, no DAX page)."],
  ["mce-no-address", "inferred", when("regrown", { kvm: "inject-mce", guest: "mce-safe-loads" }, { mceAddress: "unusable" }), ["+sigbus", "+all-done", "-refused-after-regrowth", "-dead"], "... unless the guest cannot use the bank's address, as on AMD without the poison bit: SIGBUS, and the page is not poisoned."],
  ["ve-reversible", "talk", when("regrown", { kvm: "inject-ve", guest: "ve" }), ["+all-done", "-refused-after-regrowth", "-dead"], "#VE leaves no such mark."],
  ["regrown-zeros", "inferred", when("regrown", { kvm: "inject-ve", guest: "ve" }), ["+all-done", "-value-after-regrowth", "-silent-data"], "What grows again is zeros, never the old bytes."],
  ["ve-kernel", "talk", when("copy-to-user", { kvm: "inject-ve", guest: "ve" }), ["+efault-returned", "-dead"], "#VE reports kernel-mode faults to the exception table."],
  ["pf-spurious", "inferred", when("load", { kvm: "final-efault", vmm: "inject-pf" }), ["+livelock"], "A #PF for a page that is not present tells today's Linux nothing: its own page tables have the page, and it goes round for ever."],
  ["pf-protection", "inferred", when("load", { kvm: "final-efault", vmm: "inject-pf" }, { pfErrorCode: "protection" }), ["+all-done", "-hang", "-sigbus", "-dead"], "... with bit P in the error code a load is an access error: SIGSEGV for the task, and nothing else happens."],
  ["pf-protection-store", "inferred", when("store", { kvm: "final-efault", vmm: "inject-pf" }, { pfErrorCode: "protection" }), ["+livelock"], "... and a store goes round all the same, since it may write there."],
  ["pf-kernel-address", "inferred", when("dax-read", { kvm: "final-efault", vmm: "inject-pf" }), ["+efault-returned", "+all-done", "-hang", "-dead"], "In read(2) of a DAX file the address is the kernel's, where only a write to a read-only page is spurious: the exception table ends it."],
  ["pf-copy-from-user", "inferred", when("copy-from-user", { kvm: "final-efault", vmm: "inject-pf" }), ["+livelock"], "... in a copy from the user's mapping it is the user's, and the copy goes round."],
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
