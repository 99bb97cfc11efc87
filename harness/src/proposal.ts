/**
 * A proposal: how an unresolvable fault is dealt with. A point on four axes, one per component that would have to change.
 * The values are the model's parts, which can carry out all of them; `none` is for what has no VM.
 */

import type { GuestPart, KvmPart, ServerPart, VmmPart } from "../../kvm-model/src/index.ts";

export type Proposal = {
  readonly id: string;
  /** One line. */
  readonly title: string;
  readonly kvm: KvmPart | "none";
  readonly vmm: VmmPart | "none";
  readonly guest: GuestPart | "none";
  readonly server: ServerPart;
  /**
   * Where the local APIC lives; decides whether KVM can go the asynchronous way at all (`kvm_can_do_async_pf()`,
   * arch/x86/kvm/x86.c, tests `lapic_in_kernel()` first). null where there is no VM.
   */
  readonly lapic: "user" | "kernel" | null;
};

/** The presets, in the order of the table's columns. The ids are what people say. */
export const proposals: readonly Proposal[] = [
  {
    id: "native",
    title: "No VM: a process of the host maps the file. What a guest process ought to see.",
    kvm: "none",
    vmm: "none",
    guest: "none",
    server: "none",
    lapic: null,
  },
  {
    id: "efault-exit",
    title: "No asynchronous page fault possible (no in-kernel APIC): KVM_RUN returns -EFAULT.",
    kvm: "today",
    vmm: "stop",
    guest: "unaware",
    server: "none",
    lapic: "user",
  },
  {
    id: "apf-loop",
    title: "In-kernel APIC, interrupts on, guest never enabled async page faults: KVM drops the error.",
    kvm: "today",
    vmm: "stop",
    guest: "unaware",
    server: "none",
    lapic: "kernel",
  },
  {
    id: "apf-guest",
    title: "The same, and the guest has enabled async page faults: it is told not-present and ready in turn.",
    kvm: "today",
    vmm: "stop",
    guest: "apf",
    server: "none",
    lapic: "kernel",
  },
  {
    id: "no-hlt-exits",
    title: "The VMM gives HLT to the guest (KVM_CAP_X86_DISABLE_EXITS): the loop becomes -EFAULT.",
    kvm: "today",
    vmm: "no-hlt-exits",
    guest: "unaware",
    server: "none",
    lapic: "kernel",
  },
  {
    id: "pf-injection",
    title: "At the -EFAULT exit the VMM injects #PF with the real address.",
    kvm: "today",
    vmm: "inject-pf",
    guest: "pv-error",
    server: "none",
    lapic: "user",
  },
  {
    id: "mce-injection",
    title: "At the -EFAULT exit the VMM injects a machine check, as for poisoned memory.",
    kvm: "today",
    vmm: "inject-mce",
    guest: "mce-safe-loads",
    server: "none",
    lapic: "user",
  },
  {
    id: "ve-injection",
    title: "At the -EFAULT exit the VMM injects #VE with its information area.",
    kvm: "today",
    vmm: "inject-ve",
    guest: "ve",
    server: "none",
    lapic: "user",
  },
  {
    id: "pv-injection",
    title: "At the -EFAULT exit the VMM sends a paravirtual error interrupt.",
    kvm: "today",
    vmm: "inject-pv",
    guest: "pv-error",
    server: "none",
    lapic: "user",
  },
  {
    id: "nmi-injection",
    title: "At the -EFAULT exit the VMM sends an NMI, as gVisor does.",
    kvm: "today",
    vmm: "nmi",
    guest: "pv-error",
    server: "none",
    lapic: "user",
  },
  {
    id: "remap-zero",
    title: "At the -EFAULT exit the VMM maps fresh zeros in place of the lost page.",
    kvm: "today",
    vmm: "remap-zero",
    guest: "unaware",
    server: "none",
    lapic: "user",
  },
  {
    id: "poison",
    title: "At the -EFAULT exit the VMM maps a poisoned page; KVM's BUS_MCEERR_AR becomes a machine check.",
    kvm: "today",
    vmm: "poison",
    guest: "mce-safe-loads",
    server: "none",
    lapic: "user",
  },
  {
    id: "fence",
    title: "The VMM watches the file and makes what is lost PROT_NONE: the loop becomes an exit, then #PF.",
    kvm: "today",
    vmm: "fence",
    guest: "pv-error",
    server: "none",
    lapic: "kernel",
  },
];
