/**
 * Asynchronous page faults: queue, worker, completion, page-ready; the shared area and its two words.
 *
 * Mirrors virt/kvm/async_pf.c (kvm_setup_async_pf, async_pf_execute, kvm_check_async_pf_completion) and
 * arch/x86/kvm/x86.c (kvm_can_deliver_async_pf, kvm_arch_async_page_not_present, kvm_arch_async_page_ready,
 * kvm_arch_async_page_present, kvm_arch_can_dequeue_async_page_present). `legacy-pf` is the protocol before 5.8: both
 * events as #PF, the reason in the shared area's first word, the token in CR2; page-ready whether or not "not present" had
 * been injected. (What 5.7 does where a "not present" is still pending then cannot be reached: kvm_can_do_async_pf() has
 * refused to dequeue.)
 */
import type { Action } from "../explore/model.ts";
import { modeOf } from "./access.ts";
import { NO_TOKEN, TOKEN_ALL, type Token } from "./fields.ts";
import { getUserPage, sleepsForEver } from "./host-mm.ts";
import type { Machine } from "./machine.ts";
import type { Page } from "./page.ts";
import { completionFailed } from "./proposals.ts";
import type { Vcpu } from "./vcpu.ts";
import type { Work } from "./work.ts";

/** kvm_can_deliver_async_pf(): may this vCPU, where it is now, get "page not present"? */
export function canDeliver(m: Machine, vcpu: Vcpu): boolean {
  if ((!m.enablesApf && m.checks("apf-enabled-test")) || m.case.lapic !== "kernel") return false;
  const access = vcpu.currentAccess;
  if (access === null) return false;
  // The information area is taken until the handler has read it.
  if (m.case.delivery === "ve" && vcpu.isVeBusy) return false;
  switch (modeOf(access)) {
    case "user":
      return true;
    case "kernel":
      return m.case.sendAlways || !m.checks("user-only-test");
    case "nested":
      return m.case.vmexitDelivery || !m.checks("vmexit-delivery-test");
  }
}

/** vcpu->async_pf.queued < ASYNC_PF_PER_VCPU. */
export function hasFreeWork(m: Machine, vcpu: Vcpu): boolean {
  let queued = 0;
  let isFree = false;
  for (const work of m.works) {
    if (work.state === "free") isFree = true;
    else if (work.isOf(vcpu)) queued++;
  }
  return isFree && (queued < (m.case.asyncLimit ?? m.works.length) || !m.checks("async-limit"));
}

function freshToken(m: Machine): Token {
  const { tokens } = m.context;
  for (let token = 1; token <= tokens; token++) if (!isInUse(m, token as Token)) return token as Token;
  throw new Error(`${m.case.name}: more than ${tokens} tokens are in use at once: make the pool larger`);
}

function isInUse(m: Machine, token: Token): boolean {
  if (m.hasDummyNode(token)) return true;
  for (const work of m.works) if (work.token === token) return true;
  for (const task of m.tasks) if (task.token === token) return true;
  for (const vcpu of m.vcpus)
    if (vcpu.readyToken === token || vcpu.cr2 === token || vcpu.notPresentToken === token) return true;
  return false;
}

/** kvm_arch_setup_async_pf(): kvm_setup_async_pf() and kvm_arch_async_page_not_present(). */
export function armAsync(m: Machine, vcpu: Vcpu, page: Page): void {
  const token = freshToken(m);
  const isInjected = canDeliver(m, vcpu);
  m.trace("kvm_async_pf_not_present", vcpu, page);
  firstFree(m).queue({ vcpu, page, task: vcpu.task, token, isInjected, isOfL2: vcpu.runsL2 });
  vcpu.addAsyncGfn(page);
  vcpu.forgetFaultingPage();
  vcpu.mmuSeq = 0;
  if (!isInjected) {
    vcpu.goTo("halted");
    m.log?.("apf-halt", "kvm", "kvm", `token ${token}: the guest cannot be told: artificial halt`);
    return;
  }
  deliverNotPresent(m, vcpu, token);
  vcpu.goTo("guest");
  m.log?.("apf-not-present", "kvm", "guest", `page not present, token ${token}`);
}

function deliverNotPresent(m: Machine, vcpu: Vcpu, token: Token): void {
  switch (m.case.delivery) {
    case "pf":
      vcpu.apfFlags = "not-present";
      vcpu.cr2 = token;
      vcpu.event = "async #PF";
      return;
    case "ve":
      vcpu.isVeBusy = true;
      break;
    case "mce":
    case "interrupt":
  }
  vcpu.notPresentToken = token;
  vcpu.event = "not present";
}

function firstFree(m: Machine): Work {
  for (const work of m.works) if (work.state === "free") return work;
  throw new Error(`${m.case.name}: no async-pf entry is free`);
}

/** kvm_arch_can_dequeue_async_page_present(). */
function canDequeue(m: Machine, vcpu: Vcpu): boolean {
  if (!m.enablesApf) return true;
  if (m.case.kvm === "legacy-pf")
    return vcpu.event === "none" && vcpu.apfFlags === "none" && vcpu.interruptsOn;
  return !m.checks("slot-free-test") || vcpu.readyToken === NO_TOKEN;
}

/** !list_empty_careful(&vcpu->async_pf.done). */
export function hasDoneWork(m: Machine, vcpu: Vcpu): boolean {
  for (const work of m.works) if (work.state === "done" && work.isOf(vcpu)) return true;
  return false;
}

/** async_pf_execute(): brings the page in if it can, and drops the result. */
function execute(m: Machine, work: Work): void {
  const { page } = work;
  const isThere = getUserPage(m, page, "may sleep") === "ok";
  const words = isThere ? "it is there now" : "it fails, and the result is dropped";
  m.log?.("fault", "worker", "host", `fetches page ${page.index}: ${words}`);
  if (!isThere && !m.checks("worker-completes")) return;
  work.finish();
  if (m.checks("ready-kicks")) work.vcpu.hasReadyRequest = true;
}

const WORKER = "worker.";

/** Is it an actor of the workqueue? Each entry is a work item of its own (schedule_work()): none waits for another. */
export function isWorker(actor: string): boolean {
  return actor.startsWith(WORKER);
}

function workerAction(m: Machine, work: Work): Action {
  return {
    name: `worker: get_user_pages for entry ${work.index}`,
    actor: `${WORKER}${work.index}`,
    guard: () => work.state === "queued" && !sleepsForEver(work.page),
    apply: () => execute(m, work),
  };
}

/**
 * kvm_arch_async_page_ready() faults the page in once more, never asynchronously (`prefetch`). False if that fails. It goes
 * through is_page_fault_stale() like every fault; as one step it meets an invalidation that is under way, not one that has ended.
 */
function prefetch(m: Machine, page: Page): boolean {
  if (getUserPage(m, page, "may sleep") !== "ok") return false;
  const isStale = m.mmuInvalidateInProgress > 0 && m.checks("prefetch-stale-check");
  if (!isStale && page.ept === "none") page.ept = page.pfn;
  return true;
}

/** kvm_arch_async_page_ready() compares `arch.direct_map`: a fault of L2 is not tried while the vCPU runs L1. */
function hasMmuOf(m: Machine, vcpu: Vcpu, work: Work): boolean {
  return work.isOfL2 === vcpu.hasMmuOfL2 || !m.checks("prefetch-same-mmu");
}

/** @param how whether page-ready maps its page on the way, if it is there */
export function pageReady(m: Machine, vcpu: Vcpu, how: "prefetch" | "no prefetch"): void {
  const work = firstDone(m, vcpu);
  const { page, token, isInjected, task } = work;
  const isBroadcast = token === TOKEN_ALL;
  const isTried = how === "prefetch" && !isBroadcast && hasMmuOf(m, vcpu, work);
  const failed = isTried && !prefetch(m, page);
  work.free();
  if (!isBroadcast && m.checks("gfn-hash-cleared")) vcpu.delAsyncGfn(page);
  if (vcpu.place === "halted" && m.checks("ready-clears-halt")) vcpu.goTo("guest");
  if ((isInjected || isBroadcast || !needsInjected(m)) && m.enablesApf) {
    m.log?.("apf-ready", "kvm", "guest", isBroadcast ? "wake all" : `page ready, token ${token}`);
    deliverReady(m, vcpu, token);
  } else {
    m.log?.("apf-ready", "kvm", "kvm", `page ${page.index} is ready: the artificial halt ends`);
  }
  if (!isBroadcast) m.trace("kvm_async_pf_ready", vcpu, page);
  if (failed) completionFailed(m, vcpu, { page, task, isInjected });
  if (!hasDoneWork(m, vcpu) || (needsRequest(m) && !canDequeue(m, vcpu))) vcpu.hasReadyRequest = false;
}

/**
 * "Inject 'page ready' event only if 'page not present' was previously injected" (5.8). Before, a guest that had only been
 * halted got a page-ready, too.
 */
function needsInjected(m: Machine): boolean {
  return m.case.kvm !== "legacy-pf" && m.checks("ready-if-injected");
}

/** kvm_arch_async_page_present(): since 5.8 an interrupt, before a #PF. */
function deliverReady(m: Machine, vcpu: Vcpu, token: Token): void {
  if (m.case.kvm === "legacy-pf") {
    vcpu.apfFlags = "ready";
    vcpu.cr2 = token;
    vcpu.event = "async #PF";
    return;
  }
  vcpu.readyToken = token;
  vcpu.readyFlags = "ok";
  vcpu.hasReadyIrq = true;
}

/** An actor of its own and strongly fair: a request to a vCPU is served at its next entry into the guest. */
export function readyActor(vcpu: Vcpu): string {
  return `KVM_REQ_APF_READY.${vcpu.index}`;
}

/** Before 5.8 vcpu_run() looked at the list on every turn. */
function needsRequest(m: Machine): boolean {
  return m.case.kvm !== "legacy-pf";
}

/** Is the vCPU where it looks at its list of finished entries? */
function looksAtList(m: Machine, vcpu: Vcpu): boolean {
  return vcpu.hasReadyRequest && (vcpu.place === "guest" || vcpu.place === "halted") && m.alive;
}

/** Can page-ready of an entry be next? They come in the order in which the worker was done with them. */
export function canBeReady(m: Machine, vcpu: Vcpu): boolean {
  return looksAtList(m, vcpu) && hasDoneWork(m, vcpu) && canDequeue(m, vcpu);
}

export function firstDone(m: Machine, vcpu: Vcpu): Work {
  for (const work of m.works) if (work.isFirstDone && work.isOf(vcpu)) return work;
  throw new Error(`${m.case.name}: no entry of vCPU ${vcpu.index} is done`);
}

/**
 * Entries are done and none may be dequeued. A halted vCPU goes on all the same, request or not: a list that is not empty
 * is an event (kvm_vcpu_has_events(), vcpu_block() of arch/x86/kvm/x86.c).
 */
function hasToWait(m: Machine, vcpu: Vcpu): boolean {
  if (!needsRequest(m) || !m.alive || !hasDoneWork(m, vcpu)) return false;
  if (vcpu.place === "halted") return !(vcpu.hasReadyRequest && canDequeue(m, vcpu));
  return vcpu.place === "guest" && vcpu.hasReadyRequest && !canDequeue(m, vcpu);
}

/** kvm_check_async_pf_completion(), on the vCPU's thread before it enters the guest, or while it is halted. */
function readyActions(m: Machine, vcpu: Vcpu): Action[] {
  const actor = readyActor(vcpu);
  const ready: Action = {
    name: `vcpu${vcpu.index}: page ready, the first entry that is done`,
    actor,
    guard: () => canBeReady(m, vcpu),
    apply: () => pageReady(m, vcpu, "prefetch"),
  };
  const busy: Action = {
    name: `vcpu${vcpu.index}: page ready has to wait, the slot is taken`,
    actor,
    guard: () => hasToWait(m, vcpu),
    apply: () => {
      const words = "the token of the last page-ready is still there: wait for the guest";
      m.log?.("apf-ready", "kvm", "kvm", words);
      vcpu.hasReadyRequest = false;
      if (vcpu.place === "halted") vcpu.goTo("guest");
    },
  };
  return [ready, busy];
}

export function apfActions(m: Machine): Action[] {
  return [
    ...m.works.map((work) => workerAction(m, work)),
    ...m.vcpus.flatMap((vcpu) => readyActions(m, vcpu)),
  ];
}
