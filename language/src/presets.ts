/**
 * The proposals that people talk about: points on the four axes and where the local APIC lives, in the order of the
 * tables' columns. One list for every engine: a name means the same in the model and on a real kernel. To add a
 * proposal, add a line. Grouped by who would have to change; a kernel proposal runs in the model until a kernel has it.
 */
import type { Answer } from "./answers.ts";
import type { Parts } from "./axes.ts";
import type { Proposal } from "./proposal.ts";

export type Preset = Parts & {
  readonly id: string;
  /** One line. */
  readonly title: string;
  /** What the pair of VMM and guest, or the KVM proposed, does with a fault that cannot be resolved. */
  readonly answer: Answer;
};

function preset(id: string, answer: Answer, title: string, parts: Parts): Preset {
  return { ...parts, id, title, answer };
}

/** KVM_RUN returns -EFAULT: without an in-kernel APIC there are no asynchronous page faults (kvm_can_do_async_pf()). */
const exits: Parts = {
  kvm: "today",
  exits: "kvm",
  vmm: "stop",
  guest: "unaware",
  server: "none",
  lapic: "user",
};
/** The same machine with the APIC in the kernel, where the error is dropped. */
const loops: Parts = { ...exits, lapic: "kernel" };
/** ... and a guest that has enabled async page faults, as Linux does. */
const apfGuest: Parts = { ...loops, guest: "apf" };

/** A VMM that takes a range away when a guard recalls it (PROT_NONE), and injects #PF into the guest where it is touched. */
const recalled: Parts = { ...loops, vmm: "inject-pf", guest: "pv-error" };

/** Kernels of today, and before 5.8. */
const stock: readonly Preset[] = [
  preset(
    "efault-exit",
    "exits",
    "No asynchronous page fault possible (no in-kernel APIC): KVM_RUN returns -EFAULT.",
    exits,
  ),
  preset(
    "apf-loop",
    "loops",
    "In-kernel APIC, interrupts on, guest never enabled async page faults: KVM drops the error.",
    loops,
  ),
  preset(
    "apf-guest",
    "loops",
    "The same, and the guest has enabled async page faults: it is told not-present and ready in turn.",
    apfGuest,
  ),
  preset("legacy-pf", "loops", "The protocol before 5.8: both events by #PF.", {
    ...apfGuest,
    kvm: "legacy-pf",
  }),
];

/** Changes of the VMM, possible today. */
const byVmm: readonly Preset[] = [
  preset(
    "no-hlt-exits",
    "exits",
    "The VMM gives HLT to the guest (KVM_CAP_X86_DISABLE_EXITS): the loop becomes -EFAULT.",
    { ...loops, exits: "hlt-in-guest" },
  ),
  preset("pf-injection", "reports", "At the -EFAULT exit the VMM injects #PF with the real address.", {
    ...exits,
    vmm: "inject-pf",
    guest: "pv-error",
  }),
  preset(
    "mce-injection",
    "machine-check",
    "At the -EFAULT exit the VMM injects a machine check, as for poisoned memory.",
    {
      ...exits,
      vmm: "inject-mce",
      guest: "mce-safe-loads",
    },
  ),
  preset("ve-injection", "reports", "At the -EFAULT exit the VMM injects #VE with its information area.", {
    ...exits,
    vmm: "inject-ve",
    guest: "ve",
  }),
  preset("pv-injection", "reports", "At the -EFAULT exit the VMM sends a paravirtual error interrupt.", {
    ...exits,
    vmm: "inject-pv",
    guest: "pv-error",
  }),
  preset("nmi-injection", "reports", "At the -EFAULT exit the VMM sends an NMI, as gVisor does.", {
    ...exits,
    vmm: "nmi",
    guest: "pv-error",
  }),
  preset("remap-zero", "zeros", "At the -EFAULT exit the VMM maps fresh zeros in place of the lost page.", {
    ...exits,
    vmm: "remap-zero",
  }),
  preset(
    "poison",
    "machine-check",
    "At the -EFAULT exit the VMM maps a poisoned page; KVM's BUS_MCEERR_AR becomes a machine check.",
    { ...exits, vmm: "poison", guest: "mce-safe-loads" },
  ),
  preset(
    "fence",
    "reports",
    "The VMM watches the file and makes what is lost PROT_NONE: the loop becomes an exit, then #PF.",
    { ...loops, exits: "fence", vmm: "inject-pf", guest: "pv-error" },
  ),
  preset(
    "fence-mce",
    "machine-check",
    "The fence, and a machine check for a guest that knows nothing else.",
    {
      ...loops,
      exits: "fence",
      vmm: "inject-mce",
      guest: "mce-safe-loads",
    },
  ),
  preset(
    "fence-apf",
    "reports",
    "The fence, and #PF for a guest that uses async page faults and takes it for an error.",
    {
      ...apfGuest,
      exits: "fence",
      vmm: "inject-pf",
      guest: "apf-error",
    },
  ),
];

/** Changes of KVM, alone or with the guest. */
const byKvm: readonly Preset[] = [
  preset(
    "uniform-efault",
    "exits",
    "Goyal v4: KVM keeps a hash of 64 gfns that failed; the retry returns -EFAULT.",
    {
      ...apfGuest,
      kvm: "uniform-efault",
    },
  ),
  preset("error-gfn", "exits", "Goyal's RFC: KVM keeps one gfn that failed.", {
    ...apfGuest,
    kvm: "error-gfn",
  }),
  preset(
    "error-pending",
    "exits",
    "Kuznetsov: async page faults stay off until the error has been reported.",
    {
      ...apfGuest,
      kvm: "error-pending",
    },
  ),
  preset("exit-request", "exits", "Christopherson: KVM_RUN returns as soon as the error is known.", {
    ...apfGuest,
    kvm: "exit-request",
  }),
  preset(
    "final-efault",
    "exits",
    "The first lookup's -EFAULT is final; only a page that needs I/O goes async.",
    {
      ...apfGuest,
      kvm: "final-efault",
    },
  ),
  preset("memory-fault-exit", "loops", "Moorthy: KVM_EXIT_MEMORY_FAULT is filled in at the -EFAULT exit.", {
    ...apfGuest,
    kvm: "memory-fault-exit",
  }),
  preset(
    "sigbus-injection",
    "reports",
    "Goyal's RFC: error flag in the page-ready event, the guest sends SIGBUS.",
    {
      ...apfGuest,
      kvm: "ready-error",
      guest: "apf-error",
    },
  ),
  preset(
    "kvm-mce-injection",
    "machine-check",
    "KVM injects #MC; the guest's exception tables cover loads, as Linux's do.",
    {
      ...apfGuest,
      kvm: "inject-mce",
      guest: "mce-safe-loads",
    },
  ),
  preset(
    "kvm-mce-safe-all",
    "machine-check",
    "KVM injects #MC; the guest's exception tables cover stores too.",
    {
      ...apfGuest,
      kvm: "inject-mce",
      guest: "mce-safe-all",
    },
  ),
  preset("kvm-ve-injection", "reports", "KVM injects #VE.", { ...apfGuest, kvm: "inject-ve", guest: "ve" }),
  preset(
    "final-efault-pf",
    "reports",
    "Final -EFAULT in KVM, and the VMM injects #PF that the guest understands.",
    {
      ...apfGuest,
      kvm: "final-efault",
      vmm: "inject-pf",
      guest: "pv-error",
    },
  ),
  preset("final-efault-mce", "machine-check", "Final -EFAULT in KVM, and the VMM injects a machine check.", {
    ...apfGuest,
    kvm: "final-efault",
    vmm: "inject-mce",
    guest: "mce-safe-loads",
  }),
  preset("final-efault-pv", "reports", "Final -EFAULT in KVM, and the VMM sends an error interrupt.", {
    ...apfGuest,
    kvm: "final-efault",
    vmm: "inject-pv",
    guest: "pv-error",
  }),
];

/** Changes of the file server, which prevent the loss. */
const byServer: readonly Preset[] = [
  preset(
    "lease-fuse",
    "recalls",
    "The file server's own leases: a truncation through it waits until the VMM has taken the range away.",
    { ...recalled, server: "fuse-lease" },
  ),
  preset(
    "lease-kernel",
    "recalls",
    "F_SETLEASE: the kernel holds up whoever opens or truncates the file by path.",
    {
      ...recalled,
      server: "kernel-lease",
    },
  ),
  preset(
    "pre-content",
    "recalls",
    "fanotify permission events: the kernel asks before the file gets shorter.",
    {
      ...recalled,
      server: "pre-content",
    },
  ),
  preset(
    "notify",
    "recalls",
    "inotify or fanotify: the VMM is told after the fact, and takes the range away then.",
    {
      ...recalled,
      server: "notify",
    },
  ),
  preset(
    "sealed",
    "seals",
    "The guest maps a sealed copy (memfd, F_SEAL_SHRINK), which nobody can make shorter.",
    {
      ...loops,
      server: "sealed",
    },
  ),
];

export const presets: readonly Preset[] = [...stock, ...byVmm, ...byKvm, ...byServer];

export function presetOf(id: string): Preset | null {
  return presets.find((candidate) => candidate.id === id) ?? null;
}

/** The expected result for a process: the yardstick. */
const native: Answered = {
  id: "native",
  title: "No VM: a process of the host maps the file. What a guest process ought to see.",
  answer: "signals",
  kvm: "none",
  exits: "none",
  vmm: "none",
  guest: "none",
  server: "none",
  lapic: null,
};

type Answered = Proposal & { readonly answer: Answer };

const answered: readonly Answered[] = [native, ...presets];

/** All proposals, in the order of the table's columns. The ids are the names in discussions. */
export const proposals: readonly Proposal[] = answered.map(({ answer: _answer, ...proposal }) => proposal);

const answersById: ReadonlyMap<string, Answer> = new Map(answered.map(({ id, answer }) => [id, answer]));

/** null for a proposal of the user's own. */
export function answerOf(id: string): Answer | null {
  return answersById.get(id) ?? null;
}
