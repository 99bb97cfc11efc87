/**
 * The VMM: what it does when KVM_RUN returns (the `vmm` axis). `stop`, as in QEMU and all others, first.
 * Injections go in before the vCPU is entered again, so the event meets the task that is current there.
 */
import type { StopReason } from "../../../language/src/index.ts";
import type { Action } from "../explore/model.ts";
import { replaceVma } from "./host-mm.ts";
import type { Machine } from "./machine.ts";
import { injectMachineCheck, injectVe } from "./proposals.ts";
import type { GuestEvent, Stop, Vcpu } from "./vcpu.ts";

/** How a VM can end, as the VMM reports it. */
export const stopReasons: Readonly<Record<Exclude<Stop, "none">, StopReason>> = {
  efault: "efault",
  "memory-fault": "memory-fault",
  poison: "efault",
  mmio: "mmio",
  "internal-error": "internal-error",
  "triple-fault": "triple-fault",
};

/** ioctl(KVM_RUN) again. */
function enter(vcpu: Vcpu): void {
  vcpu.goTo("guest");
  vcpu.stop = "none";
  vcpu.mmuSeq = 0;
  vcpu.pfnError = "none";
  vcpu.pfn = "none";
}

function giveUp(m: Machine, vcpu: Vcpu): void {
  m.vmStop = vcpu.stop;
  m.log?.("exit", "vmm", "vmm", `the VM stops: ${vcpu.stop === "none" ? "running" : stopReasons[vcpu.stop]}`);
}

function inject(m: Machine, vcpu: Vcpu, event: GuestEvent, name: string): void {
  enter(vcpu);
  vcpu.event = event;
  m.log?.("inject", "vmm", "guest", `${name} for page ${vcpu.faultingPage.index}`);
}

/**
 * exception.injected = 1 (KVM_SET_VCPU_EVENTS): while L2 runs it goes to L2, whatever L1 intercepts ("already-injected
 * exceptions are not subject to interception", kvm_vcpu_ioctl_x86_set_vcpu_events()). NMIs, interrupts and the #MC of
 * KVM_X86_SET_MCE are L1's: nested_exit_on_nmi(), nested_exit_on_intr(), kvm_queue_exception().
 */
function injectPageFault(m: Machine, vcpu: Vcpu): void {
  inject(m, vcpu, vcpu.runsL2 ? "#PF in L2" : "#PF", "#PF");
}

/** KVM_RUN returned -EFAULT, with or without KVM_EXIT_MEMORY_FAULT. */
function onFault(m: Machine, vcpu: Vcpu): void {
  const page = vcpu.faultingPage.index;
  switch (m.case.vmm) {
    case "stop":
      giveUp(m, vcpu);
      return;
    case "inject-mce":
      machineCheck(m, vcpu);
      return;
    case "inject-ve":
      enter(vcpu);
      if (!injectVe(m, vcpu, "vmm")) m.log?.("inject", "vmm", "vmm", "#VE busy: try again");
      return;
    case "inject-pf":
      injectPageFault(m, vcpu);
      return;
    case "nmi":
      inject(m, vcpu, "NMI", "NMI");
      return;
    case "inject-pv":
      // An interrupt: with IF=0 it would stay pending while the access faults again and again.
      if (vcpu.interruptsOn) {
        inject(m, vcpu, "error interrupt", "paravirtual error interrupt");
        return;
      }
      m.log?.("inject", "vmm", "vmm", "interrupts are off: the error cannot be delivered");
      if (m.checks("interrupt-window-test")) giveUp(m, vcpu);
      else enter(vcpu);
      return;
    case "remap-zero":
      m.log?.("remap", "vmm", "kvm", `page ${page}: anonymous zero memory`);
      replaceVma(m, page, page + 1, "anonymous");
      enter(vcpu);
      return;
    case "poison":
      m.log?.("remap", "vmm", "kvm", `page ${page}: anonymous, UFFDIO_POISON`);
      replaceVma(m, page, page + 1, "poisoned");
      enter(vcpu);
  }
}

function machineCheck(m: Machine, vcpu: Vcpu): void {
  enter(vcpu);
  injectMachineCheck(m, vcpu, "vmm");
}

function onReturn(m: Machine, vcpu: Vcpu): void {
  switch (vcpu.stop) {
    case "efault":
    case "memory-fault":
      onFault(m, vcpu);
      return;
    case "poison":
      // SIGBUS BUS_MCEERR_AR to the vCPU thread: every VMM that handles it at all injects #MC.
      machineCheck(m, vcpu);
      return;
    case "mmio":
    case "internal-error":
    case "triple-fault":
    case "none":
      giveUp(m, vcpu);
  }
}

export function vmmActions(m: Machine): Action[] {
  return m.vcpus.map((vcpu) => ({
    name: `vmm: KVM_RUN of vcpu${vcpu.index} returned`,
    actor: "vmm",
    guard: () => vcpu.place === "stopped" && m.alive,
    apply: () => onReturn(m, vcpu),
  }));
}
