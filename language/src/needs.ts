/**
 * What a proposal needs: where the APIC lives, what the guest has enabled and has to understand, which kernel, what the
 * VMM and the file server have to do. A row of the scorecard holds under these conditions and no others. Pure.
 */
import {
  type ExitPart,
  enablesApf,
  type GuestPart,
  type GuestPersona,
  guestPersonas,
  type KvmPart,
  type LapicPlace,
  type ServerPart,
  type VmmPart,
} from "./axes.ts";
import type { Proposal } from "./proposal.ts";

/** `stock`: a released Linux; `since` is the first that has what the VMM or the guard uses, null: any since 5.8. */
export type NeededKernel =
  | { readonly kind: "stock"; readonly since: string | null }
  | { readonly kind: "older"; readonly than: string }
  | { readonly kind: "patched"; readonly patch: string };

export type Needs = {
  /** null: there is no VM. */
  readonly apic: LapicPlace | null;
  /** What the guest has enabled; null: there is no guest. */
  readonly asyncPageFaults: GuestPersona["asyncPageFaults"] | null;
  /** What the guest has to understand and no Linux does; null: nothing. */
  readonly guestUnderstands: string | null;
  readonly kernel: NeededKernel;
  /** What the VMM does beyond KVM_RUN, in the order of events. */
  readonly vmm: readonly string[];
  /** What the file server, or the machine that it runs on, does; null: nothing. */
  readonly server: string | null;
};

const patches: Readonly<Record<KvmPart | "none", string | null>> = {
  none: null,
  today: null,
  "legacy-pf": null,
  "uniform-efault": "a hash of gfns that failed (Goyal, v4)",
  "error-gfn": "one gfn that failed (Goyal, RFC)",
  "error-pending": "async page faults off until the error is reported (Kuznetsov)",
  "exit-request": "an exit at the worker's error (Christopherson)",
  "final-efault": "the lookup's -EFAULT is final",
  "ready-error": "an error flag in page-ready (Goyal, RFC)",
  "memory-fault-exit": "KVM_EXIT_MEMORY_FAULT filled in (Moorthy)",
  "inject-mce": "KVM injects #MC",
  "inject-ve": "KVM injects #VE",
};

const makesExit: Readonly<Record<ExitPart | "none", string | null>> = {
  none: null,
  kvm: null,
  fence: "watches the file",
  "hlt-in-guest": "gives HLT to the guest",
};

const reacts: Readonly<Record<VmmPart | "none", string | null>> = {
  none: null,
  stop: null,
  "inject-mce": "injects #MC",
  "inject-ve": "injects #VE",
  "inject-pf": "injects #PF",
  "inject-pv": "sends an interrupt",
  nmi: "sends an NMI",
  "remap-zero": "maps zeros",
  poison: "maps a poisoned page",
};

const guards: Readonly<Record<ServerPart, string | null>> = {
  none: null,
  "fuse-lease": "leases of its own",
  "kernel-lease": "F_SETLEASE",
  "pre-content": "fanotify permission events",
  notify: "inotify",
  sealed: "a sealed copy",
};

/** The guests that no Linux is; null: Linux. */
function understood(guest: GuestPart | "none", vmm: VmmPart | "none"): string | null {
  switch (guest) {
    case "none":
    case "unaware":
    case "apf":
    case "apf-send-always":
    case "mce-safe-loads":
    case "mce-safe-loads-no-apf":
      return null;
    case "apf-error":
      return "an error in page-ready";
    case "pv-error":
    case "pv-error-no-apf":
      if (vmm === "inject-pv") return "an error interrupt";
      return vmm === "nmi" ? "an NMI as an error" : "#PF as an error";
    case "mce-safe-all":
      return "#MC in stores of its kernel";
    case "ve":
    case "ve-no-apf":
      return "#VE";
  }
}

function kernelOf({ kvm, vmm, server }: Proposal): NeededKernel {
  const patch = patches[kvm];
  if (patch !== null) return { kind: "patched", patch };
  if (kvm === "legacy-pf") return { kind: "older", than: "5.8" };
  // UFFDIO_POISON; FAN_PRE_ACCESS.
  return { kind: "stock", since: vmm === "poison" ? "6.6" : server === "pre-content" ? "6.14" : null };
}

export function needsOf(proposal: Proposal): Needs {
  const { guest, exits, vmm, server, lapic } = proposal;
  const enabled = enablesApf(proposal) ? guestPersonas[guest].asyncPageFaults : "off";
  // Guards take a range away as a fence does, before the loss or after it.
  const recalls = server === "none" || server === "sealed" ? null : "takes a recalled range away";
  return {
    apic: lapic,
    asyncPageFaults: guest === "none" ? null : enabled,
    guestUnderstands: understood(guest, vmm),
    kernel: kernelOf(proposal),
    vmm: [makesExit[exits], recalls, reacts[vmm]].filter((one) => one !== null),
    server: guards[server],
  };
}

const apfWords: Readonly<Record<GuestPersona["asyncPageFaults"], string>> = {
  off: "APF off",
  on: "APF on",
  "send-always": "APF on, at CPL 0 too",
};

function kernelText(kernel: NeededKernel): string | null {
  switch (kernel.kind) {
    case "stock":
      return kernel.since === null ? null : `Linux ${kernel.since}`;
    case "older":
      return `Linux before ${kernel.than}`;
    case "patched":
      return `KVM patched: ${kernel.patch}`;
  }
}

/** One short line: `APIC in kernel; APF on; guest: #PF as an error; VMM: watches the file, injects #PF`. */
export function needsText({ apic, asyncPageFaults, guestUnderstands, kernel, vmm, server }: Needs): string {
  if (apic === null) return "no VM";
  return [
    `APIC in ${apic === "kernel" ? "kernel" : "VMM"}`,
    asyncPageFaults === null ? null : apfWords[asyncPageFaults],
    guestUnderstands === null ? null : `guest: ${guestUnderstands}`,
    vmm.length === 0 ? null : `VMM: ${vmm.join(", ")}`,
    server === null ? null : `server: ${server}`,
    kernelText(kernel),
  ]
    .filter((part) => part !== null)
    .join("; ");
}
