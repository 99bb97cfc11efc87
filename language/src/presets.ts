/**
 * The proposals that people talk about: points on the axes, in the order of the tables. One list for every engine: a name
 * means the same in the model and on a real kernel. To add a proposal, add a line. Grouped by who would have to change; a
 * kernel proposal runs in the model until a kernel has it.
 *
 * A row has the guest that people run: async page faults enabled, the APIC in the kernel (QEMU 11 has no other). Another
 * guest is a variant, named after its row: `-no-apf` has them off, `-user-apic` the APIC in the VMM.
 */
import type { Answer } from "./answers.ts";
import { type GuestPart, type KvmPart, kvmParts, type Parts } from "./axes.ts";
import type { Proposal } from "./proposal.ts";

export type Preset = Parts & {
  readonly id: string;
  /** One line. */
  readonly title: string;
  /** What the pair of VMM and guest, or the KVM proposed, does with a fault that cannot be resolved. */
  readonly answer: Answer;
  /** The row that this is a variant of, with another guest or another place for the APIC; null: a row of its own. */
  readonly variantOf: string | null;
};

/** Today's KVM, a VMM that stops, a Linux guest. */
const today: Parts = {
  kvm: "today",
  exits: "kvm",
  vmm: "stop",
  guest: "apf",
  server: "none",
  lapic: "kernel",
};

function preset(id: string, answer: Answer, title: string, changes: Partial<Parts>): Preset {
  return { ...today, ...changes, id, title, answer, variantOf: null };
}

/** The same guest with async page faults off. */
const withoutApf: Readonly<Partial<Record<GuestPart, GuestPart>>> = {
  apf: "unaware",
  "pv-error": "pv-error-no-apf",
  "mce-safe-loads": "mce-safe-loads-no-apf",
  ve: "ve-no-apf",
};

function noApf(row: Preset, title: string, answer: Answer = row.answer): Preset {
  const guest = withoutApf[row.guest];
  if (guest === undefined) throw new Error(`${row.id}: no guest is ${row.guest} without async page faults`);
  return { ...row, id: `${row.id}-no-apf`, title, answer, guest, variantOf: row.id };
}

/** KVM_RUN returns -EFAULT by itself: without an APIC in the kernel no fault is asynchronous (kvm_can_do_async_pf()). */
function userApic(row: Preset, does: string): Preset {
  const title = `The APIC in the VMM, which QEMU 11 refuses: KVM_RUN returns -EFAULT, and the VMM ${does}.`;
  return { ...row, id: `${row.id}-user-apic`, title, exits: "kvm", lapic: "user", variantOf: row.id };
}

/** The kernels of today, and before 5.8. */
const apfGuest = preset(
  "apf-guest",
  "loops",
  "A Linux guest, async page faults enabled: not-present and ready in turn, KVM drops the error.",
  {},
);
const apfLoop: Preset = {
  ...apfGuest,
  id: "apf-loop",
  title: "A guest that never enabled async page faults: KVM halts the vCPU, and drops the error.",
  guest: "unaware",
  variantOf: apfGuest.id,
};
const stock: readonly Preset[] = [
  preset("efault-exit", "exits", "The APIC in the VMM: no fault is asynchronous, KVM_RUN returns -EFAULT.", {
    lapic: "user",
  }),
  apfGuest,
  apfLoop,
  {
    ...apfGuest,
    id: "apf-send-always",
    title: "A guest that asks for not-present at CPL 0 too, as Linux did until 5.7.",
    guest: "apf-send-always",
    variantOf: apfGuest.id,
  },
  preset("legacy-pf", "loops", "The protocol before 5.8: both events by #PF.", { kvm: "legacy-pf" }),
];

/** The VMM watches the file: the loop becomes an exit, whatever the guest. */
const fence = { exits: "fence" } as const;

const noHltExits = preset(
  "no-hlt-exits",
  "loops",
  "HLT in the guest (KVM_CAP_X86_DISABLE_EXITS): -EFAULT where the guest cannot be notified; it can, and loops.",
  { exits: "hlt-in-guest" },
);
const pfInjection = preset("pf-injection", "reports", "The fence, and a #PF with the real address.", {
  ...fence,
  vmm: "inject-pf",
  guest: "pv-error",
});
const mceInjection = preset(
  "mce-injection",
  "machine-check",
  "The fence, and a machine check, as for poisoned memory.",
  { ...fence, vmm: "inject-mce", guest: "mce-safe-loads" },
);
const veInjection = preset("ve-injection", "reports", "The fence, and a #VE with its information area.", {
  ...fence,
  vmm: "inject-ve",
  guest: "ve",
});
const pvInjection = preset("pv-injection", "reports", "The fence, and a paravirtual error interrupt.", {
  ...fence,
  vmm: "inject-pv",
  guest: "pv-error",
});
const nmiInjection = preset("nmi-injection", "reports", "The fence, and an NMI, as gVisor sends it.", {
  ...fence,
  vmm: "nmi",
  guest: "pv-error",
});
const remapZero = preset("remap-zero", "zeros", "The fence, and fresh zeros in place of the lost page.", {
  ...fence,
  vmm: "remap-zero",
});
const poison = preset(
  "poison",
  "machine-check",
  "The fence, and a poisoned page in place of the lost one: KVM's BUS_MCEERR_AR becomes a machine check.",
  { ...fence, vmm: "poison", guest: "mce-safe-loads" },
);

/** Changes of the VMM, possible today. */
const byVmm: readonly Preset[] = [
  noHltExits,
  noApf(
    noHltExits,
    "HLT in a guest that never enabled async page faults: the loop becomes -EFAULT.",
    "exits",
  ),
  preset(
    "fence-exit",
    "exits",
    "The VMM makes PROT_NONE what lies behind the file's end: the loop becomes -EFAULT, the VM stops.",
    fence,
  ),
  pfInjection,
  noApf(pfInjection, "The fence and a #PF, for a guest that never enabled async page faults."),
  userApic(pfInjection, "injects #PF"),
  mceInjection,
  noApf(mceInjection, "The fence and a machine check, for a guest that never enabled async page faults."),
  userApic(mceInjection, "injects a machine check"),
  veInjection,
  userApic(veInjection, "injects #VE"),
  pvInjection,
  userApic(pvInjection, "sends an error interrupt"),
  nmiInjection,
  userApic(nmiInjection, "sends an NMI"),
  remapZero,
  userApic(remapZero, "maps fresh zeros"),
  poison,
  userApic(poison, "maps a poisoned page"),
];

/** Changes of KVM, alone or with the guest. */
const byKvm: readonly Preset[] = [
  preset(
    "uniform-efault",
    "exits",
    "Goyal v4: KVM keeps a hash of 64 gfns that failed; the retry returns -EFAULT.",
    {
      kvm: "uniform-efault",
    },
  ),
  preset("error-gfn", "exits", "Goyal's RFC: KVM keeps one gfn that failed.", {
    kvm: "error-gfn",
  }),
  preset(
    "error-pending",
    "exits",
    "Kuznetsov: async page faults stay off until the error has been reported.",
    {
      kvm: "error-pending",
    },
  ),
  preset("exit-request", "exits", "Christopherson: KVM_RUN returns as soon as the error is known.", {
    kvm: "exit-request",
  }),
  preset(
    "final-efault",
    "exits",
    "The first lookup's -EFAULT is final; only a page that needs I/O goes async.",
    {
      kvm: "final-efault",
    },
  ),
  preset("memory-fault-exit", "loops", "Moorthy: KVM_EXIT_MEMORY_FAULT is filled in at the -EFAULT exit.", {
    kvm: "memory-fault-exit",
  }),
  preset(
    "sigbus-injection",
    "reports",
    "Goyal's RFC: error flag in the page-ready event, the guest sends SIGBUS.",
    {
      kvm: "ready-error",
      guest: "apf-error",
    },
  ),
  preset(
    "kvm-mce-injection",
    "machine-check",
    "KVM injects #MC; the guest's exception tables cover loads, as Linux's do.",
    {
      kvm: "inject-mce",
      guest: "mce-safe-loads",
    },
  ),
  preset(
    "kvm-mce-safe-all",
    "machine-check",
    "KVM injects #MC; the guest's exception tables cover stores too.",
    {
      kvm: "inject-mce",
      guest: "mce-safe-all",
    },
  ),
  preset("kvm-ve-injection", "reports", "KVM injects #VE.", { kvm: "inject-ve", guest: "ve" }),
  preset(
    "final-efault-pf",
    "reports",
    "Final -EFAULT in KVM, and the VMM injects #PF that the guest understands.",
    {
      kvm: "final-efault",
      vmm: "inject-pf",
      guest: "pv-error",
    },
  ),
  preset("final-efault-mce", "machine-check", "Final -EFAULT in KVM, and the VMM injects a machine check.", {
    kvm: "final-efault",
    vmm: "inject-mce",
    guest: "mce-safe-loads",
  }),
  preset("final-efault-pv", "reports", "Final -EFAULT in KVM, and the VMM sends an error interrupt.", {
    kvm: "final-efault",
    vmm: "inject-pv",
    guest: "pv-error",
  }),
];

/** A VMM that takes a range away when a guard recalls it (PROT_NONE), and injects #PF where the guest touches it. */
const recalled = { vmm: "inject-pf", guest: "pv-error" } as const;

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
    "F_SETLEASE: the kernel holds up every open or truncation of the file by path.",
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
    "inotify or fanotify: the VMM learns of a truncation after the fact, and takes the range away then.",
    {
      ...recalled,
      server: "notify",
    },
  ),
  preset(
    "sealed",
    "seals",
    "The guest maps a sealed copy (memfd, F_SEAL_SHRINK), which cannot be made shorter.",
    { server: "sealed" },
  ),
];

export const presets: readonly Preset[] = [...stock, ...byVmm, ...byKvm, ...byServer];

/**
 * Variants that are no rows of any table: what recorded runs of earlier versions are of, whose guards had a guest without
 * async page faults.
 */
const unlisted: readonly Preset[] = byServer.map((row) =>
  noApf(row, `${row.title} A guest without async page faults.`),
);

export function presetOf(id: string): Preset | null {
  return presets.find((candidate) => candidate.id === id) ?? null;
}

/** The expected result for a process: the yardstick. */
const native: Answered = {
  id: "native",
  title: "No VM: a process of the host maps the file. What a guest process ought to see.",
  answer: "signals",
  variantOf: null,
  kvm: "none",
  exits: "none",
  vmm: "none",
  guest: "none",
  server: "none",
  lapic: null,
};

type Answered = Proposal & Pick<Preset, "answer" | "variantOf">;

const answered: readonly Answered[] = [native, ...presets];

function toProposal({ answer: _answer, variantOf: _variantOf, ...proposal }: Answered): Proposal {
  return proposal;
}

/** All proposals, in the order of the tables. The ids are the names in discussions. */
export const proposals: readonly Proposal[] = answered.map(toProposal);

/**
 * What the guest of `apf-loop` gets from a KVM with a proposal built in: `exits` where KVM_RUN returns -EFAULT, also for an
 * error in page-ready, which this guest has not asked for. Left out are those that inject what it has no handler for.
 */
const unawareAnswers: Readonly<Partial<Record<KvmPart, Answer>>> = {
  "uniform-efault": "exits",
  "error-gfn": "exits",
  "error-pending": "exits",
  "exit-request": "exits",
  "final-efault": "exits",
  "ready-error": "exits",
  "memory-fault-exit": "loops",
};

/** The guest of `apf-loop` on a KVM that has a proposal built in. No rows of any table. */
const apfLoopsOn: ReadonlyMap<KvmPart, Answered> = new Map(
  kvmParts.flatMap((kvm): readonly (readonly [KvmPart, Answered])[] => {
    const answer = unawareAnswers[kvm];
    if (answer === undefined) return [];
    const title = `A guest that never enabled async page faults, on a KVM with ${kvm}.`;
    return [[kvm, { ...apfLoop, id: `${apfLoop.id}+${kvm}`, title, kvm, answer }]];
  }),
);

/**
 * The proposal as a kernel carries it out whose KVM has `kvm` built in: `apf-loop`, which asks whether KVM loops, is asked of
 * that KVM; any other proposal is what it is.
 */
export function proposalOn(kvm: KvmPart, proposal: Proposal): Proposal {
  return proposal.id === apfLoop.id ? (builtInProposals.get(kvm) ?? proposal) : proposal;
}

const builtInProposals: ReadonlyMap<KvmPart, Proposal> = new Map(
  [...apfLoopsOn].map(([kvm, one]) => [kvm, toProposal(one)]),
);

/** One of those that `proposalOn` makes. */
export function isOnPatchedKvm(proposal: Proposal): boolean {
  return builtInProposals.get(proposal.kvm as KvmPart) === proposal;
}

/** What names a proposal on the command line: `apf-loop` of `apf-loop+final-efault`, on such a kernel. */
export function askedId(id: string): string {
  return [...apfLoopsOn.values()].some((one) => one.id === id) ? apfLoop.id : id;
}

const recordable: ReadonlyMap<string, Proposal> = new Map(
  [...answered, ...unlisted, ...apfLoopsOn.values()].map((one) => [one.id, toProposal(one)]),
);

/** The proposal that a recorded run names: those of the tables, and variants that only earlier versions ran. */
export function recordedProposal(id: string): Proposal | null {
  return recordable.get(id) ?? null;
}

const answersById: ReadonlyMap<string, Answer> = new Map(
  [...answered, ...apfLoopsOn.values()].map(({ id, answer }) => [id, answer]),
);

/** null for a proposal of the user's own. */
export function answerOf(id: string): Answer | null {
  return answersById.get(id) ?? null;
}
