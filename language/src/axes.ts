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

export const vmmParts = [
  "stop",
  "inject-mce",
  "inject-ve",
  "inject-pf",
  "inject-pv",
  "nmi",
  "remap-zero",
  "poison",
  "fence",
  "no-hlt-exits",
] as const;
export type VmmPart = (typeof vmmParts)[number];

/** `pv-error`: a guest that understands an error report from its host: a real #PF, an NMI or a paravirtual interrupt. */
export const guestParts = [
  "unaware",
  "apf",
  "apf-error",
  "pv-error",
  "mce-safe-loads",
  "mce-safe-all",
  "ve",
] as const;
export type GuestPart = (typeof guestParts)[number];

export const serverParts = ["none", "fuse-lease", "kernel-lease", "pre-content", "notify", "sealed"] as const;
export type ServerPart = (typeof serverParts)[number];

/** Where the local APIC lives: KVM can go the asynchronous way only with it in the kernel (`kvm_can_do_async_pf()`, arch/x86/kvm/x86.c). */
export const lapicPlaces = ["user", "kernel"] as const;
export type LapicPlace = (typeof lapicPlaces)[number];

/** A point on the axes: one whole VM. */
export type Parts = {
  readonly kvm: KvmPart;
  readonly vmm: VmmPart;
  readonly guest: GuestPart;
  readonly server: ServerPart;
  readonly lapic: LapicPlace;
};

/** The ways to mount the file server: our core speaks /dev/fuse itself, or libfuse does (fuse-native). */
export const transports = ["devfuse", "libfuse"] as const;
export type Transport = (typeof transports)[number];
