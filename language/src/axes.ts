/**
 * The axes: who would have to change so that a fault that cannot be resolved is dealt with, and what each may do.
 * One list for the model, the VMM, the file server and the scorecard. The order is that of help texts and schemas.
 */

export const kvmParts = [
  "today",
  "uniform-efault",
  "error-gfn",
  "error-pending",
  "exit-request",
  "final-efault",
  "ready-error",
  "memory-fault-exit",
  "inject-mce",
  "inject-ve",
  "legacy-pf",
] as const;
export type KvmPart = (typeof kvmParts)[number];

/**
 * What makes a failed fault an exit of KVM_RUN. `kvm`: what KVM's fault path does by itself. `fence`: the VMM watches the
 * file and makes what lies behind its end PROT_NONE, so that the look-up fails before the asynchronous path is tried
 * (vma_is_valid(), virt/kvm/kvm_main.c). `hlt-in-guest`: KVM_CAP_X86_DISABLE_EXITS with HLT; KVM then has no artificial
 * halt, and a fault that the guest cannot be notified of is synchronous (kvm_can_do_async_pf(), arch/x86/kvm/x86.c).
 */
export const exitParts = ["kvm", "fence", "hlt-in-guest"] as const;
export type ExitPart = (typeof exitParts)[number];

/** What the VMM does at the exit: the name of its policy. */
export const vmmParts = [
  "stop",
  "inject-mce",
  "inject-ve",
  "inject-pf",
  "inject-pv",
  "nmi",
  "remap-zero",
  "poison",
] as const;
export type VmmPart = (typeof vmmParts)[number];

/**
 * What the guest enables and understands. Every guest enables async page faults, as Linux does, but for `unaware` and
 * those with `-no-apf`. `apf` understands nothing more; `apf-send-always` is notified at CPL 0 too; `apf-error`
 * understands an error in page-ready; `pv-error` an error report from its host: a real #PF, an NMI or a paravirtual
 * interrupt. `mce-safe-loads` is what Linux is since 5.8 (EX_TYPE_DEFAULT_MCE_SAFE).
 */
export const guestParts = [
  "unaware",
  "apf",
  "apf-send-always",
  "apf-error",
  "pv-error",
  "pv-error-no-apf",
  "mce-safe-loads",
  "mce-safe-loads-no-apf",
  "mce-safe-all",
  "ve",
  "ve-no-apf",
] as const;
export type GuestPart = (typeof guestParts)[number];

/** The features of a guest that a VMM, the attestation and the model depend on. All else is the same for every guest. */
export type GuestPersona = {
  /**
   * Does it enable paravirtual async page faults (MSR_KVM_ASYNC_PF_EN), as Linux does? `send-always` sets bit 1,
   * KVM_ASYNC_PF_SEND_ALWAYS: page-not-present at CPL 0 too. Linux did so until 5.7 where it was preemptible.
   */
  readonly asyncPageFaults: "off" | "on" | "send-always";
  /** It takes a #PF that its page tables do not explain for an error; Linux takes it for spurious and retries. */
  readonly pageFaultIsError: boolean;
  /** It understands an error in page-ready (Goyal's RFC of 2020). */
  readonly pageReadyErrors: boolean;
  /** Which of the guest kernel's copies survive a machine check: Linux's are `reads` (copy_from_user) at best. */
  readonly machineCheckSafe: "none" | "reads" | "all";
  /** It takes a #VE for an error of the page. */
  readonly understandsVe: boolean;
};

const unaware: GuestPersona = {
  asyncPageFaults: "off",
  pageFaultIsError: false,
  pageReadyErrors: false,
  machineCheckSafe: "none",
  understandsVe: false,
};
const apf: GuestPersona = { ...unaware, asyncPageFaults: "on" };

export const guestPersonas: Readonly<Record<GuestPart | "none", GuestPersona>> = {
  none: unaware,
  unaware,
  apf,
  "apf-send-always": { ...apf, asyncPageFaults: "send-always" },
  "apf-error": { ...apf, pageReadyErrors: true },
  "pv-error": { ...apf, pageFaultIsError: true },
  "pv-error-no-apf": { ...unaware, pageFaultIsError: true },
  "mce-safe-loads": { ...apf, machineCheckSafe: "reads" },
  "mce-safe-loads-no-apf": { ...unaware, machineCheckSafe: "reads" },
  "mce-safe-all": { ...apf, machineCheckSafe: "all" },
  ve: { ...apf, understandsVe: true },
  "ve-no-apf": { ...unaware, understandsVe: true },
};

export const serverParts = ["none", "fuse-lease", "kernel-lease", "pre-content", "notify", "sealed"] as const;
export type ServerPart = (typeof serverParts)[number];

/** Where the local APIC lives: KVM can go the asynchronous way only with it in the kernel (`kvm_can_do_async_pf()`, arch/x86/kvm/x86.c). */
export const lapicPlaces = ["user", "kernel"] as const;
export type LapicPlace = (typeof lapicPlaces)[number];

/**
 * Does the guest enable async page faults? KVM refuses the MSR where the APIC is in user space
 * (kvm_pv_enable_async_pf(), arch/x86/kvm/x86.c).
 */
export function enablesApf({
  guest,
  lapic,
}: {
  readonly guest: GuestPart | "none";
  readonly lapic: LapicPlace | null;
}): boolean {
  return lapic === "kernel" && guestPersonas[guest].asyncPageFaults !== "off";
}

/** A point on the axes: one whole VM. */
export type Parts = {
  readonly kvm: KvmPart;
  readonly exits: ExitPart;
  readonly vmm: VmmPart;
  readonly guest: GuestPart;
  readonly server: ServerPart;
  readonly lapic: LapicPlace;
};

/** The ways to mount the file server: our core speaks /dev/fuse itself, or libfuse does (fuse-native). */
export const transports = ["devfuse", "libfuse"] as const;
export type Transport = (typeof transports)[number];

/** What a client of the file server keeps: the words of virtiofsd's `--cache`. */
export const cacheModes = ["auto", "always", "never", "metadata"] as const;
export type CacheMode = (typeof cacheModes)[number];

/** Whether the file server names inodes by file handles: the words of virtiofsd's `--inode-file-handles`. */
export const fileHandlesUses = ["never", "prefer", "mandatory"] as const;
export type FileHandlesUse = (typeof fileHandlesUses)[number];

/** The guards of a server that others share. */
export const servedGuards = ["fuse-lease", "notify", "pre-content"] as const;
