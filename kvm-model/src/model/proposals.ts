/**
 * The `kvm` axis: what each proposal changes in KVM, as answers to the questions that the fault path asks.
 * To add one: name it in `kvmParts`, and give its answer in each `switch` here; nothing else in KVM's part changes.
 *
 * - `today`: the worker's result is dropped; a failed prefetch is ignored.
 * - `uniform-efault` (Goyal, v2 to v4, 2020): a failed prefetch records the gfn in a hash of 64 (`gfn-hash.ts`); a fault on a
 *   recorded gfn goes synchronous, hence -EFAULT. Overwritten on collision: "just a hint". `error-gfn` (RFC): one slot.
 * - `error-pending` (Kuznetsov): a failed prefetch switches async page faults off until an error has been reported.
 * - `exit-request` (Christopherson): a failed prefetch makes KVM_RUN return at once, whatever task runs by then.
 * - `final-efault`: the NOWAIT lookup's -EFAULT is final; only "needs I/O" goes asynchronous.
 * - `ready-error` (Goyal, patch 2): the error travels in the page-ready event (ready_flags); where the guest got no
 *   "not present", or does not understand it, one error_gfn as above.
 * - `memory-fault-exit` (Moorthy): kvm_handle_error_pfn() fills in KVM_EXIT_MEMORY_FAULT; the asynchronous path stays.
 * - `inject-mce`, `inject-ve`: the lookup's -EFAULT is final and KVM queues the exception instead of returning.
 */
import { guestPersonas } from "../../../language/src/index.ts";
import type { Machine, Party } from "./machine.ts";
import type { Page } from "./page.ts";
import type { Task } from "./task.ts";
import type { Vcpu } from "./vcpu.ts";

/** Is -EFAULT from the NOWAIT attempt believed? */
export function treatsFaultAsFinal(m: Machine): boolean {
  switch (m.case.kvm) {
    case "final-efault":
    case "inject-mce":
    case "inject-ve":
      return true;
    case "today":
    case "uniform-efault":
    case "error-gfn":
    case "error-pending":
    case "exit-request":
    case "ready-error":
    case "memory-fault-exit":
    case "legacy-pf":
      return false;
  }
}

/** Must this fault go synchronous because an earlier one failed? */
export function forcesSync(m: Machine, vcpu: Vcpu, page: Page): boolean {
  switch (m.case.kvm) {
    case "uniform-efault":
    case "error-gfn":
    case "ready-error":
      if (vcpu.errorGfnInSlotOf(page) !== page) return false;
      if (m.checks("error-slot-cleared")) vcpu.clearErrorGfn(page);
      return true;
    case "error-pending":
      return vcpu.hasErrorPending;
    case "today":
    case "exit-request":
    case "final-efault":
    case "memory-fault-exit":
    case "inject-mce":
    case "inject-ve":
    case "legacy-pf":
      return false;
  }
}

/** An error reaches kvm_handle_error_pfn(). */
export function reportedError(m: Machine, vcpu: Vcpu): void {
  if (m.checks("error-pending-cleared")) vcpu.hasErrorPending = false;
}

/** Does KVM keep the error of a completion, or act on it? */
export function remembersFailure(m: Machine): boolean {
  switch (m.case.kvm) {
    case "uniform-efault":
    case "error-gfn":
    case "error-pending":
    case "exit-request":
    case "ready-error":
      return true;
    case "today":
    case "final-efault":
    case "memory-fault-exit":
    case "inject-mce":
    case "inject-ve":
    case "legacy-pf":
      return false;
  }
}

export type FailedCompletion = {
  readonly page: Page;
  /** The task that faulted. */
  readonly task: Task | null;
  readonly isInjected: boolean;
};

/** kvm_arch_async_page_ready() could not fault the page in: the result that today's KVM ignores. */
export function completionFailed(m: Machine, vcpu: Vcpu, { page, task, isInjected }: FailedCompletion): void {
  if (!m.checks("error-is-recorded")) return;
  switch (m.case.kvm) {
    case "uniform-efault":
    case "error-gfn":
      recordErrorGfn(m, vcpu, page);
      return;
    case "ready-error":
      if (
        (!isInjected && m.checks("error-only-if-injected")) ||
        !guestPersonas[m.case.guest].pageReadyErrors
      ) {
        recordErrorGfn(m, vcpu, page);
        return;
      }
      vcpu.readyFlags = "error";
      m.log?.("apf-ready", "kvm", "guest", `... with the error flag: page ${page.index} cannot be had`);
      return;
    case "error-pending":
      vcpu.hasErrorPending = true;
      m.log?.("fault", "kvm", "kvm", "async page faults off until an error has been reported");
      return;
    case "exit-request":
      vcpu.goTo("stopped");
      vcpu.stop = "efault";
      vcpu.faulter = task;
      m.log?.("exit", "kvm", "vmm", `KVM_RUN returns: -EFAULT for page ${page.index}, requested`);
      m.traceExit(vcpu, "efault");
      return;
    case "today":
    case "final-efault":
    case "memory-fault-exit":
    case "inject-mce":
    case "inject-ve":
    case "legacy-pf":
      return;
  }
}

function recordErrorGfn(m: Machine, vcpu: Vcpu, page: Page): void {
  const before = vcpu.errorGfnInSlotOf(page);
  const lost = before !== null && before !== page ? `, page ${before.index} is forgotten` : "";
  vcpu.setErrorGfn(page);
  m.log?.("fault", "kvm", "kvm", `page ${page.index} is remembered as bad${lost}`);
}

/** Does KVM itself inject an exception instead of returning? True if it did (or the guest died of it). */
export function injectError(m: Machine, vcpu: Vcpu): boolean {
  switch (m.case.kvm) {
    case "inject-mce":
      injectMachineCheck(m, vcpu, "kvm");
      return true;
    case "inject-ve":
      return injectVe(m, vcpu, "kvm");
    case "today":
    case "uniform-efault":
    case "error-gfn":
    case "error-pending":
    case "exit-request":
    case "final-efault":
    case "ready-error":
    case "memory-fault-exit":
    case "legacy-pf":
      return false;
  }
}

/**
 * #MC at the faulting instruction, store or load: the access is an EPT violation, so a store has not retired. Hardware's own
 * reports are in `memory-error.ts`. With CR4.MCE clear a triple fault (kvm_vcpu_ioctl_x86_set_mce()).
 */
export function injectMachineCheck(m: Machine, vcpu: Vcpu, by: Party): void {
  if (m.case.guest === "unaware" && m.checks("mce-enabled-test")) {
    vcpu.goTo("stopped");
    vcpu.stop = "triple-fault";
    m.log?.("exit", by, "guest", "#MC with CR4.MCE clear: triple fault");
    m.traceExit(vcpu, "triple-fault");
    return;
  }
  vcpu.goTo("guest");
  vcpu.event = "#MC";
  m.log?.("inject", by, "guest", `#MC for page ${vcpu.faultingPage.index}`);
}

/** #VE: one at a time, guarded by the busy word of the information page. False if it cannot be injected. */
export function injectVe(m: Machine, vcpu: Vcpu, by: Party): boolean {
  if (vcpu.isVeBusy) return false;
  vcpu.goTo("guest");
  vcpu.isVeBusy = true;
  // A VMM's is already injected (vmm.ts). One that KVM queues is L1's: an L1 that takes #VE for errors intercepts it.
  const isForL2 = vcpu.runsL2 && (by === "vmm" || !m.checks("nested-interception"));
  vcpu.event = isForL2 ? "#VE in L2" : "#VE";
  m.log?.("inject", by, "guest", `#VE for page ${vcpu.faultingPage.index}`);
  return true;
}
