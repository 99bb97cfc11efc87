/** The proposals that people talk about, as points on the four axes. One line each: to add a proposal, add a line. */
import type { Parts } from "./cases.ts";

export type Preset = Parts & { readonly id: string; readonly title: string };

const stock: Parts = { kvm: "today", vmm: "stop", guest: "apf", server: "none", lapic: "kernel" };

function preset(id: string, title: string, parts: Partial<Parts>): Preset {
  return { ...stock, ...parts, id, title };
}

export const presets: readonly Preset[] = [
  preset("efault-exit", "No in-kernel APIC: KVM_RUN returns -EFAULT.", { guest: "unaware", lapic: "user" }),
  preset("apf-loop", "In-kernel APIC, a guest that knows nothing of async page faults.", {
    guest: "unaware",
  }),
  preset("apf-guest", "... and one that enabled them.", {}),
  preset("no-hlt-exits", "The guest owns HLT: the loop becomes -EFAULT.", {
    guest: "unaware",
    vmm: "no-hlt-exits",
  }),
  preset("legacy-pf", "The protocol before 5.8: both events by #PF.", { kvm: "legacy-pf" }),
  preset("uniform-efault", "Goyal v4: a hash of gfns that failed.", { kvm: "uniform-efault" }),
  preset("error-gfn", "Goyal's RFC: one gfn that failed.", { kvm: "error-gfn" }),
  preset("error-pending", "Kuznetsov: async page faults off until the error is reported.", {
    kvm: "error-pending",
  }),
  preset("exit-request", "Christopherson: KVM_RUN returns as soon as the error is known.", {
    kvm: "exit-request",
  }),
  preset("final-efault", "The lookup's -EFAULT is final.", { kvm: "final-efault" }),
  preset("memory-fault-exit", "Moorthy: KVM_EXIT_MEMORY_FAULT filled in.", { kvm: "memory-fault-exit" }),
  preset("sigbus-injection", "Error flag in page-ready, guest sends SIGBUS.", {
    kvm: "ready-error",
    guest: "apf-error",
  }),
  preset("mce-injection", "KVM injects #MC; guest tables cover loads.", {
    kvm: "inject-mce",
    guest: "mce-safe-loads",
  }),
  preset("mce-safe-all", "... and stores.", { kvm: "inject-mce", guest: "mce-safe-all" }),
  preset("mce-from-vmm", "Final -EFAULT, the VMM injects #MC.", {
    kvm: "final-efault",
    vmm: "inject-mce",
    guest: "mce-safe-loads",
  }),
  preset("ve-injection", "KVM injects #VE.", { kvm: "inject-ve", guest: "ve" }),
  preset("pf-injection", "Final -EFAULT, the VMM injects #PF that the guest understands.", {
    kvm: "final-efault",
    vmm: "inject-pf",
    guest: "pv-error",
  }),
  preset("pv-interrupt", "Final -EFAULT, the VMM raises an error interrupt.", {
    kvm: "final-efault",
    vmm: "inject-pv",
    guest: "pv-error",
  }),
  preset("nmi", "gVisor's way: no in-kernel APIC, NMI at the -EFAULT exit.", {
    vmm: "nmi",
    guest: "pv-error",
    lapic: "user",
  }),
  preset("remap-zero", "Final -EFAULT, the VMM puts zero pages there.", {
    kvm: "final-efault",
    vmm: "remap-zero",
  }),
  preset("poison", "Final -EFAULT, the VMM puts poisoned memory there.", {
    kvm: "final-efault",
    vmm: "poison",
    guest: "mce-safe-loads",
  }),
  preset("fence", "The VMM watches the file and unmaps the range.", { vmm: "fence" }),
  preset("lease-fuse", "Leases among the file server's clients.", { server: "fuse-lease" }),
  preset("lease-kernel", "F_SETLEASE held by the server.", { server: "kernel-lease" }),
  preset("pre-content", "fanotify permission events.", { server: "pre-content" }),
  preset("notify", "The server is told after the fact, and tells the guest.", { server: "notify" }),
  preset("sealed", "F_SEAL_SHRINK.", { server: "sealed" }),
];

export function presetOf(id: string): Preset | null {
  return presets.find((candidate) => candidate.id === id) ?? null;
}
