/**
 * Asynchronous page faults: queue, worker, completion, page-ready; the shared area and its two words.
 *
 * Mirrors virt/kvm/async_pf.c (kvm_setup_async_pf, async_pf_execute, kvm_check_async_pf_completion) and
 * arch/x86/kvm/x86.c (kvm_can_deliver_async_pf, kvm_arch_async_page_not_present, kvm_arch_async_page_ready,
 * kvm_arch_async_page_present, kvm_arch_can_dequeue_async_page_present). `legacy-pf` is the protocol before 5.8: both
 * events as #PF, the reason in the shared area's first word, the token in CR2.
 *
 * Tokens: KVM counts them up (`id++ << 12 | vcpu`). Only their equality matters, so a state carries the smallest number
 * that nobody holds any more; two tokens are equal here iff they are equal in KVM.
 */
import type { Action, EventSink } from "../explore/model.ts";
import {
  AT,
  alive,
  at,
  type Context,
  currentAccess,
  EPT,
  EVENT,
  interruptsOn,
  modeOf,
  REASON,
  TOKEN_ALL,
  tell,
  WORK,
} from "./fields.ts";
import { GUP, getUserPage } from "./host-mm.ts";
import { completionFailed } from "./proposals.ts";
import { pass } from "./tracepoints.ts";

/** kvm_can_deliver_async_pf(): may this vCPU, where it is now, be told "page not present"? */
export function deliverable(ctx: Context, s: Uint8Array, v: number): boolean {
  if (!ctx.apfGuest || ctx.case.lapic !== "kernel") return false;
  const access = currentAccess(ctx, s, at(s, ctx.f.vTask + v));
  if (access === null) return false;
  switch (modeOf(access)) {
    case "user":
      return true;
    case "kernel":
      return ctx.case.sendAlways || !ctx.has("user-only-test");
    case "nested":
      return ctx.case.vmexitDelivery;
  }
}

export function asyncSlotFree(ctx: Context, s: Uint8Array, v: number): boolean {
  const { f } = ctx;
  let queued = 0;
  let free = false;
  for (let w = 0; w < ctx.works; w++) {
    if (at(s, f.wState + w) === WORK.free) free = true;
    else if (at(s, f.wVcpu + w) === v) queued++;
  }
  return free && queued < (ctx.case.asyncLimit ?? ctx.works);
}

function freshToken(ctx: Context, s: Uint8Array): number {
  for (let token = 1; token <= ctx.tokens; token++) if (!tokenHeld(ctx, s, token)) return token;
  throw new Error(`${ctx.case.name}: more than ${ctx.tokens} tokens are held at once: make the pool larger`);
}

function tokenHeld(ctx: Context, s: Uint8Array, token: number): boolean {
  const { f } = ctx;
  if (at(s, f.dummy + token) !== 0) return true;
  for (let w = 0; w < ctx.works; w++) if (at(s, f.wToken + w) === token) return true;
  for (let t = 0; t < ctx.tasks; t++) if (at(s, f.tToken + t) === token) return true;
  for (let v = 0; v < ctx.vcpus; v++) {
    if (at(s, f.vToken + v) === token || at(s, f.vCr2 + v) === token) return true;
  }
  return false;
}

/** kvm_setup_async_pf() and kvm_arch_async_page_not_present(). */
export function armAsync(
  ctx: Context,
  s: Uint8Array,
  v: number,
  page: number,
  events: EventSink | null,
): void {
  const { f } = ctx;
  let work = 0;
  while (at(s, f.wState + work) !== WORK.free) work++;
  const token = freshToken(ctx, s);
  const told = deliverable(ctx, s, v);
  pass(events, "kvm_async_pf_not_present", v, page);
  s[f.wState + work] = WORK.queued;
  s[f.wVcpu + work] = v;
  s[f.wPage + work] = page;
  s[f.wTask + work] = at(s, f.vTask + v);
  s[f.wToken + work] = token;
  s[f.wInjected + work] = told ? 1 : 0;
  s[f.vGfns + v * ctx.pages + page] = 1;
  s[f.vPage + v] = 0;
  s[f.vSeq + v] = 0;
  if (!told) {
    s[f.vAt + v] = AT.halted;
    tell(events, "apf-halt", "kvm", "kvm", `token ${token}: the guest cannot be told: artificial halt`);
    return;
  }
  s[f.vFlags + v] = REASON.notPresent;
  s[f.vCr2 + v] = token;
  s[f.vEvent + v] = EVENT.asyncPageFault;
  s[f.vAt + v] = AT.guest;
  tell(events, "apf-not-present", "kvm", "guest", `page not present, token ${token}`);
}

/** kvm_arch_can_dequeue_async_page_present(). */
function canDequeue(ctx: Context, s: Uint8Array, v: number): boolean {
  const { f } = ctx;
  if (!ctx.apfGuest) return true;
  if (ctx.case.kvm === "legacy-pf") {
    return (
      at(s, f.vEvent + v) === EVENT.none && at(s, f.vFlags + v) === REASON.none && interruptsOn(ctx, s, v)
    );
  }
  return !ctx.has("slot-free-test") || at(s, f.vToken + v) === 0;
}

export function anyDone(ctx: Context, s: Uint8Array, v: number): boolean {
  for (let w = 0; w < ctx.works; w++) {
    if (at(s, ctx.f.wState + w) === WORK.done && at(s, ctx.f.wVcpu + w) === v) return true;
  }
  return false;
}

/** async_pf_execute(): brings the page in if it can, and forgets whether it could. */
function workerActions(ctx: Context): Action[] {
  const { f } = ctx;
  return Array.from(
    { length: ctx.works },
    (_, w): Action => ({
      name: `worker: get_user_pages for entry ${w}`,
      actor: "worker",
      guard: (s) => at(s, f.wState + w) === WORK.queued,
      apply: (s, e) => {
        const page = at(s, f.wPage + w);
        const answer = getUserPage(ctx, s, page, true);
        const words = answer === GUP.ok ? "it is there now" : "it fails, and the result is dropped";
        tell(e, "fault", "worker", "host", `fetches page ${page}: ${words}`);
        s[f.wState + w] = ctx.has("worker-completes") || answer === GUP.ok ? WORK.done : WORK.queued;
        if (ctx.has("ready-kicks") && at(s, f.wState + w) === WORK.done)
          s[f.vReadyRequest + at(s, f.wVcpu + w)] = 1;
      },
    }),
  );
}

/** kvm_arch_async_page_ready(): fault in once more, with prefetch, so never asynchronously. True if that failed. */
function prefetch(ctx: Context, s: Uint8Array, page: number): boolean {
  const { f } = ctx;
  if (getUserPage(ctx, s, page, true) !== GUP.ok) return true;
  if (at(s, f.invalidating) === 0 && at(s, f.ept + page) === EPT.none) {
    s[f.ept + page] = at(s, f.vma + page) === 0 ? EPT.file : EPT.anonymous;
  }
  return false;
}

/** @param maps whether the page is mapped on the way, if it is there */
export function pageReady(
  ctx: Context,
  s: Uint8Array,
  v: number,
  w: number,
  events: EventSink | null,
  maps = true,
): void {
  const { f } = ctx;
  const page = at(s, f.wPage + w);
  const token = at(s, f.wToken + w);
  const told = at(s, f.wInjected + w) !== 0;
  const faulter = at(s, f.wTask + w);
  const failed = maps && token !== TOKEN_ALL && prefetch(ctx, s, page);
  for (const field of [f.wState, f.wVcpu, f.wPage, f.wTask, f.wToken, f.wInjected]) s[field + w] = 0;
  if (token !== TOKEN_ALL && ctx.has("gfn-hash-cleared")) s[f.vGfns + v * ctx.pages + page] = 0;
  if (at(s, f.vAt + v) === AT.halted && ctx.has("ready-clears-halt")) s[f.vAt + v] = AT.guest;
  if ((told || token === TOKEN_ALL) && ctx.apfGuest) {
    tell(
      events,
      "apf-ready",
      "kvm",
      "guest",
      token === TOKEN_ALL ? "wake all" : `page ready, token ${token}`,
    );
    if (ctx.case.kvm === "legacy-pf") {
      s[f.vFlags + v] = REASON.ready;
      s[f.vCr2 + v] = token;
      s[f.vEvent + v] = EVENT.asyncPageFault;
    } else {
      s[f.vToken + v] = token;
      s[f.vTokenError + v] = 0;
      s[f.vIrq + v] = 1;
    }
  } else {
    tell(events, "apf-ready", "kvm", "kvm", `page ${page} is ready: the artificial halt ends`);
  }
  if (token !== TOKEN_ALL) pass(events, "kvm_async_pf_ready", v, page);
  if (failed) completionFailed(ctx, s, v, { page, faulter, told }, events);
  if (!anyDone(ctx, s, v) || !canDequeue(ctx, s, v)) s[f.vReadyRequest + v] = 0;
}

/** An actor of its own and strongly fair: a request to a vCPU is served at its next entry into the guest. */
export function readyActor(v: number): string {
  return `KVM_REQ_APF_READY.${v}`;
}

/** Is vCPU `v` where it looks at its list of finished entries? */
function looksAtList(ctx: Context, s: Uint8Array, v: number): boolean {
  const where = at(s, ctx.f.vAt + v);
  const isOutside = where === AT.guest || where === AT.halted;
  return at(s, ctx.f.vReadyRequest + v) !== 0 && isOutside && alive(ctx, s);
}

export function canBeReady(ctx: Context, s: Uint8Array, v: number, w: number): boolean {
  const { f } = ctx;
  const isDone = at(s, f.wState + w) === WORK.done && at(s, f.wVcpu + w) === v;
  return isDone && looksAtList(ctx, s, v) && canDequeue(ctx, s, v);
}

/** kvm_check_async_pf_completion(), on the vCPU's thread before it enters the guest, or while it is halted. */
function readyActions(ctx: Context): Action[] {
  const { f } = ctx;
  return Array.from({ length: ctx.vcpus }, (_, v): Action[] => {
    const actor = `vcpu${v}`;
    const entries = Array.from(
      { length: ctx.works },
      (_, w): Action => ({
        name: `${actor}: page ready, entry ${w}`,
        actor: readyActor(v),
        guard: (s) => canBeReady(ctx, s, v, w),
        apply: (s, e) => pageReady(ctx, s, v, w, e),
      }),
    );
    const busy: Action = {
      name: `${actor}: page ready has to wait, the slot is taken`,
      actor: readyActor(v),
      // Before 5.8 vcpu_run() looked at the list on every turn: nothing has to ask for it again.
      guard: (s) =>
        ctx.case.kvm !== "legacy-pf" &&
        looksAtList(ctx, s, v) &&
        anyDone(ctx, s, v) &&
        !canDequeue(ctx, s, v),
      apply: (s, e) => {
        tell(
          e,
          "apf-ready",
          "kvm",
          "kvm",
          `the token of the last page-ready is still there: wait for the guest`,
        );
        s[f.vReadyRequest + v] = 0;
      },
    };
    return [...entries, busy];
  }).flat();
}

export function apfActions(ctx: Context): Action[] {
  return [...workerActions(ctx), ...readyActions(ctx)];
}
