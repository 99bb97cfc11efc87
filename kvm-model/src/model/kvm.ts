/**
 * KVM's page-fault path, cut where another CPU can come in between. One vCPU: exit, snapshot, lookup, then one of
 * asynchronous set-up, synchronous retry, error, map.
 *
 * Mirrors, in this order: kvm_faultin_pfn() (snapshot of mmu_invalidate_seq), __kvm_faultin_pfn() (NOWAIT attempt, then
 * kvm_can_do_async_pf(), kvm_find_async_pf_gfn(), kvm_arch_setup_async_pf(), else one synchronous attempt),
 * kvm_handle_error_pfn(), is_page_fault_stale(), all of arch/x86/kvm/mmu/mmu.c; kvm_can_do_async_pf() of x86.c.
 * `proposals.ts` has the changes of the proposals; this file asks it at four places.
 */
import type { Action } from "../explore/model.ts";
import { armAsync, canDeliver, hasFreeWork } from "./apf.ts";
import type { AccessStep } from "./case.ts";
import { type Gup, getUserPage, mapSecondLevel, sleepsForEver } from "./host-mm.ts";
import type { Machine } from "./machine.ts";
import type { Page } from "./page.ts";
import { forcesSync, injectError, reportedError, treatsFaultAsFinal } from "./proposals.ts";
import type { Task } from "./task.ts";
import type { PfnError, Stop, Vcpu } from "./vcpu.ts";

/** Kind of the step that every page fault of a vCPU takes first: a loop of faults goes through it again and again. */
export const FAULT_STEP = "page fault";

/**
 * kvm_can_do_async_pf(): in KVM's order. An in-kernel APIC and IF=1 are enough: the guest need not have enabled
 * anything, which is why the loop needs no cooperation of the guest.
 */
function canDoAsync(m: Machine, vcpu: Vcpu): boolean {
  if (m.checks("lapic-test") && m.case.lapic !== "kernel") return false;
  // kvm_event_needs_reinjection() and kvm_is_exception_pending() cannot hold here: the guest was running.
  // kvm_hlt_in_guest(): synchronous only where "not present" cannot be delivered.
  const isDeliverable = m.checks("hlt-deliver-test") && canDeliver(m, vcpu);
  if (m.case.exits === "hlt-in-guest" && !isDeliverable) return false;
  if (m.checks("interrupt-flag-test") && !vcpu.interruptsOn) return false;
  return true;
}

const stopWords: Readonly<Record<Stop, string>> = {
  none: "-",
  efault: "-EFAULT, exit reason 0",
  "memory-fault": "-EFAULT, KVM_EXIT_MEMORY_FAULT with the gpa",
  poison: "-EINTR, SIGBUS BUS_MCEERR_AR pending",
  mmio: "KVM_EXIT_MMIO with the gpa of RAM",
  "internal-error": "KVM_EXIT_INTERNAL_ERROR, emulation failed",
  "triple-fault": "KVM_EXIT_SHUTDOWN, triple fault",
};

export function exitToUserspace(m: Machine, vcpu: Vcpu, stop: Stop): void {
  vcpu.goTo("stopped");
  vcpu.stop = stop;
  m.log?.("exit", "kvm", "vmm", `KVM_RUN returns: ${stopWords[stop]}`);
  m.traceExit(vcpu, stop);
}

/** Back into the guest, which executes the same instruction again. */
export function resumeGuest(vcpu: Vcpu): void {
  vcpu.goTo("guest");
  vcpu.forgetFaultingPage();
  vcpu.mmuSeq = 0;
  vcpu.pfn = "none";
  vcpu.pfnError = "none";
}

function toError(vcpu: Vcpu, error: PfnError): void {
  vcpu.goTo("error");
  vcpu.pfnError = error;
}

/** kvm_faultin_pfn(): the number that is_page_fault_stale() compares. */
function takeSnapshot(m: Machine, vcpu: Vcpu): void {
  m.log?.("fault", "kvm", "kvm", `remembers mmu_invalidate_seq (${m.mmuInvalidateSeq})`);
  vcpu.mmuSeq = m.mmuInvalidateSeq;
  vcpu.goTo("lookup");
}

/** hva_to_pfn() for the vCPU, and where its answer leads. */
function lookup(m: Machine, vcpu: Vcpu, gup: Gup): void {
  const page = vcpu.faultingPage;
  const isSync = gup === "may sleep";
  let error: PfnError = "none";
  switch (getUserPage(m, page, gup)) {
    case "ok":
      vcpu.pfn = page.pfn;
      vcpu.goTo("map");
      m.log?.("fault", "kvm", "host", `looks up page ${page.index}: there`);
      return;
    case "hwpoison":
      m.log?.("fault", "kvm", "host", `looks up page ${page.index}: hardware poison`);
      m.mark("met-lost-page");
      error = isSync || m.checks("hwpoison-before-async") ? "hwpoison" : "none";
      break;
    case "no VMA":
      m.log?.("fault", "kvm", "host", `looks up page ${page.index}: nothing mapped there`);
      error = isSync || m.checks("vma-test") ? "fault" : "none";
      break;
    case "fault":
      m.log?.("fault", "kvm", "host", `looks up page ${page.index}: -EFAULT, the file has no such page`);
      m.mark("met-lost-page");
      error = isSync || treatsFaultAsFinal(m) ? "fault" : "none";
      break;
    case "needs I/O":
      m.log?.("fault", "kvm", "host", `looks up page ${page.index}: needs I/O`);
  }
  // Today every failure of the NOWAIT attempt with a valid VMA reads "needs I/O" (KVM_PFN_ERR_NEEDS_IO).
  if (error === "none") vcpu.goTo("async");
  else toError(vcpu, error);
}

/** __kvm_faultin_pfn() after the NOWAIT attempt: asynchronous, halted, or synchronous. */
function setUpAsync(m: Machine, vcpu: Vcpu): void {
  const page = vcpu.faultingPage;
  if (forcesSync(m, vcpu, page) || !canDoAsync(m, vcpu)) {
    vcpu.goTo("sync");
    return;
  }
  m.trace("kvm_try_async_get_page", vcpu, page);
  if (m.checks("gfn-hash-lookup") && vcpu.hasAsyncGfn(page)) haltArtificially(m, vcpu, page);
  else if (hasFreeWork(m, vcpu)) armAsync(m, vcpu, page);
  else vcpu.goTo("sync");
}

/** KVM_REQ_APF_HALT: a fault on this gfn is outstanding already. */
function haltArtificially(m: Machine, vcpu: Vcpu, page: Page): void {
  vcpu.goTo("halted");
  m.log?.("apf-halt", "kvm", "kvm", `page ${page.index} is already being fetched: artificial halt`);
  m.trace("kvm_async_pf_repeated_fault", vcpu, page);
}

/** kvm_handle_error_pfn(). */
function handleError(m: Machine, vcpu: Vcpu): void {
  vcpu.faulter = vcpu.task;
  if (vcpu.pfnError === "hwpoison") {
    exitToUserspace(m, vcpu, "poison");
    return;
  }
  reportedError(m, vcpu);
  if (injectError(m, vcpu)) return;
  exitToUserspace(m, vcpu, m.case.kvm === "memory-fault-exit" ? "memory-fault" : "efault");
}

/** is_page_fault_stale(). */
function isStale(m: Machine, vcpu: Vcpu): boolean {
  // A snapshot taken after the lookup (a mutation) is the current number, hence never different from it.
  const snapshot = m.checks("snapshot-first") ? vcpu.mmuSeq : m.mmuInvalidateSeq;
  return m.mmuInvalidateInProgress > 0 || m.mmuInvalidateSeq !== snapshot;
}

function mapPage(m: Machine, vcpu: Vcpu): void {
  const page = vcpu.faultingPage;
  if (isStale(m, vcpu) && m.checks("stale-check")) {
    m.log?.("fault", "kvm", "kvm", `page ${page.index} was invalidated meanwhile: try again`);
  } else {
    mapSecondLevel(m, page, vcpu.pfn);
    const what = m.hasLargeEpt ? "all pages by one large entry" : `page ${page.index}`;
    m.log?.("map", "kvm", "guest", `maps ${what}`);
  }
  resumeGuest(vcpu);
}

/** The guest's access made the CPU exit with an EPT violation (or the shadow MMU's #PF). */
export function takeFault(m: Machine, vcpu: Vcpu, task: Task, access: AccessStep): void {
  m.log?.("fault", "guest", "kvm", `${task.name}: ${access.op} of page ${access.page} faults`);
  vcpu.faultingPage = m.page(access.page);
  if (access.emulated === true) {
    emulate(m, vcpu, task, access);
    return;
  }
  m.trace("kvm_page_fault", vcpu, vcpu.faultingPage);
  vcpu.goTo("exit");
}

/**
 * emulator_read_write_onepage(): a failed copy from the hva falls through to "is this MMIO?", so RAM that cannot be had
 * becomes KVM_EXIT_MMIO; an instruction fetch ends in KVM_EXIT_INTERNAL_ERROR. Never asynchronous. (An atomic, too, first
 * reads: MMIO. Only a VMM that completes that read goes on to emulator_cmpxchg_emulated() and an internal error.)
 */
function emulate(m: Machine, vcpu: Vcpu, task: Task, access: AccessStep): void {
  const page = vcpu.faultingPage;
  vcpu.faulter = task;
  if (sleepsForEver(page)) {
    vcpu.goTo("sync");
    return;
  }
  if (getUserPage(m, page, "may sleep") !== "ok") {
    m.mark("met-lost-page");
    exitToUserspace(m, vcpu, access.op === "fetch" ? "internal-error" : "mmio");
    return;
  }
  page.ept = page.pfn;
  resumeGuest(vcpu);
}

function faultPath(m: Machine, vcpu: Vcpu): Action[] {
  const actor = `vcpu${vcpu.index}`;
  const step = (name: string, apply: () => void): Omit<Action, "guard"> => ({
    name: `${actor}: ${name}`,
    actor,
    apply,
  });
  return [
    {
      ...step("snapshot of mmu_invalidate_seq", () => takeSnapshot(m, vcpu)),
      guard: () => vcpu.place === "exit" && m.alive,
      kind: FAULT_STEP,
    },
    {
      ...step("lookup, NOWAIT", () => lookup(m, vcpu, "FOLL_NOWAIT")),
      guard: () => vcpu.place === "lookup" && m.alive,
    },
    {
      ...step("async set-up or not", () => setUpAsync(m, vcpu)),
      guard: () => vcpu.place === "async" && m.alive,
    },
    {
      ...step("lookup, synchronous", () => lookup(m, vcpu, "may sleep")),
      guard: () => vcpu.place === "sync" && m.alive && !sleepsForEver(vcpu.faultingPage),
    },
    {
      ...step("handle_error_pfn", () => handleError(m, vcpu)),
      guard: () => vcpu.place === "error" && m.alive,
      // Touches this vCPU's fields only. Not so where another vCPU may stop the VM meanwhile.
      local: m.vcpus.length === 1,
    },
    {
      ...step("map under mmu_lock", () => mapPage(m, vcpu)),
      guard: () => vcpu.place === "map" && m.alive,
    },
  ];
}

export function kvmActions(m: Machine): Action[] {
  return m.vcpus.flatMap((vcpu) => faultPath(m, vcpu));
}
