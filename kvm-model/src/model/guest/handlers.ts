/**
 * The guest's exception and interrupt handlers (the `guest` axis).
 *
 * Mirrors arch/x86/kernel/kvm.c (__kvm_handle_async_pf, kvm_async_pf_task_wait_schedule, sysvec_kvm_asyncpf_interrupt,
 * kvm_async_pf_task_wake with its dummy node), and what a Linux guest does with #MC (memory_failure, exception table
 * types EX_TYPE_*_MCE_SAFE), #PF, #VE, NMI. `apf-error` and `pv-error` are proposals, not Linux.
 */
import { guestPersonas } from "../../../../language/src/index.ts";
import type { Action } from "../../explore/model.ts";
import { modeOf } from "../access.ts";
import { hasDoneWork } from "../apf.ts";
import type { AccessStep } from "../case.ts";
import { NO_TOKEN, TOKEN_ALL, TOKEN_GARBAGE, type Token } from "../fields.ts";
import type { Machine } from "../machine.ts";
import { type Task, taskName } from "../task.ts";
import type { GuestEvent, Ready, Vcpu } from "../vcpu.ts";
import { linuxFault } from "./linux-fault.ts";
import { strayPageFault } from "./nmi.ts";
import { oops, sigbus } from "./sigbus.ts";

/** Events that report a lost page. */
type ErrorEvent = Exclude<
  GuestEvent,
  "none" | "async #PF" | "async #PF VM exit" | "not present" | "acknowledging"
>;

/** __kvm_handle_async_pf(): read flags and CR2, then sleep (or wake: the protocol before 5.8). */
function asyncPageFault(m: Machine, vcpu: Vcpu): void {
  const { task, cr2: token } = vcpu;
  // kvm_read_and_reset_apf_flags(): 0 in a guest that has not enabled them.
  const reason = m.enablesApf ? vcpu.apfFlags : "none";
  vcpu.apfFlags = "none";
  if (vcpu.runsL2 && reason === "not-present") {
    vcpu.event = "async #PF VM exit";
    m.log?.("apf-not-present", "guest", "guest", `#PF VM exit of L2, token ${token}`);
    return;
  }
  vcpu.event = "none";
  vcpu.cr2 = NO_TOKEN;
  if (reason === "ready") {
    wake(m, token, "ok");
    return;
  }
  const access = vcpu.currentAccess;
  const inKernel = access !== null && modeOf(access) === "kernel";
  if (reason === "none") {
    m.mark("wrong-victim");
    if (inKernel) {
      oops(m, task, "oops", "#PF with a token as address");
      return;
    }
    m.log?.("exception", "guest", "guest", `#PF at address ${token}: ${taskName(task)} gets SIGSEGV`);
    task?.die();
    return;
  }
  if (inKernel && m.case.kvm !== "legacy-pf") {
    oops(m, task, "panic", "host injected async #PF in kernel mode");
    return;
  }
  if (inKernel && (access.preemptible === false || access.interrupts === "off")) {
    oops(m, task, "panic", "async #PF where the kernel may not schedule");
    return;
  }
  waitForReady(m, vcpu, token);
}

/** The handler of a "not present" that is no #PF: its token is its own, whatever CR2 and the flags are. */
function notPresent(m: Machine, vcpu: Vcpu): void {
  const { notPresentToken: token, task } = vcpu;
  vcpu.event = "none";
  vcpu.notPresentToken = NO_TOKEN;
  vcpu.isVeBusy = false;
  if (m.works.some((work) => work.token === token && work.task !== task)) m.mark("wrong-victim");
  waitForReady(m, vcpu, token);
}

/** kvm_handle_page_fault() of L1's KVM (arch/x86/kvm/mmu/mmu.c), host_apf_flags set. */
function waitInL1(m: Machine, vcpu: Vcpu): void {
  const { cr2: token } = vcpu;
  vcpu.event = "none";
  vcpu.cr2 = NO_TOKEN;
  waitForReady(m, vcpu, token);
}

/** kvm_async_pf_task_wait_schedule(). */
function waitForReady(m: Machine, vcpu: Vcpu, token: Token): void {
  const { task } = vcpu;
  const dummy = m.isTaskToken(token) ? m.dummyNode(token) : "absent";
  if (dummy !== "absent") {
    m.setDummyNode(token, "absent");
    m.log?.("apf-not-present", "guest", "guest", `token ${token} was woken already: no sleep`);
    if (task !== null) task.wokenWith = dummy;
    return;
  }
  if (task === null) throw new Error(`${m.case.name}: async #PF on a vCPU that runs no task`);
  task.state = "sleeping";
  task.token = token;
  vcpu.task = null;
  vcpu.hasRun = false;
  m.log?.("apf-not-present", "guest", "guest", `${task.name} sleeps on token ${token}`);
}

/** kvm_async_pf_task_wake(). */
function wake(m: Machine, token: Token, flags: Ready): void {
  let woken = 0;
  for (const task of m.tasks) {
    if (task.state !== "sleeping") continue;
    if (token !== TOKEN_ALL && task.token !== token && m.checks("token-matched")) continue;
    task.state = "runnable";
    task.token = NO_TOKEN;
    task.wokenWith = flags;
    woken++;
    m.log?.("apf-ready", "guest", "guest", `wakes ${task.name}${flags === "error" ? " with an error" : ""}`);
  }
  if (woken > 0 || token === TOKEN_ALL || !m.isTaskToken(token) || !m.checks("dummy-node")) return;
  if (m.vcpus.some((vcpu) => isToWaitFor(vcpu, token))) {
    m.setDummyNode(token, flags);
    m.log?.("apf-ready", "guest", "guest", `no task sleeps on token ${token} yet: dummy node`);
    return;
  }
  // Its token is never given out again, so which one it was makes no difference.
  m.leaveDummy();
  m.log?.(
    "apf-ready",
    "guest",
    "guest",
    `no task sleeps on token ${token}, or ever will: a dummy node is left`,
  );
}

/** Has this vCPU a "not present" with the token that has not led to a wait yet? */
function isToWaitFor(vcpu: Vcpu, token: Token): boolean {
  if (vcpu.notPresentToken === token) return true;
  return (vcpu.event === "async #PF" || vcpu.event === "async #PF VM exit") && vcpu.cr2 === token;
}

/** sysvec_kvm_asyncpf_interrupt(), up to the ACK. */
function pageReadyInterrupt(m: Machine, vcpu: Vcpu): void {
  const { readyToken, readyFlags } = vcpu;
  vcpu.hasReadyIrq = false;
  if (m.checks("token-zeroed")) vcpu.readyToken = NO_TOKEN;
  vcpu.readyFlags = "ok";
  wake(m, readyToken, readyFlags);
  if (vcpu.event === "none") vcpu.event = m.case.ack ? "acknowledging" : "none";
  // Between the reading of the flags and the wait: the handler as one step.
  else if (m.case.ack) rescan(m, vcpu);
}

/** MSR_KVM_ASYNC_PF_ACK: pageready_pending = false, then kvm_check_async_pf_completion(). */
function acknowledge(m: Machine, vcpu: Vcpu): void {
  vcpu.event = "none";
  rescan(m, vcpu);
}

function rescan(m: Machine, vcpu: Vcpu): void {
  m.log?.("apf-ready", "guest", "kvm", "ACK: next one, please");
  if (hasDoneWork(m, vcpu) && m.checks("ack-rescans")) vcpu.hasReadyRequest = true;
}

/** Does an exception table entry cover what the guest kernel was doing, for this kind of event? */
function isCovered(m: Machine, access: AccessStep, event: ErrorEvent): boolean {
  if (!m.checks("extable-consulted") || access.fixup === false) return false;
  // A fault at an address: every user copy has an entry, whatever it was copying from or to.
  if (event !== "#MC") return access.op.startsWith("copy-") || access.op.startsWith("dax-");
  switch (access.op) {
    case "copy-from-user":
      return true;
    case "dax-read":
      return guestPersonas[m.case.guest].machineCheckSafe === "all" || m.case.daxCopies === "pmem";
    case "copy-to-user":
    case "dax-write":
      // No store is covered by an EX_TYPE_DEFAULT_MCE_SAFE entry today.
      return guestPersonas[m.case.guest].machineCheckSafe === "all";
    default:
      return false;
  }
}

/** Does this guest know what the event means? */
export function understands(m: Machine, event: ErrorEvent): boolean {
  switch (event) {
    case "#PF in L2":
    case "#VE in L2":
      return false;
    case "#MC":
      return true;
    case "#VE":
      return guestPersonas[m.case.guest].understandsVe;
    case "#PF":
    case "NMI":
    case "error interrupt":
      // Otherwise Linux finds nothing wrong with its own mapping, and returns.
      return guestPersonas[m.case.guest].pageFaultIsError;
  }
}

function isErrorEvent(event: GuestEvent): event is ErrorEvent {
  switch (event) {
    case "none":
    case "async #PF":
    case "async #PF VM exit":
    case "not present":
    case "acknowledging":
      return false;
    case "#PF in L2":
    case "#VE in L2":
    case "#MC":
    case "#VE":
    case "#PF":
    case "NMI":
    case "error interrupt":
      return true;
  }
}

/** #MC, #VE, #PF, NMI or error interrupt about a lost page. The current task is taken for the one that touched it. */
function errorEvent(m: Machine, vcpu: Vcpu): void {
  const { event, task, faultingPage: page } = vcpu;
  if (!isErrorEvent(event)) return;
  const access = vcpu.currentAccess;
  vcpu.event = "none";
  vcpu.isVeBusy = false;
  vcpu.forgetFaultingPage();
  if (task !== vcpu.faulter) m.mark("wrong-victim");
  vcpu.forgetFaulter();
  if (vcpu.cr2 === TOKEN_GARBAGE) {
    vcpu.cr2 = NO_TOKEN;
    strayPageFault(m, task, access);
    return;
  }
  if (!understands(m, event)) {
    if (event === "#VE in L2") {
      m.mark("lost-report");
      m.log?.(
        "exception",
        "guest",
        "guest",
        `${event}: its kernel has no handler, and dies: ${taskName(task)} ends`,
      );
      task?.die();
      return;
    }
    if (event === "#VE") {
      oops(m, task, "panic", "#VE without a handler");
      return;
    }
    if (event !== "#PF" || task === null || access === null || linuxFault(m, access) === "retries") {
      m.log?.("exception", "guest", "guest", `${event}: finds nothing wrong and returns`);
      return;
    }
    badArea(m, task, access);
    return;
  }
  if (task === null || access === null) {
    if (event === "#MC") {
      oops(m, task, "panic", "#MC out of context");
      return;
    }
    m.mark("lost-report");
    m.log?.("exception", "guest", "guest", `${event}: concerns nothing that runs here: lost`);
    return;
  }
  if (modeOf(access) === "kernel" || access.mode === "kernel") {
    errorInKernel(m, task, access, event);
    return;
  }
  m.log?.("exception", "guest", "guest", `${event} in ${task.name}`);
  // memory_failure(): the page is poisoned for good, whatever the host does with the file later.
  if (event === "#MC" && m.case.mceAddress === "usable") page.isGuestPoisoned = true;
  sigbus(m, task, event === "#MC" ? "BUS_MCEERR_AR" : "BUS_ADRERR");
}

/** bad_area_access_error() and kernelmode_fixup_or_oops() of Linux. */
function badArea(m: Machine, task: Task, access: AccessStep): void {
  if (modeOf(access) === "kernel" || access.mode === "kernel") {
    errorInKernel(m, task, access, "#PF");
    return;
  }
  m.log?.("exception", "guest", "guest", `#PF is an access error: ${task.name} gets SIGSEGV`);
  task.die();
}

function errorInKernel(m: Machine, task: Task, access: AccessStep, event: ErrorEvent): void {
  if (isCovered(m, access, event)) {
    m.log?.("fixup", "guest", "guest", `${event}: exception table: ${access.op} returns -EFAULT`);
    task.advance("efault");
    return;
  }
  const end = event === "#MC" ? "panic" : "oops";
  oops(m, task, end, `${event} in ${access.op} of the guest kernel, no exception table entry`);
}

/** No handler runs with interrupts off. */
function takesInterrupt(vcpu: Vcpu): boolean {
  return vcpu.isInterrupted && (vcpu.event === "none" || vcpu.event === "async #PF VM exit");
}

export function handlerActions(m: Machine, vcpu: Vcpu): Action[] {
  const handler = (name: string, apply: () => void): Omit<Action, "guard"> => ({
    name: `guest: vcpu${vcpu.index} ${name}`,
    actor: `guest${vcpu.index}`,
    apply,
  });
  const isHere = (): boolean => vcpu.place === "guest" && m.alive;
  return [
    {
      ...handler("reads flags and CR2", () => asyncPageFault(m, vcpu)),
      guard: () => vcpu.event === "async #PF" && isHere(),
    },
    {
      ...handler("reads the token of what is not present", () => notPresent(m, vcpu)),
      guard: () => vcpu.event === "not present" && isHere(),
    },
    {
      ...handler("waits for the token of L2's page", () => waitInL1(m, vcpu)),
      guard: () => vcpu.event === "async #PF VM exit" && isHere(),
    },
    {
      ...handler("handles an error event", () => errorEvent(m, vcpu)),
      guard: () => isErrorEvent(vcpu.event) && isHere(),
    },
    {
      ...handler("takes the page-ready interrupt", () => pageReadyInterrupt(m, vcpu)),
      guard: () => takesInterrupt(vcpu) && isHere(),
    },
    {
      ...handler("acknowledges page-ready", () => acknowledge(m, vcpu)),
      guard: () => vcpu.event === "acknowledging" && isHere(),
    },
  ];
}
