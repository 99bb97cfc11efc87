/**
 * The `kvm` axis: what each proposal changes in KVM, as answers to the questions that the fault path asks.
 * To add one: name it in `kvmParts`, and give its answer in each `switch` here; nothing else in KVM's part changes.
 *
 * - `today`: the worker's result is dropped; a failed prefetch is ignored.
 * - `uniform-efault` (Goyal, v2 to v4, 2020): a failed prefetch records the gfn in a hash of 64; a fault on a recorded gfn
 *   goes synchronous, hence -EFAULT. Overwritten on collision: "just a hint". `error-gfn` (RFC): one slot.
 * - `error-pending` (Kuznetsov): a failed prefetch switches async page faults off until an error has been reported.
 * - `exit-request` (Christopherson): a failed prefetch makes KVM_RUN return at once, whatever task runs by then.
 * - `final-efault`: the NOWAIT lookup's -EFAULT is final; only "needs I/O" goes asynchronous.
 * - `ready-error` (Goyal, patch 2): the error travels in the page-ready event (ready_flags); where the guest was not told
 *   "not present", or does not understand it, one error_gfn as above.
 * - `memory-fault-exit` (Moorthy): kvm_handle_error_pfn() fills in KVM_EXIT_MEMORY_FAULT; the asynchronous path stays.
 * - `inject-mce`, `inject-ve`: the lookup's -EFAULT is final and KVM queues the exception instead of returning.
 */
import type { EventSink } from "../explore/model.ts";
import {
  AT,
  at,
  type Context,
  currentAccess,
  EVENT,
  isStore,
  MARK,
  mark,
  SAW,
  STOP,
  tell,
} from "./fields.ts";
import { userspaceExit } from "./tracepoints.ts";

/** Is -EFAULT from the NOWAIT attempt believed? */
export function treatsFaultAsFinal(ctx: Context): boolean {
  switch (ctx.case.kvm) {
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
export function forcesSync(ctx: Context, s: Uint8Array, v: number, page: number): boolean {
  const { f } = ctx;
  switch (ctx.case.kvm) {
    case "uniform-efault":
    case "error-gfn":
    case "ready-error": {
      const slot = f.vErrorGfn + v * ctx.errorSlots + (page % ctx.errorSlots);
      if (at(s, slot) !== page + 1) return false;
      if (ctx.has("error-slot-cleared")) s[slot] = 0;
      return true;
    }
    case "error-pending":
      return at(s, f.vErrorPending + v) !== 0;
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
export function reportedError(ctx: Context, s: Uint8Array, v: number): void {
  if (ctx.has("error-pending-cleared")) s[ctx.f.vErrorPending + v] = 0;
}

export type FailedCompletion = { readonly page: number; readonly faulter: number; readonly told: boolean };

/** kvm_arch_async_page_ready() could not fault the page in: the result that today's KVM ignores. */
export function completionFailed(
  ctx: Context,
  s: Uint8Array,
  v: number,
  failure: FailedCompletion,
  events: EventSink | null,
): void {
  const { f } = ctx;
  if (!ctx.has("error-is-recorded")) return;
  switch (ctx.case.kvm) {
    case "uniform-efault":
    case "error-gfn":
      recordErrorGfn(ctx, s, v, failure.page, events);
      return;
    case "ready-error":
      if (failure.told && ctx.case.guest === "apf-error") {
        s[f.vTokenError + v] = 1;
        tell(
          events,
          "apf-ready",
          "kvm",
          "guest",
          `... with the error flag: page ${failure.page} cannot be had`,
        );
        return;
      }
      recordErrorGfn(ctx, s, v, failure.page, events);
      return;
    case "error-pending":
      s[f.vErrorPending + v] = 1;
      tell(events, "fault", "kvm", "kvm", "async page faults off until an error has been reported");
      return;
    case "exit-request":
      s[f.vAt + v] = AT.stopped;
      s[f.vStop + v] = STOP.efault;
      s[f.vFaulter + v] = failure.faulter;
      tell(events, "exit", "kvm", "vmm", `KVM_RUN returns: -EFAULT for page ${failure.page}, requested`);
      userspaceExit(events, v, STOP.efault);
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

function recordErrorGfn(
  ctx: Context,
  s: Uint8Array,
  v: number,
  page: number,
  events: EventSink | null,
): void {
  const slot = ctx.f.vErrorGfn + v * ctx.errorSlots + (page % ctx.errorSlots);
  const lost = at(s, slot) !== 0 && at(s, slot) !== page + 1 ? `, page ${at(s, slot) - 1} is forgotten` : "";
  s[slot] = page + 1;
  tell(events, "fault", "kvm", "kvm", `page ${page} is remembered as bad${lost}`);
}

/** Does KVM itself tell the guest instead of returning? True if it did (or the guest died of it). */
export function injectError(ctx: Context, s: Uint8Array, v: number, events: EventSink | null): boolean {
  switch (ctx.case.kvm) {
    case "inject-mce":
      injectMachineCheck(ctx, s, v, "kvm", events);
      return true;
    case "inject-ve":
      return injectVe(ctx, s, v, "kvm", events);
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

/** #MC at the faulting instruction; with CR4.MCE clear a triple fault (kvm_vcpu_ioctl_x86_set_mce()). */
export function injectMachineCheck(
  ctx: Context,
  s: Uint8Array,
  v: number,
  by: string,
  events: EventSink | null,
): void {
  const { f } = ctx;
  const task = at(s, f.vTask + v);
  const access = currentAccess(ctx, s, task);
  if (ctx.case.guest === "unaware") {
    s[f.vAt + v] = AT.stopped;
    s[f.vStop + v] = STOP.tripleFault;
    tell(events, "exit", by, "guest", "#MC with CR4.MCE clear: triple fault");
    userspaceExit(events, v, STOP.tripleFault);
    return;
  }
  s[f.vAt + v] = AT.guest;
  if (ctx.case.machineCheck === "as-hardware" && access !== null && isStore(access)) {
    // Memory controllers report a store, if at all, later and to nobody in particular.
    s[(ctx.sawAt[task] as number) + at(s, f.tStep + task)] = SAW.value;
    s[f.tStep + task] = at(s, f.tStep + task) + 1;
    mark(ctx, s, MARK.imprecise | MARK.silentData);
    tell(events, "inject", by, "guest", "the store is lost without a word, as hardware does");
    return;
  }
  s[f.vEvent + v] = EVENT.machineCheck;
  tell(events, "inject", by, "guest", `#MC for page ${at(s, f.vPage + v)}`);
}

/** #VE: one at a time, guarded by the busy word of the information page. False if it cannot be injected. */
export function injectVe(
  ctx: Context,
  s: Uint8Array,
  v: number,
  by: string,
  events: EventSink | null,
): boolean {
  const { f } = ctx;
  if (at(s, f.vVeBusy + v) !== 0) return false;
  s[f.vAt + v] = AT.guest;
  s[f.vVeBusy + v] = 1;
  s[f.vEvent + v] = EVENT.virtualizationException;
  tell(events, "inject", by, "guest", `#VE for page ${at(s, f.vPage + v)}`);
  return true;
}
