/**
 * The state of the full model, field by field, and the small numbers that stand in it.
 * Every number has a name here and nowhere else; `Context` is what the parts share besides the state.
 */
import type { EventSink } from "../explore/model.ts";
import { Layout } from "../state/layout.ts";
import {
  type AccessStep,
  type Check,
  type HostStep,
  isAccess,
  type ModelCase,
  type TaskStep,
} from "./case.ts";

/** Where a vCPU is. The fault path of KVM is cut where another CPU can come in between. */
export const AT = {
  /** In guest mode, or about to enter it: the guest's own code runs. */
  guest: 0,
  /** Page-fault exit taken; nothing looked at yet. */
  exit: 1,
  /** mmu_invalidate_seq read (kvm_faultin_pfn). */
  lookup: 2,
  /** hva_to_pfn with FOLL_NOWAIT says that I/O is needed. */
  async: 3,
  /** kvm_handle_error_pfn. */
  error: 4,
  /** A pfn in hand, mmu_lock not yet taken. */
  map: 5,
  /** The synchronous attempt. */
  sync: 6,
  /** apf.halted: the artificial halt. */
  halted: 7,
  /** KVM_RUN has returned. */
  stopped: 8,
} as const;

/** What is being delivered to the guest, as an exception or interrupt whose handler has not run yet. */
export const EVENT = {
  none: 0,
  /** #PF with flags = page not present and CR2 = token (2010: or page ready). */
  asyncPageFault: 1,
  machineCheck: 2,
  virtualizationException: 3,
  pageFault: 4,
  nmi: 5,
  pvError: 6,
  /** The page-ready handler has taken its token and not yet written the ACK MSR. */
  acknowledging: 7,
} as const;

/** Why KVM_RUN returned. */
export const STOP = {
  none: 0,
  efault: 1,
  memoryFault: 2,
  /** -EINTR with SIGBUS BUS_MCEERR_AR pending for the vCPU thread. */
  poison: 3,
  mmio: 4,
  internalError: 5,
  tripleFault: 6,
} as const;

/** What an access saw; also the words of the observations. */
export const SAW = {
  nothing: 0,
  value: 1,
  zero: 2,
  stale: 3,
  sigbusAdrerr: 4,
  sigbusMceerr: 5,
  efault: 6,
  killed: 7,
} as const;

export const TASK = { runnable: 0, sleeping: 1, done: 2, dead: 3 } as const;
export const WORK = { free: 0, queued: 1, done: 2 } as const;
/** Host VMA behind a page of the window. */
export const VMA = { file: 0, none: 1, anonymous: 2, poisoned: 3 } as const;
/** Second-level mapping (EPT/NPT) of a page. `freed`: the page was dropped from the file under a mapping. */
export const EPT = { none: 0, file: 1, freed: 2, anonymous: 3 } as const;
/** Page cache. `failed`: read, with an error. */
export const CACHE = { absent: 0, resident: 1, failed: 2 } as const;
export const GUARD = { idle: 0, waiting: 1, granted: 2 } as const;
export const KERNEL = { alive: 0, oops: 1, panic: 2 } as const;
export const HOST = { notReached: 0, done: 1, delayed: 2, denied: 3 } as const;

/** The shared area's first word (struct kvm_vcpu_pv_apf_data.flags). */
export const REASON = { none: 0, notPresent: 1, ready: 2 } as const;
/** Token of the wake-all broadcast (~0 in KVM). */
export const TOKEN_ALL = 255;
/** What an NMI's own page fault leaves in CR2. */
export const TOKEN_GARBAGE = 254;
export const IDLE = 255;

/** Things that, once they have happened, stay true: bits of the field `marks`. */
export const MARK = {
  wrongVictim: 1,
  silentData: 2,
  staleMapping: 4,
  imprecise: 8,
  hostDelayed: 16,
  lostReport: 32,
  /** Witness: while a page that only needs I/O was outstanding, another task ran on that vCPU. */
  ranDuringIo: 64,
  /** Witness: somebody met a page that cannot be had. */
  metGonePage: 128,
} as const;

export type Fields = {
  readonly size: number;
  readonly hostStep: number;
  readonly hostSub: number;
  readonly hostSaw: number;
  readonly invalidating: number;
  readonly seq: number;
  readonly cache: number;
  readonly zeroed: number;
  readonly vma: number;
  readonly hostPte: number;
  readonly ept: number;
  /** 1: the second level maps all pages by one large entry. No byte where the case has no large page. */
  readonly largeEpt: number;
  readonly guard: number;
  readonly notify: number;
  readonly revoke: number;
  readonly guestSize: number;
  readonly guestPoison: number;
  readonly signals: number;
  readonly marks: number;
  readonly kernel: number;
  readonly vm: number;
  readonly nmiLeft: number;
  readonly killPending: number;
  readonly dummy: number;
  readonly vAt: number;
  readonly vTask: number;
  readonly vRan: number;
  readonly vPage: number;
  readonly vSeq: number;
  readonly vPfn: number;
  readonly vError: number;
  readonly vStop: number;
  readonly vFaulter: number;
  readonly vEvent: number;
  readonly vFlags: number;
  readonly vCr2: number;
  readonly vToken: number;
  readonly vTokenError: number;
  readonly vIrq: number;
  readonly vReadyRequest: number;
  readonly vGfns: number;
  readonly vErrorGfn: number;
  readonly vErrorPending: number;
  readonly vVeBusy: number;
  readonly wState: number;
  readonly wVcpu: number;
  readonly wPage: number;
  readonly wTask: number;
  readonly wToken: number;
  readonly wInjected: number;
  readonly tStep: number;
  readonly tState: number;
  readonly tToken: number;
  readonly tError: number;
  readonly tCounted: number;
  readonly tSaw: number;
};

export type Context = {
  readonly case: ModelCase;
  readonly layout: Layout;
  readonly f: Fields;
  readonly tasks: number;
  readonly vcpus: number;
  readonly pages: number;
  readonly works: number;
  readonly tokens: number;
  readonly errorSlots: number;
  /** By task: offset of its first observation byte, one a step. */
  readonly sawAt: readonly number[];
  readonly signalBit: ReadonlyMap<string, number>;
  readonly apfGuest: boolean;
  has(check: Check): boolean;
};

function fieldsOf(layout: Layout, c: ModelCase, works: number, errorSlots: number, tokens: number): Fields {
  const one = (name: string): number => layout.field(name);
  const perPage = (name: string): number => layout.field(`page.${name}`, c.pages.length);
  const perVcpu = (name: string): number => layout.field(`vcpu.${name}`, c.vcpus);
  const perWork = (name: string): number => layout.field(`work.${name}`, works);
  const perTask = (name: string): number => layout.field(`task.${name}`, c.tasks.length);
  const stepCount = c.tasks.reduce((sum, task) => sum + task.steps.length, 0);
  return {
    size: one("host.i_size"),
    hostStep: one("host.step"),
    hostSub: one("host.substep"),
    hostSaw: layout.field("host.saw", c.host.length),
    invalidating: one("kvm.mmu_invalidate_in_progress"),
    seq: one("kvm.mmu_invalidate_seq"),
    cache: perPage("cache"),
    zeroed: perPage("zeroed"),
    vma: perPage("vma"),
    hostPte: perPage("host_pte"),
    ept: perPage("ept"),
    largeEpt: layout.field("large_ept", c.largePage ? 1 : 0),
    guard: one("server.guard"),
    notify: one("server.notify"),
    revoke: one("server.revoke"),
    guestSize: one("guest.i_size"),
    guestPoison: perPage("guest_poison"),
    signals: one("signals"),
    marks: one("marks"),
    kernel: one("guest.kernel"),
    vm: one("vm.stopped"),
    nmiLeft: one("nmi.left"),
    killPending: one("kill.pending"),
    dummy: layout.field("guest.dummy_node", tokens + 1),
    vAt: perVcpu("at"),
    vTask: perVcpu("task"),
    vRan: perVcpu("ran"),
    vPage: perVcpu("page"),
    vSeq: perVcpu("seq"),
    vPfn: perVcpu("pfn"),
    vError: perVcpu("error"),
    vStop: perVcpu("exit"),
    vFaulter: perVcpu("faulter"),
    vEvent: perVcpu("event"),
    vFlags: perVcpu("apf.flags"),
    vCr2: perVcpu("cr2"),
    vToken: perVcpu("apf.token"),
    vTokenError: perVcpu("apf.ready_flags"),
    vIrq: perVcpu("irq"),
    vReadyRequest: perVcpu("KVM_REQ_APF_READY"),
    vGfns: layout.field("vcpu.apf.gfns", c.vcpus * c.pages.length),
    vErrorGfn: layout.field("vcpu.apf.error_gfn", c.vcpus * errorSlots),
    vErrorPending: perVcpu("apf.error_pending"),
    vVeBusy: perVcpu("ve_busy"),
    wState: perWork("state"),
    wVcpu: perWork("vcpu"),
    wPage: perWork("page"),
    wTask: perWork("task"),
    wToken: perWork("token"),
    wInjected: perWork("notpresent_injected"),
    tStep: perTask("step"),
    tState: perTask("state"),
    tToken: perTask("token"),
    tError: perTask("error"),
    tCounted: perTask("counted"),
    tSaw: layout.field("task.saw", stepCount),
  };
}

export function makeContext(c: ModelCase): Context {
  const layout = new Layout();
  // The gfn hash admits one outstanding fault a page and vCPU; a wake-all entry is one more.
  const works = c.vcpus * c.pages.length + (c.wakeAll ? 1 : 0);
  const errorSlots =
    c.kvm === "error-gfn" || c.kvm === "ready-error" ? 1 : Math.min(c.errorSlots, c.pages.length);
  const tokens = works + c.tasks.length + c.vcpus + 1;
  const f = fieldsOf(layout, c, works, errorSlots, tokens);
  const sawAt: number[] = [];
  let at = f.tSaw;
  for (const task of c.tasks) {
    sawAt.push(at);
    at += task.steps.length;
  }
  const names = [
    ...c.tasks.flatMap((task): readonly (TaskStep | HostStep)[] => task.steps),
    ...c.host,
  ].flatMap((step) => (step.op === "signal" ? [step.name] : []));
  const without = new Set(c.without);
  return {
    case: c,
    layout,
    f,
    tasks: c.tasks.length,
    vcpus: c.vcpus,
    pages: c.pages.length,
    works,
    tokens,
    errorSlots,
    sawAt,
    signalBit: new Map([...new Set(names)].map((name, index) => [name, 1 << index])),
    apfGuest: c.enablesApf ?? c.guest !== "unaware",
    has: (check) => !without.has(check),
  };
}

export function at(s: Uint8Array, offset: number): number {
  return s[offset] as number;
}

export function mark(ctx: Context, s: Uint8Array, bit: number): void {
  s[ctx.f.marks] = at(s, ctx.f.marks) | bit;
}

/** Is the guest able to run at all? */
export function alive(ctx: Context, s: Uint8Array): boolean {
  return at(s, ctx.f.vm) === STOP.none && at(s, ctx.f.kernel) !== KERNEL.panic;
}

export function currentStep(ctx: Context, s: Uint8Array, task: number): TaskStep | null {
  return ctx.case.tasks[task]?.steps[at(s, ctx.f.tStep + task)] ?? null;
}

/** The access that task `task` is at, or null. */
export function currentAccess(ctx: Context, s: Uint8Array, task: number): AccessStep | null {
  if (task === IDLE) return null;
  const step = currentStep(ctx, s, task);
  return step !== null && isAccess(step) ? step : null;
}

export type Mode = "user" | "kernel" | "nested";

export function modeOf(step: AccessStep): Mode {
  switch (step.op) {
    case "copy-from-user":
    case "copy-to-user":
    case "dax-read":
    case "dax-write":
      return "kernel";
    case "load":
    case "store":
    case "atomic":
    case "fetch":
    case "stack":
    case "walk":
      return step.mode ?? "user";
  }
}

export function isStore(step: AccessStep): boolean {
  switch (step.op) {
    case "store":
    case "atomic":
    case "stack":
    case "copy-to-user":
    case "dax-write":
      return true;
    case "load":
    case "fetch":
    case "walk":
    case "copy-from-user":
    case "dax-read":
      return false;
  }
}

/** RFLAGS.IF of what vCPU `v` is running. The idle loop has interrupts on. */
export function interruptsOn(ctx: Context, s: Uint8Array, v: number): boolean {
  const access = currentAccess(ctx, s, at(s, ctx.f.vTask + v));
  return access === null || access.interrupts !== "off";
}

export function taskName(ctx: Context, task: number): string {
  return ctx.case.tasks[task]?.name ?? "idle";
}

export function tell(events: EventSink | null, kind: string, from: string, to: string, detail: string): void {
  if (events !== null) events({ kind, from, to, detail });
}
