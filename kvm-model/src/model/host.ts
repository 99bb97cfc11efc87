/**
 * The host process that truncates, and the guards that stand in its way (the `server` axis).
 *
 * A truncation is what it really is, not one step: i_size_write, then unmap_mapping_range (mmu notifier start, host page
 * tables, notifier end), then the page cache, then unmap_mapping_range again. Mirrors truncate_setsize() and
 * truncate_pagecache() of mm/truncate.c.
 * Guards: break_lease() (F_SETLEASE; 45 s, then the kernel breaks it), fanotify FAN_PRE_ACCESS with FAN_OPEN_PERM (the
 * only one that sees open(O_TRUNC)), a file server that recalls before it truncates (only for clients that go through it),
 * inotify after the fact, F_SEAL_SHRINK.
 */
import type { Action } from "../explore/model.ts";
import type { HostStep } from "./case.ts";
import {
  dropPages,
  invalidateEnd,
  invalidateStart,
  punchHole,
  replaceVma,
  writePage,
  zapHostPtes,
} from "./host-mm.ts";
import type { HostResult, Machine } from "./machine.ts";
import type { Vma } from "./page.ts";

type Truncate = Extract<HostStep, { op: "truncate" }>;

function hostStep(m: Machine): HostStep | null {
  return m.case.host[m.hostStep] ?? null;
}

function truncation(m: Machine): Truncate | null {
  const step = hostStep(m);
  return step?.op === "truncate" ? step : null;
}

function finish(m: Machine, result: HostResult): void {
  m.setHostResult(m.hostStep, result);
  m.hostStep++;
  m.hostSubstep = "start";
}

/** Does the guard of this case see this truncation before it happens? */
function guardSees(m: Machine, step: Truncate): boolean {
  const via = step.via ?? "path";
  switch (m.case.server) {
    case "fuse-lease":
      return step.through === "server";
    case "kernel-lease":
      // A descriptor that was open for writing makes the lease unobtainable (fcntl: EAGAIN).
      return via !== "open-fd";
    case "pre-content":
      return via !== "open-trunc" || m.checks("open-permission-asked");
    case "none":
    case "notify":
    case "sealed":
      return false;
  }
}

/** The VMM's mapping in place of the lost range when it acts by itself; null: the guest is asked to give the range back. */
function vmaInPlace(m: Machine): Vma | null {
  if (m.case.exits === "fence") return "none";
  switch (m.case.vmm) {
    case "poison":
      return "poisoned";
    case "remap-zero":
      return "anonymous";
    case "inject-pf":
    case "inject-pv":
    case "inject-ve":
    case "inject-mce":
    case "nmi":
      // PROT_NONE: an access there is an exit, and the VMM reports it to the guest.
      return "none";
    case "stop":
      return null;
  }
}

function vmmActs(m: Machine): boolean {
  return vmaInPlace(m) !== null;
}

/** Is a truncation notified after the fact? A fence watches the file by itself. */
function notifiesAfterwards(m: Machine, step: Truncate): boolean {
  if (m.case.server === "notify") return true;
  return m.case.exits === "fence" && !guardSees(m, step);
}

/** A step of a truncation, but for its guard. */
function truncateStep(m: Machine, name: string, apply: (step: Truncate) => void): Omit<Action, "guard"> {
  return { name: `host: ${name}`, actor: "host", apply: () => apply(truncation(m) as Truncate) };
}

function isTruncating(m: Machine): boolean {
  return hostStep(m)?.op === "truncate";
}

function callTruncate(m: Machine, step: Truncate): void {
  if (m.case.server === "sealed" && m.checks("seal-refuses")) {
    m.log?.("truncate", "host", "host", `truncate to ${step.pages} pages: EPERM, the file is sealed`);
    finish(m, "denied");
    return;
  }
  const isSeen = guardSees(m, step);
  const waits = isSeen ? ": waits" : "";
  m.log?.("truncate", "host", isSeen ? "server" : "host", `truncate to ${step.pages} pages${waits}`);
  if (isSeen) m.guard = "waiting";
  m.hostSubstep = isSeen && m.checks("lease-blocks-truncate") ? "guarded" : "size";
}

/** The call and the guard before it. */
function callActions(m: Machine): Action[] {
  return [
    {
      ...truncateStep(m, "calls truncate", (step) => callTruncate(m, step)),
      guard: () => m.hostSubstep === "start" && isTruncating(m),
    },
    {
      name: "host: goes on after the guard",
      actor: "host",
      guard: () => m.hostSubstep === "guarded" && m.guard === "granted",
      apply: () => {
        m.log?.("lease-release", "server", "host", "go on");
        m.hostSubstep = "size";
      },
    },
  ];
}

/** truncate_setsize(). */
function truncateActions(m: Machine): Action[] {
  return [
    {
      ...truncateStep(m, "writes i_size", ({ pages }) => {
        m.log?.("truncate", "host", "host", `i_size = ${pages} pages`);
        if (m.checks("i-size-first")) m.fileSize = Math.min(m.fileSize, pages);
        m.hostSubstep = "unmap-start";
      }),
      guard: () => m.hostSubstep === "size" && isTruncating(m),
    },
    {
      ...truncateStep(m, "mmu notifier start", ({ pages }) => {
        m.log?.("unmap", "host", "kvm", "invalidate_range_start: zaps the guest's mapping");
        invalidateStart(m, pages);
        m.hostSubstep = "unmap-host";
      }),
      guard: () => m.hostSubstep === "unmap-start" && isTruncating(m),
    },
    {
      ...truncateStep(m, "zaps host page tables", ({ pages }) => {
        m.log?.("unmap", "host", "host", "host page tables zapped");
        zapHostPtes(m, pages);
        m.hostSubstep = "unmap-end";
      }),
      guard: () => m.hostSubstep === "unmap-host" && isTruncating(m),
    },
    {
      ...truncateStep(m, "mmu notifier end", () => {
        m.log?.("unmap", "host", "kvm", "invalidate_range_end");
        invalidateEnd(m);
        m.hostSubstep = "drop-cache";
      }),
      guard: () => m.hostSubstep === "unmap-end" && isTruncating(m),
    },
    {
      ...truncateStep(m, "drops page cache", ({ pages }) => {
        m.log?.("truncate", "host", "host", `page cache from page ${pages} on dropped`);
        m.fileSize = Math.min(m.fileSize, pages);
        dropPages(m, pages);
        m.hostSubstep = "again-start";
      }),
      guard: () => m.hostSubstep === "drop-cache" && isTruncating(m),
    },
    {
      ...truncateStep(m, "unmaps again: start", ({ pages }) => {
        m.log?.("unmap", "host", "kvm", "unmaps once more");
        invalidateStart(m, pages);
        zapHostPtes(m, pages);
        m.hostSubstep = "again-end";
      }),
      guard: () => m.hostSubstep === "again-start" && isTruncating(m),
    },
    {
      ...truncateStep(m, "unmaps again: end; truncate returns", (step) => {
        invalidateEnd(m);
        m.log?.("truncate", "host", "host", "truncate returns");
        if (notifiesAfterwards(m, step) && m.checks("notified-afterwards")) m.isNotifying = true;
        m.guard = "idle";
        finish(m, m.hasMark("host-delayed") ? "delayed" : "done");
      }),
      guard: () => m.hostSubstep === "again-end" && isTruncating(m),
    },
  ];
}

function otherStep(m: Machine, step: Exclude<HostStep, Truncate>): void {
  switch (step.op) {
    case "extend":
      m.log?.("truncate", "host", "host", `file extended to ${step.pages} pages`);
      m.fileSize = Math.max(m.fileSize, step.pages);
      break;
    case "write":
      m.log?.("access", "host", "host", `stores into page ${step.page} through its own mapping`);
      writePage(m.page(step.page));
      break;
    case "unmap":
      m.log?.("unmap", "vmm", "kvm", `no mapping of ${step.pages} pages from page ${step.page} on`);
      replaceVma(m, step.page, step.page + step.pages, "none");
      break;
    case "hwpoison": {
      const { page, pages = 1 } = step;
      const more = pages > 1 ? ` and the ${pages - 1} behind it` : "";
      m.log?.("unmap", "host", "kvm", `memory failure takes page ${page}${more}`);
      replaceVma(m, page, page + pages, "poisoned");
      break;
    }
    case "memory-error":
      m.log?.("unmap", "host", "host", `the memory of page ${step.page} goes bad`);
      m.page(step.page).isBad = true;
      break;
    case "punch":
      m.log?.("truncate", "host", "host", `hole of ${step.pages} pages from page ${step.page} on`);
      punchHole(m, step.page, step.page + step.pages);
      break;
    case "signal":
      m.log?.("signal", "host", "host", `signals ${step.name}`);
      m.signal(step.name);
      break;
    case "await":
      m.log?.("signal", "host", "host", `has waited for ${step.name}`);
      break;
    case "nothing":
  }
  finish(m, "done");
}

function otherAction(m: Machine): Action {
  return {
    name: "host: extends, punches, writes, unmaps, poisons, signals or goes on",
    actor: "host",
    guard: () => {
      const step = hostStep(m);
      if (step === null || step.op === "truncate") return false;
      return step.op !== "await" || m.hasSignal(step.name);
    },
    apply: () => {
      const step = hostStep(m);
      if (step !== null && step.op !== "truncate") otherStep(m, step);
    },
  };
}

/** The first page of the range that a guard or a watcher knows to be lost, or about to be. */
function lostFrom(m: Machine): number {
  const step = truncation(m);
  return step !== null && m.guard === "waiting" ? step.pages : m.fileSize;
}

/**
 * The size that the server answers to a guest that asks. While a truncation waits for this very guest, it is the size to
 * be: a server that hands the range out again loses the race that the guard was for.
 */
export function sizeAsServed(m: Machine): number {
  const step = truncation(m);
  const isRecalled = step !== null && m.guard !== "idle" && m.checks("no-mapping-while-recalled");
  return isRecalled ? Math.min(step.pages, m.fileSize) : m.fileSize;
}

function grant(m: Machine): void {
  m.isNotifying = false;
  m.isRevoking = false;
  if (m.guard === "waiting") m.guard = "granted";
}

/** A guard holds the truncation up, or a notification is under way. */
function hasPendingNews(m: Machine): boolean {
  return m.guard === "waiting" || m.isNotifying;
}

/** A page that is fenced although the file has it. */
function needlesslyFenced(m: Machine): number | null {
  for (const page of m.pages) if (page.isInFile && page.vma === "none") return page.index;
  return null;
}

/** The VMM's watcher of the file. */
function watcherActions(m: Machine): Action[] {
  const vma = vmaInPlace(m);
  return [
    {
      name: "vmm: takes the doomed range out of the guest",
      actor: "watcher",
      guard: () => vma !== null && m.case.leaseClient === "prompt" && hasPendingNews(m),
      apply: () => {
        m.log?.("remap", "vmm", "kvm", `doomed range from page ${lostFrom(m)}: ${vma}`);
        replaceVma(m, lostFrom(m), m.pages.length, vma ?? "file");
        grant(m);
      },
    },
    {
      name: "vmm: takes the fence away where the file has grown again",
      actor: "watcher",
      guard: () => vma === "none" && m.guard === "idle" && needlesslyFenced(m) !== null,
      apply: () => {
        const page = needlesslyFenced(m) ?? 0;
        m.log?.("remap", "vmm", "kvm", `page ${page} is back: no fence any more`);
        replaceVma(m, page, page + 1, "file");
      },
    },
  ];
}

/** The server and its client in the guest. */
function guardActions(m: Machine): Action[] {
  const asksGuest = m.case.leaseClient === "prompt" && !vmmActs(m);
  return [
    {
      name: "server: asks the guest to give the range back",
      actor: "server",
      guard: () => asksGuest && hasPendingNews(m) && !m.isRevoking,
      apply: () => {
        m.log?.("lease-break", "server", "guest", `give back from page ${lostFrom(m)} on`);
        m.isRevoking = true;
        if (!m.checks("grant-waits-for-revoke")) grant(m);
      },
    },
    {
      name: "guest: gives the range back",
      actor: "guest-driver",
      guard: () => m.isRevoking && m.alive && canRunDriver(m),
      apply: () => {
        m.log?.("lease-release", "guest", "server", `mappings from page ${lostFrom(m)} on are gone`);
        if (m.checks("guest-size-updated")) m.guestFileSize = lostFrom(m);
        grant(m);
      },
    },
    {
      name: "server: the lease's time runs out",
      actor: "clock",
      guard: () =>
        m.guard === "waiting" &&
        m.case.server !== "pre-content" &&
        !canAnswer(m) &&
        m.checks("lease-time-out"),
      apply: () => {
        m.log?.("lease-release", "server", "host", "45 s without an answer: the lease is broken by force");
        m.mark("host-delayed");
        m.guard = "granted";
      },
    },
  ];
}

/** A driver needs a vCPU that runs guest code with interrupts on, to take the request in. */
function canRunDriver(m: Machine): boolean {
  return m.vcpus.some((vcpu) => vcpu.place === "guest" && vcpu.event === "none" && vcpu.interruptsOn);
}

function canAnswer(m: Machine): boolean {
  return m.case.leaseClient === "prompt" && (vmmActs(m) || m.alive);
}

export function hostActions(m: Machine): Action[] {
  return [...callActions(m), ...truncateActions(m), otherAction(m), ...watcherActions(m), ...guardActions(m)];
}

/** Has the host process done all its steps? */
export function hostFinished(m: Machine): boolean {
  return m.hostStep >= m.case.host.length;
}
