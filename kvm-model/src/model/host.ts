/**
 * The host process that truncates, and the guards that stand in its way (the `server` axis).
 *
 * A truncation is what it really is, not one step: i_size_write, then unmap_mapping_range (mmu notifier start, host page
 * tables, notifier end), then the page cache, then unmap_mapping_range again. Mirrors truncate_setsize() and
 * truncate_pagecache() of mm/truncate.c.
 * Guards: break_lease() (F_SETLEASE; 45 s, then the kernel breaks it), fanotify FAN_PRE_ACCESS with FAN_OPEN_PERM (by
 * which alone open(O_TRUNC) is seen), a file server that recalls before it truncates (only for clients that go through it), inotify after the fact,
 * F_SEAL_SHRINK.
 */
import type { Action, EventSink } from "../explore/model.ts";
import type { HostStep } from "./case.ts";
import {
  AT,
  alive,
  at,
  type Context,
  EVENT,
  GUARD,
  HOST,
  interruptsOn,
  MARK,
  mark,
  tell,
  VMA,
} from "./fields.ts";
import { dropPages, invalidateEnd, invalidateStart, punchHole, replaceVma, zapHostPtes } from "./host-mm.ts";

/** Substeps of a truncation. */
const SUB = {
  start: 0,
  guarded: 1,
  size: 2,
  unmapStart: 3,
  unmapHost: 4,
  unmapEnd: 5,
  dropCache: 6,
  againStart: 7,
  againEnd: 8,
} as const;

type Truncate = Extract<HostStep, { op: "truncate" }>;

function hostStep(ctx: Context, s: Uint8Array): HostStep | null {
  return ctx.case.host[at(s, ctx.f.hostStep)] ?? null;
}

function truncation(ctx: Context, s: Uint8Array): Truncate | null {
  const step = hostStep(ctx, s);
  return step?.op === "truncate" ? step : null;
}

function finish(ctx: Context, s: Uint8Array, saw: number): void {
  const { f } = ctx;
  s[f.hostSaw + at(s, f.hostStep)] = saw;
  s[f.hostStep] = at(s, f.hostStep) + 1;
  s[f.hostSub] = SUB.start;
}

/** Does the guard of this case see this truncation before it happens? */
export function guardSees(ctx: Context, step: Truncate): boolean {
  const via = step.via ?? "path";
  switch (ctx.case.server) {
    case "fuse-lease":
      return step.through === "server";
    case "kernel-lease":
      // A descriptor that was open for writing makes the lease unobtainable (fcntl: EAGAIN).
      return via !== "open-fd";
    case "pre-content":
      return via !== "open-trunc" || ctx.has("open-permission-asked");
    case "none":
    case "notify":
    case "sealed":
      return false;
  }
}

/** What the VMM puts in the doomed range's place when it acts by itself; null: the guest is asked to give the range back. */
function vmaInPlace(ctx: Context): number | null {
  switch (ctx.case.vmm) {
    case "fence":
      return VMA.none;
    case "poison":
      return VMA.poisoned;
    case "remap-zero":
      return VMA.anonymous;
    case "inject-pf":
    case "inject-pv":
    case "inject-ve":
    case "inject-mce":
    case "nmi":
      // PROT_NONE: what is touched there is an exit, and the guest is told of it.
      return VMA.none;
    case "stop":
    case "no-hlt-exits":
      return null;
  }
}

function vmmActs(ctx: Context): boolean {
  return vmaInPlace(ctx) !== null;
}

/** Is anybody told after the fact? A fence watches the file by itself. */
function toldAfterwards(ctx: Context, step: Truncate): boolean {
  if (ctx.case.server === "notify") return true;
  return ctx.case.vmm === "fence" && !guardSees(ctx, step);
}

type SubAction = (
  name: string,
  from: number,
  apply: (s: Uint8Array, step: Truncate, events: EventSink | null) => void,
) => Action;

/** Makes an action that is taken at one substep of a truncation. */
function atSubstep(ctx: Context): SubAction {
  const { f } = ctx;
  return (name, from, apply) => ({
    name: `host: ${name}`,
    actor: "host",
    guard: (s) => at(s, f.hostSub) === from && truncation(ctx, s) !== null,
    apply: (s, e) => apply(s, truncation(ctx, s) as Truncate, e),
  });
}

function go(ctx: Context, s: Uint8Array, to: number): void {
  s[ctx.f.hostSub] = to;
}

/** The call and the guard before it. */
function callActions(ctx: Context): Action[] {
  const { f } = ctx;
  const sub = atSubstep(ctx);
  return [
    sub("calls truncate", SUB.start, (s, step, e) => {
      if (ctx.case.server === "sealed") {
        tell(e, "truncate", "host", "host", `truncate to ${step.pages} pages: EPERM, the file is sealed`);
        return finish(ctx, s, HOST.denied);
      }
      const seen = guardSees(ctx, step);
      tell(
        e,
        "truncate",
        "host",
        seen ? "server" : "host",
        `truncate to ${step.pages} pages${seen ? ": waits" : ""}`,
      );
      if (seen) s[f.guard] = GUARD.waiting;
      go(ctx, s, seen && ctx.has("lease-blocks-truncate") ? SUB.guarded : SUB.size);
    }),
    {
      name: "host: goes on after the guard",
      actor: "host",
      guard: (s) => at(s, f.hostSub) === SUB.guarded && at(s, f.guard) === GUARD.granted,
      apply: (s, e) => {
        tell(e, "lease-release", "server", "host", "go on");
        go(ctx, s, SUB.size);
      },
    },
  ];
}

/** What truncate_setsize() does. */
function truncateActions(ctx: Context): Action[] {
  const { f } = ctx;
  const sub = atSubstep(ctx);
  return [
    sub("writes i_size", SUB.size, (s, step, e) => {
      tell(e, "truncate", "host", "host", `i_size = ${step.pages} pages`);
      if (ctx.has("i-size-first")) s[f.size] = Math.min(at(s, f.size), step.pages);
      go(ctx, s, SUB.unmapStart);
    }),
    sub("mmu notifier start", SUB.unmapStart, (s, step, e) => {
      tell(e, "unmap", "host", "kvm", "invalidate_range_start: zaps the guest's mapping");
      invalidateStart(ctx, s, step.pages);
      go(ctx, s, SUB.unmapHost);
    }),
    sub("zaps host page tables", SUB.unmapHost, (s, step, e) => {
      tell(e, "unmap", "host", "host", "host page tables zapped");
      zapHostPtes(ctx, s, step.pages);
      go(ctx, s, SUB.unmapEnd);
    }),
    sub("mmu notifier end", SUB.unmapEnd, (s, _step, e) => {
      tell(e, "unmap", "host", "kvm", "invalidate_range_end");
      invalidateEnd(ctx, s);
      go(ctx, s, SUB.dropCache);
    }),
    sub("drops page cache", SUB.dropCache, (s, step, e) => {
      tell(e, "truncate", "host", "host", `page cache from page ${step.pages} on dropped`);
      s[f.size] = Math.min(at(s, f.size), step.pages);
      dropPages(ctx, s, step.pages);
      go(ctx, s, SUB.againStart);
    }),
    sub("unmaps again: start", SUB.againStart, (s, step, e) => {
      tell(e, "unmap", "host", "kvm", "unmaps once more");
      invalidateStart(ctx, s, step.pages);
      zapHostPtes(ctx, s, step.pages);
      go(ctx, s, SUB.againEnd);
    }),
    sub("unmaps again: end; truncate returns", SUB.againEnd, (s, step, e) => {
      invalidateEnd(ctx, s);
      tell(e, "truncate", "host", "host", "truncate returns");
      if (toldAfterwards(ctx, step)) s[f.notify] = 1;
      s[f.guard] = GUARD.idle;
      finish(ctx, s, (at(s, f.marks) & MARK.hostDelayed) === 0 ? HOST.done : HOST.delayed);
    }),
  ];
}

function otherHostActions(ctx: Context): Action[] {
  const { f } = ctx;
  return [
    {
      name: "host: extends, punches, poisons, signals or goes on",
      actor: "host",
      guard: (s) => {
        const step = hostStep(ctx, s);
        if (step === null || step.op === "truncate") return false;
        return step.op !== "await" || (at(s, f.signals) & (ctx.signalBit.get(step.name) ?? 0)) !== 0;
      },
      apply: (s, e) => {
        const step = hostStep(ctx, s);
        if (step?.op === "extend") {
          tell(e, "truncate", "host", "host", `file extended to ${step.pages} pages`);
          s[f.size] = Math.max(at(s, f.size), step.pages);
        }
        if (step?.op === "hwpoison") {
          tell(e, "unmap", "host", "kvm", `memory failure takes page ${step.page}`);
          replaceVma(ctx, s, step.page, step.page + 1, VMA.poisoned);
        }
        if (step?.op === "punch") {
          tell(e, "truncate", "host", "host", `hole of ${step.pages} pages from page ${step.page} on`);
          punchHole(ctx, s, step.page, step.page + step.pages);
        }
        if (step?.op === "signal" || step?.op === "await") {
          tell(
            e,
            "signal",
            "host",
            "host",
            `${step.op === "signal" ? "signals" : "has waited for"} ${step.name}`,
          );
        }
        if (step?.op === "signal") s[f.signals] = at(s, f.signals) | (ctx.signalBit.get(step.name) ?? 0);
        finish(ctx, s, HOST.done);
      },
    },
  ];
}

/** The first page of the range that a guard or a watcher knows to be doomed (or gone). */
function doomedFrom(ctx: Context, s: Uint8Array): number {
  const step = truncation(ctx, s);
  return step !== null && at(s, ctx.f.guard) === GUARD.waiting ? step.pages : at(s, ctx.f.size);
}

/**
 * The size that the server tells a guest which asks. While a truncation waits for this very guest, it is the size to be:
 * a server that hands the range out again loses the race that the guard was for.
 */
export function sizeAsServed(ctx: Context, s: Uint8Array): number {
  const step = truncation(ctx, s);
  const recalled = step !== null && at(s, ctx.f.guard) !== GUARD.idle && ctx.has("no-mapping-while-recalled");
  return recalled ? Math.min(step.pages, at(s, ctx.f.size)) : at(s, ctx.f.size);
}

function grant(ctx: Context, s: Uint8Array): void {
  const { f } = ctx;
  s[f.notify] = 0;
  s[f.revoke] = 0;
  if (at(s, f.guard) === GUARD.waiting) s[f.guard] = GUARD.granted;
}

/** Someone has to be told: a guard holds the truncation up, or a notification is under way. */
function eventPending(ctx: Context, s: Uint8Array): boolean {
  return at(s, ctx.f.guard) === GUARD.waiting || at(s, ctx.f.notify) !== 0;
}

function guardActions(ctx: Context): Action[] {
  const { f } = ctx;
  const prompt = ctx.case.leaseClient === "prompt";
  const inPlace = vmaInPlace(ctx);
  return [
    {
      name: "vmm: takes the doomed range out of the guest",
      actor: "watcher",
      guard: (s) => prompt && vmmActs(ctx) && eventPending(ctx, s),
      apply: (s, e) => {
        tell(e, "remap", "vmm", "kvm", `doomed range from page ${doomedFrom(ctx, s)}: ${ctx.case.vmm}`);
        replaceVma(ctx, s, doomedFrom(ctx, s), ctx.pages, inPlace ?? VMA.file);
        grant(ctx, s);
      },
    },
    {
      name: "vmm: takes the fence away where the file has grown again",
      actor: "watcher",
      guard: (s) => inPlace === VMA.none && at(s, f.guard) === GUARD.idle && fencedPage(ctx, s) >= 0,
      apply: (s, e) => {
        const page = fencedPage(ctx, s);
        tell(e, "remap", "vmm", "kvm", `page ${page} is back: no fence any more`);
        replaceVma(ctx, s, page, page + 1, VMA.file);
      },
    },
    {
      name: "server: asks the guest to give the range back",
      actor: "server",
      guard: (s) => prompt && !vmmActs(ctx) && eventPending(ctx, s) && at(s, f.revoke) === 0,
      apply: (s, e) => {
        tell(e, "lease-break", "server", "guest", `give back from page ${doomedFrom(ctx, s)} on`);
        s[f.revoke] = 1;
        if (!ctx.has("grant-waits-for-revoke")) grant(ctx, s);
      },
    },
    {
      name: "guest: gives the range back",
      actor: "guest-driver",
      guard: (s) => at(s, f.revoke) === 1 && alive(ctx, s) && someVcpuRuns(ctx, s),
      apply: (s, e) => {
        tell(e, "lease-release", "guest", "server", `mappings from page ${doomedFrom(ctx, s)} on are gone`);
        if (ctx.has("guest-size-updated")) s[f.guestSize] = doomedFrom(ctx, s);
        grant(ctx, s);
      },
    },
    {
      name: "server: the lease's time runs out",
      actor: "clock",
      guard: (s) =>
        at(s, f.guard) === GUARD.waiting && ctx.case.server !== "pre-content" && !canAnswer(ctx, s),
      apply: (s, e) => {
        tell(e, "lease-release", "server", "host", "45 s without an answer: the lease is broken by force");
        mark(ctx, s, MARK.hostDelayed);
        s[f.guard] = GUARD.granted;
      },
    },
  ];
}

/** A page that is fenced although the file has it, or -1. */
function fencedPage(ctx: Context, s: Uint8Array): number {
  for (let page = 0; page < at(s, ctx.f.size); page++) if (at(s, ctx.f.vma + page) === VMA.none) return page;
  return -1;
}

/** A driver needs a vCPU that runs guest code with interrupts on, to take the request in. */
function someVcpuRuns(ctx: Context, s: Uint8Array): boolean {
  const { f } = ctx;
  for (let v = 0; v < ctx.vcpus; v++) {
    const free = at(s, f.vAt + v) === AT.guest && at(s, f.vEvent + v) === EVENT.none;
    if (free && interruptsOn(ctx, s, v)) return true;
  }
  return false;
}

function canAnswer(ctx: Context, s: Uint8Array): boolean {
  return ctx.case.leaseClient === "prompt" && (vmmActs(ctx) || alive(ctx, s));
}

export function hostActions(ctx: Context): Action[] {
  return [...callActions(ctx), ...truncateActions(ctx), ...otherHostActions(ctx), ...guardActions(ctx)];
}

/** Has the host process done all its steps? */
export function hostFinished(ctx: Context, s: Uint8Array): boolean {
  return at(s, ctx.f.hostStep) >= ctx.case.host.length;
}
