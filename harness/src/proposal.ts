/** A proposal: how an unresolvable fault is dealt with. A point on four axes, one per component that would have to change. */

export const axes = {
  kvm: [
    "none",
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
  ],
  vmm: [
    "none",
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
  ],
  guest: ["none", "unaware", "apf", "apf-error", "pv-error", "mce-safe-loads", "mce-safe-all", "ve"],
  server: ["none", "fuse-lease", "kernel-lease", "pre-content", "notify", "sealed"],
} as const;

export type Proposal = {
  readonly id: string;
  /** One line. */
  readonly title: string;
  readonly kvm: (typeof axes.kvm)[number];
  readonly vmm: (typeof axes.vmm)[number];
  readonly guest: (typeof axes.guest)[number];
  readonly server: (typeof axes.server)[number];
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
