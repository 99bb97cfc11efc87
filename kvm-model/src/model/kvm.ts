/**
 * KVM's page-fault path, cut where another CPU can come in between. One vCPU: exit, snapshot, lookup, then one of
 * asynchronous set-up, synchronous retry, error, map.
 *
 * Mirrors, in this order: kvm_faultin_pfn() (snapshot of mmu_invalidate_seq), __kvm_faultin_pfn() (NOWAIT attempt, then
 * kvm_can_do_async_pf(), kvm_find_async_pf_gfn(), kvm_arch_setup_async_pf(), else one synchronous attempt),
 * kvm_handle_error_pfn(), is_page_fault_stale(), all of arch/x86/kvm/mmu/mmu.c; kvm_can_do_async_pf() of x86.c.
 * What a proposal changes is in `proposals.ts`; this file asks it at four places.
 */
import type { Action, EventSink } from "../explore/model.ts";
import { armAsync, asyncSlotFree, deliverable } from "./apf.ts";
import {
  AT,
  alive,
  at,
  type Context,
  currentAccess,
  EPT,
  interruptsOn,
  MARK,
  mark,
  STOP,
  taskName,
  tell,
  VMA,
} from "./fields.ts";
import { GUP, getUserPage, mapSecondLevel } from "./host-mm.ts";
import { forcesSync, injectError, reportedError, treatsFaultAsFinal } from "./proposals.ts";
import { pass, userspaceExit } from "./tracepoints.ts";

const ERROR = { none: 0, fault: 1, poison: 2 } as const;

/**
 * kvm_can_do_async_pf(): in KVM's order. An in-kernel APIC and IF=1 are enough: the guest need not have enabled
 * anything, which is why the loop needs no cooperation of the guest.
 */
function canDoAsync(ctx: Context, s: Uint8Array, v: number): boolean {
  if (ctx.has("lapic-test") && ctx.case.lapic !== "kernel") return false;
  // kvm_event_needs_reinjection() and kvm_is_exception_pending() cannot hold here: the guest was running.
  if (ctx.case.vmm === "no-hlt-exits" && !deliverable(ctx, s, v)) return false;
  if (ctx.has("interrupt-flag-test") && !interruptsOn(ctx, s, v)) return false;
  return true;
}

function stop(ctx: Context, s: Uint8Array, v: number, reason: number, events: EventSink | null): void {
  s[ctx.f.vAt + v] = AT.stopped;
  s[ctx.f.vStop + v] = reason;
  tell(events, "exit", "kvm", "vmm", `KVM_RUN returns: ${stopWords[reason]}`);
  userspaceExit(events, v, reason);
}

const stopWords: readonly string[] = [
  "-",
  "-EFAULT, exit reason 0",
  "-EFAULT, KVM_EXIT_MEMORY_FAULT with the gpa",
  "-EINTR, SIGBUS BUS_MCEERR_AR pending",
  "KVM_EXIT_MMIO with the gpa of RAM",
  "KVM_EXIT_INTERNAL_ERROR, emulation failed",
  "KVM_EXIT_SHUTDOWN, triple fault",
];

/** Back into the guest, which executes the same instruction again. */
export function resumeGuest(ctx: Context, s: Uint8Array, v: number): void {
  const { f } = ctx;
  s[f.vAt + v] = AT.guest;
  s[f.vPage + v] = 0;
  s[f.vSeq + v] = 0;
  s[f.vPfn + v] = EPT.none;
  s[f.vError + v] = ERROR.none;
}

function toError(ctx: Context, s: Uint8Array, v: number, error: number): void {
  s[ctx.f.vAt + v] = AT.error;
  s[ctx.f.vError + v] = error;
  mark(ctx, s, MARK.metGonePage);
}

/** hva_to_pfn() for the vCPU, NOWAIT or not, and where its answer leads. */
function lookup(ctx: Context, s: Uint8Array, v: number, wait: boolean, events: EventSink | null): void {
  const { f } = ctx;
  const page = at(s, f.vPage + v);
  const answer = getUserPage(ctx, s, page, wait);
  switch (answer) {
    case GUP.ok:
      s[f.vPfn + v] = at(s, f.vma + page) === VMA.anonymous ? EPT.anonymous : EPT.file;
      s[f.vAt + v] = AT.map;
      tell(events, "fault", "kvm", "host", `looks up page ${page}: there`);
      return;
    case GUP.poison:
      tell(events, "fault", "kvm", "host", `looks up page ${page}: hardware poison`);
      if (wait || ctx.has("hwpoison-before-async")) {
        toError(ctx, s, v, ERROR.poison);
        return;
      }
      break;
    case GUP.noVma:
      tell(events, "fault", "kvm", "host", `looks up page ${page}: nothing mapped there`);
      if (wait || ctx.has("vma-test")) {
        toError(ctx, s, v, ERROR.fault);
        return;
      }
      break;
    case GUP.fault:
      tell(events, "fault", "kvm", "host", `looks up page ${page}: -EFAULT, the file has no such page`);
      mark(ctx, s, MARK.metGonePage);
      if (wait || treatsFaultAsFinal(ctx)) {
        toError(ctx, s, v, ERROR.fault);
        return;
      }
      break;
    default:
      tell(events, "fault", "kvm", "host", `looks up page ${page}: needs I/O`);
  }
  // Today every failure of the NOWAIT attempt with a valid VMA reads "needs I/O" (KVM_PFN_ERR_NEEDS_IO).
  s[f.vAt + v] = AT.async;
}

function setUpAsync(ctx: Context, s: Uint8Array, v: number, events: EventSink | null): void {
  const { f } = ctx;
  const page = at(s, f.vPage + v);
  if (forcesSync(ctx, s, v, page) || !canDoAsync(ctx, s, v)) {
    s[f.vAt + v] = AT.sync;
    return;
  }
  pass(events, "kvm_try_async_get_page", v, page);
  if (ctx.has("gfn-hash-lookup") && at(s, f.vGfns + v * ctx.pages + page) !== 0) {
    s[f.vAt + v] = AT.halted;
    tell(events, "apf-halt", "kvm", "kvm", `page ${page} is already being fetched: artificial halt`);
    pass(events, "kvm_async_pf_repeated_fault", v, page);
    return;
  }
  if (!asyncSlotFree(ctx, s, v)) {
    s[f.vAt + v] = AT.sync;
    return;
  }
  armAsync(ctx, s, v, page, events);
}

function handleError(ctx: Context, s: Uint8Array, v: number, events: EventSink | null): void {
  const { f } = ctx;
  s[f.vFaulter + v] = at(s, f.vTask + v);
  if (at(s, f.vError + v) === ERROR.poison) {
    stop(ctx, s, v, STOP.poison, events);
    return;
  }
  reportedError(ctx, s, v);
  if (injectError(ctx, s, v, events)) return;
  stop(ctx, s, v, ctx.case.kvm === "memory-fault-exit" ? STOP.memoryFault : STOP.efault, events);
}

function mapPage(ctx: Context, s: Uint8Array, v: number, events: EventSink | null): void {
  const { f } = ctx;
  const page = at(s, f.vPage + v);
  // A snapshot taken after the lookup (a mutation) is the current number, hence never different from it.
  const snapshot = ctx.has("snapshot-first") ? at(s, f.vSeq + v) : at(s, f.seq);
  const stale = at(s, f.invalidating) > 0 || at(s, f.seq) !== snapshot;
  if (stale && ctx.has("stale-check")) {
    tell(events, "fault", "kvm", "kvm", `page ${page} was invalidated meanwhile: try again`);
  } else {
    mapSecondLevel(ctx, s, page, at(s, f.vPfn + v));
    const isLarge = ctx.case.largePage && at(s, f.largeEpt) === 1;
    tell(events, "map", "kvm", "guest", isLarge ? "maps all pages by one large entry" : `maps page ${page}`);
  }
  resumeGuest(ctx, s, v);
}

/** Called by the guest's access: the CPU exits with an EPT violation (or the shadow MMU's #PF). */
export function takeFault(
  ctx: Context,
  s: Uint8Array,
  v: number,
  page: number,
  events: EventSink | null,
): void {
  const { f } = ctx;
  const task = at(s, f.vTask + v);
  const access = currentAccess(ctx, s, task);
  tell(
    events,
    "fault",
    "guest",
    "kvm",
    `${taskName(ctx, task)}: ${access?.op ?? "?"} of page ${page} faults`,
  );
  s[f.vPage + v] = page;
  if (access?.emulated === true) {
    emulate(ctx, s, v, page, events);
    return;
  }
  pass(events, "kvm_page_fault", v, page);
  s[f.vAt + v] = AT.exit;
}

/**
 * emulator_read_write_onepage(): a failed copy from the hva falls through to "is this MMIO?", so RAM that cannot be had
 * becomes KVM_EXIT_MMIO; an instruction fetch ends in KVM_EXIT_INTERNAL_ERROR. Never asynchronous. (An atomic, too, first
 * reads: MMIO. Only a VMM that completes that read goes on to emulator_cmpxchg_emulated() and an internal error.)
 */
function emulate(ctx: Context, s: Uint8Array, v: number, page: number, events: EventSink | null): void {
  const { f } = ctx;
  const task = at(s, f.vTask + v);
  const op = currentAccess(ctx, s, task)?.op;
  s[f.vFaulter + v] = task;
  if (getUserPage(ctx, s, page, true) !== GUP.ok) {
    mark(ctx, s, MARK.metGonePage);
    stop(ctx, s, v, op === "fetch" ? STOP.internalError : STOP.mmio, events);
    return;
  }
  s[f.ept + page] = at(s, f.vma + page) === VMA.anonymous ? EPT.anonymous : EPT.file;
  resumeGuest(ctx, s, v);
}

export function kvmActions(ctx: Context): Action[] {
  const { f } = ctx;
  return Array.from({ length: ctx.vcpus }, (_, v): Action[] => {
    const actor = `vcpu${v}`;
    const step = (
      name: string,
      from: number,
      apply: (s: Uint8Array, e: EventSink | null) => void,
    ): Action => ({
      name: `${actor}: ${name}`,
      actor,
      guard: (s) => at(s, f.vAt + v) === from && alive(ctx, s),
      apply,
    });
    return [
      step("snapshot of mmu_invalidate_seq", AT.exit, (s, e) => {
        tell(e, "fault", "kvm", "kvm", `remembers mmu_invalidate_seq (${at(s, f.seq)})`);
        s[f.vSeq + v] = at(s, f.seq);
        s[f.vAt + v] = AT.lookup;
      }),
      step("lookup, NOWAIT", AT.lookup, (s, e) => lookup(ctx, s, v, false, e)),
      step("async set-up or not", AT.async, (s, e) => setUpAsync(ctx, s, v, e)),
      step("lookup, synchronous", AT.sync, (s, e) => lookup(ctx, s, v, true, e)),
      {
        ...step("handle_error_pfn", AT.error, (s, e) => handleError(ctx, s, v, e)),
        // Touches this vCPU's fields only. Not so where another vCPU may stop the VM meanwhile, or where a store is
        // lost as hardware loses it, which properties see.
        local: ctx.case.machineCheck === "precise" && ctx.vcpus === 1,
      },
      step("map under mmu_lock", AT.map, (s, e) => mapPage(ctx, s, v, e)),
    ];
  }).flat();
}
