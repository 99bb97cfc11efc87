/**
 * The guest: its tasks, its scheduler, and its handlers (the `guest` axis).
 *
 * Mirrors arch/x86/kernel/kvm.c (__kvm_handle_async_pf, kvm_async_pf_task_wait_schedule, sysvec_kvm_asyncpf_interrupt,
 * kvm_async_pf_task_wake with its dummy node), and what a Linux guest does with #MC (memory_failure, exception table
 * types EX_TYPE_*_MCE_SAFE), #PF, #VE, NMI. `apf-error` and `pv-error` are proposals, not Linux.
 */
import { guestPersonas } from "../../../language/src/index.ts";
import type { Action, EventSink } from "../explore/model.ts";
import { anyDone } from "./apf.ts";
import type { AccessStep } from "./case.ts";
import {
  AT,
  alive,
  at,
  type Context,
  currentAccess,
  currentStep,
  EPT,
  EVENT,
  IDLE,
  interruptsOn,
  isStore,
  KERNEL,
  MARK,
  mark,
  modeOf,
  REASON,
  SAW,
  TASK,
  TOKEN_ALL,
  TOKEN_GARBAGE,
  taskName,
  tell,
  VMA,
  WORK,
} from "./fields.ts";
import { sizeAsServed } from "./host.ts";
import { isGone } from "./host-mm.ts";
import { takeFault } from "./kvm.ts";

/** The task's current step has been dealt with. A task past its last step is done. */
function advance(ctx: Context, s: Uint8Array, task: number, saw: number): void {
  const { f } = ctx;
  const step = at(s, f.tStep + task);
  s[(ctx.sawAt[task] as number) + step] = saw;
  s[f.tStep + task] = step + 1;
  s[f.tError + task] = 0;
  if (step + 1 >= (ctx.case.tasks[task]?.steps.length ?? 0)) s[f.tState + task] = TASK.done;
}

function die(ctx: Context, s: Uint8Array, task: number): void {
  const { f } = ctx;
  const access = currentAccess(ctx, s, task);
  if (access !== null) s[(ctx.sawAt[task] as number) + at(s, f.tStep + task)] = SAW.killed;
  s[f.tState + task] = TASK.dead;
  s[f.tToken + task] = 0;
}

/** SIGBUS to a task. A handler that jumps past the access lets it go on; without a stack there is no handler. */
function sigbus(ctx: Context, s: Uint8Array, task: number, saw: number, events: EventSink | null): void {
  const code = saw === SAW.sigbusMceerr ? "BUS_MCEERR_AR" : "BUS_ADRERR";
  tell(events, "sigbus", "guest", "guest", `SIGBUS ${code} to ${taskName(ctx, task)}`);
  const ends = ctx.case.tasks[task]?.onSigbus === "killed";
  if (currentAccess(ctx, s, task)?.op === "stack" && !ends) {
    die(ctx, s, task);
    return;
  }
  advance(ctx, s, task, saw);
  if (ends) s[ctx.f.tState + task] = TASK.dead;
}

/** The guest itself knows that the page is not there: it gave the range back, or poisoned the page for good. */
function refusedByGuest(
  ctx: Context,
  s: Uint8Array,
  task: number,
  access: AccessStep,
  e: EventSink | null,
): boolean {
  const { f } = ctx;
  const poisoned = at(s, f.guestPoison + access.page) !== 0 && ctx.has("poison-is-remembered");
  // Its mapping is gone, so it asks the server for the size again before it maps anew.
  if (access.page >= at(s, f.guestSize)) s[f.guestSize] = sizeAsServed(ctx, s);
  if (!poisoned && access.page < at(s, f.guestSize)) return false;
  if (modeOf(access) === "kernel") {
    tell(e, "fixup", "guest", "guest", `${taskName(ctx, task)}: ${access.op} returns -EFAULT`);
    advance(ctx, s, task, SAW.efault);
  } else {
    sigbus(ctx, s, task, poisoned ? SAW.sigbusMceerr : SAW.sigbusAdrerr, e);
  }
  return true;
}

/** The access goes through a mapping. */
function touch(ctx: Context, s: Uint8Array, task: number, access: AccessStep, e: EventSink | null): void {
  const { f } = ctx;
  const mapping = at(s, f.ept + access.page);
  // What is stored into a hole is there afterwards.
  const stores = isStore(access) && access.op !== "atomic";
  let saw: number = stores || at(s, f.zeroed + access.page) === 0 ? SAW.value : SAW.zero;
  if (mapping === EPT.anonymous) {
    // Zeros that no file holds, or a store that no file will ever see.
    mark(ctx, s, MARK.silentData);
    saw = stores ? SAW.stale : SAW.zero;
  }
  // What is stored in a sealed copy stays there.
  if (ctx.case.server === "sealed" && stores) saw = SAW.stale;
  if (mapping === EPT.freed) {
    mark(ctx, s, MARK.staleMapping | MARK.silentData);
    saw = SAW.stale;
  }
  const words = ["nothing", "the value", "zeros", "stale bytes"][saw];
  tell(
    e,
    "access",
    "guest",
    "guest",
    `${taskName(ctx, task)}: ${access.op} of page ${access.page} sees ${words}`,
  );
  advance(ctx, s, task, saw);
}

function runStep(ctx: Context, s: Uint8Array, v: number, events: EventSink | null): void {
  const { f } = ctx;
  const task = at(s, f.vTask + v);
  s[f.vRan + v] = 1;
  if (at(s, f.killPending) === task + 1) {
    s[f.killPending] = 0;
    tell(events, "signal", "guest", "guest", `${taskName(ctx, task)} dies of SIGKILL`);
    die(ctx, s, task);
    return;
  }
  witnessOverlap(ctx, s, v, task);
  const step = currentStep(ctx, s, task);
  if (step === null) return;
  switch (step.op) {
    case "count":
      tell(events, "schedule", "guest", "guest", `${taskName(ctx, task)} counts`);
      s[f.tCounted + task] = 1;
      return;
    case "signal":
      s[f.signals] = at(s, f.signals) | (ctx.signalBit.get(step.name) ?? 0);
      tell(events, "signal", "guest", "guest", `${taskName(ctx, task)} signals ${step.name}`);
      advance(ctx, s, task, SAW.nothing);
      return;
    case "await":
      tell(events, "signal", "guest", "guest", `${taskName(ctx, task)} has waited for ${step.name}`);
      advance(ctx, s, task, SAW.nothing);
      return;
    default:
      runAccess(ctx, s, v, task, step, events);
      return;
  }
}

function runAccess(
  ctx: Context,
  s: Uint8Array,
  v: number,
  task: number,
  access: AccessStep,
  events: EventSink | null,
): void {
  const { f } = ctx;
  if (at(s, f.tError + task) !== 0) {
    s[f.tError + task] = 0;
    // handle_async_pf_error() of the proposal: only user mode can be sent a signal here.
    const canSignal = modeOf(access) === "user" || !ctx.has("ready-error-user-only");
    if (canSignal) {
      sigbus(ctx, s, task, SAW.sigbusAdrerr, events);
      return;
    }
  }
  if (refusedByGuest(ctx, s, task, access, events)) return;
  if (at(s, f.ept + access.page) !== EPT.none) {
    touch(ctx, s, task, access, events);
    return;
  }
  takeFault(ctx, s, v, access.page, events);
}

/** Witness for keeps-apf: another task runs while a page that only needs I/O is on its way. */
function witnessOverlap(ctx: Context, s: Uint8Array, v: number, task: number): void {
  const { f } = ctx;
  for (let w = 0; w < ctx.works; w++) {
    if (at(s, f.wState + w) !== WORK.queued || at(s, f.wVcpu + w) !== v) continue;
    if (at(s, f.wTask + w) === task || at(s, f.wInjected + w) === 0) continue;
    const page = at(s, f.wPage + w);
    if (!isGone(ctx, s, page) && at(s, f.vma + page) === VMA.file) mark(ctx, s, MARK.ranDuringIo);
  }
}

/** Can task `t` be put on its vCPU? */
function schedulable(ctx: Context, s: Uint8Array, t: number): boolean {
  if (at(s, ctx.f.tState + t) !== TASK.runnable) return false;
  const step = currentStep(ctx, s, t);
  if (step?.op !== "await") return step !== null;
  return (at(s, ctx.f.signals) & (ctx.signalBit.get(step.name) ?? 0)) !== 0;
}

/** May the scheduler take the CPU from the running task here? */
function mayPreempt(ctx: Context, s: Uint8Array, v: number): boolean {
  const { f } = ctx;
  if (!ctx.case.preempt || at(s, f.vRan + v) === 0 || !interruptsOn(ctx, s, v)) return false;
  const access = currentAccess(ctx, s, at(s, f.vTask + v));
  return access === null || modeOf(access) === "user" || access.preemptible !== false;
}

function scheduleActions(ctx: Context, v: number): Action[] {
  const { f } = ctx;
  const onThisVcpu = ctx.case.tasks.flatMap((task, t) => (task.vcpu === v ? [t] : []));
  return onThisVcpu.map(
    (t): Action => ({
      name: `guest: vcpu${v} schedules ${taskName(ctx, t)}`,
      // An actor of its own: a timer that never stops firing gets every runnable task scheduled some day.
      actor: `scheduler.${taskName(ctx, t)}`,
      guard: (s) => {
        const current = at(s, f.vTask + v);
        const where = at(s, f.vAt + v);
        // The timer ends the halt of the task that it goes back to, too; its access then faults once more.
        if ((current === t && where !== AT.halted) || !schedulable(ctx, s, t) || !alive(ctx, s)) return false;
        if (at(s, f.vEvent + v) !== EVENT.none) return false;
        if (where === AT.guest)
          return current === IDLE || !schedulable(ctx, s, current) || mayPreempt(ctx, s, v);
        // A timer interrupt ends the artificial halt (vcpu_block clears apf.halted) and may switch tasks.
        return where === AT.halted && mayPreempt(ctx, s, v);
      },
      apply: (s, e) => {
        tell(e, "schedule", "guest", "guest", `vcpu${v} runs ${taskName(ctx, t)}`);
        s[f.vAt + v] = AT.guest;
        s[f.vTask + v] = t;
        s[f.vRan + v] = 0;
      },
    }),
  );
}

function oops(
  ctx: Context,
  s: Uint8Array,
  task: number,
  kernel: number,
  events: EventSink | null,
  why: string,
): void {
  const { f } = ctx;
  s[f.kernel] = Math.max(at(s, f.kernel), kernel);
  tell(events, "exception", "guest", "guest", `${why}: guest ${kernel === KERNEL.panic ? "panic" : "oops"}`);
  if (task !== IDLE) die(ctx, s, task);
}

/** Async #PF: read flags and CR2, then sleep (or wake: the protocol before 5.8). */
function asyncPageFault(ctx: Context, s: Uint8Array, v: number, events: EventSink | null): void {
  const { f } = ctx;
  const task = at(s, f.vTask + v);
  const reason = at(s, f.vFlags + v);
  const token = at(s, f.vCr2 + v);
  s[f.vEvent + v] = EVENT.none;
  s[f.vFlags + v] = REASON.none;
  s[f.vCr2 + v] = 0;
  if (reason === REASON.ready) {
    wake(ctx, s, token, false, events);
    return;
  }
  const access = currentAccess(ctx, s, task);
  const kernelMode = access !== null && modeOf(access) === "kernel";
  if (reason === REASON.none) {
    mark(ctx, s, MARK.wrongVictim);
    if (kernelMode) {
      oops(ctx, s, task, KERNEL.oops, events, "#PF with a token as address");
      return;
    }
    tell(
      events,
      "exception",
      "guest",
      "guest",
      `#PF at address ${token}: ${taskName(ctx, task)} gets SIGSEGV`,
    );
    die(ctx, s, task);
    return;
  }
  if (kernelMode && ctx.case.kvm !== "legacy-pf") {
    oops(ctx, s, task, KERNEL.panic, events, "host injected async #PF in kernel mode");
    return;
  }
  if (kernelMode && (access.preemptible === false || access.interrupts === "off")) {
    oops(ctx, s, task, KERNEL.panic, events, "async #PF where the kernel may not schedule");
    return;
  }
  if (token <= ctx.tokens && at(s, f.dummy + token) !== 0) {
    s[f.dummy + token] = 0;
    tell(events, "apf-not-present", "guest", "guest", `token ${token} was woken already: no sleep`);
    return;
  }
  s[f.tState + task] = TASK.sleeping;
  s[f.tToken + task] = token;
  s[f.vTask + v] = IDLE;
  s[f.vRan + v] = 0;
  tell(events, "apf-not-present", "guest", "guest", `${taskName(ctx, task)} sleeps on token ${token}`);
}

/** kvm_async_pf_task_wake(). */
function wake(ctx: Context, s: Uint8Array, token: number, error: boolean, events: EventSink | null): void {
  const { f } = ctx;
  let woken = 0;
  for (let t = 0; t < ctx.tasks; t++) {
    if (at(s, f.tState + t) !== TASK.sleeping) continue;
    if (token !== TOKEN_ALL && at(s, f.tToken + t) !== token && ctx.has("token-matched")) continue;
    s[f.tState + t] = TASK.runnable;
    s[f.tToken + t] = 0;
    s[f.tError + t] = error ? 1 : 0;
    woken++;
    tell(events, "apf-ready", "guest", "guest", `wakes ${taskName(ctx, t)}${error ? " with an error" : ""}`);
  }
  if (woken > 0 || token === TOKEN_ALL || token > ctx.tokens) return;
  s[f.dummy + token] = 1;
  tell(events, "apf-ready", "guest", "guest", `nobody sleeps on token ${token} yet: dummy node`);
}

/** Does an exception table entry cover what the guest kernel was doing, for this kind of event? */
function covered(ctx: Context, access: AccessStep, event: number): boolean {
  if (!ctx.has("extable-consulted") || access.fixup === false) return false;
  if (event !== EVENT.machineCheck) {
    // A fault at an address: every user copy has an entry, whatever it was copying from or to.
    return access.op.startsWith("copy-") || access.op.startsWith("dax-");
  }
  switch (access.op) {
    case "copy-from-user":
      return true;
    case "dax-read":
      return guestPersonas[ctx.case.guest].machineCheckSafe === "all" || ctx.case.daxCopies === "pmem";
    case "copy-to-user":
    case "dax-write":
      // No store is covered by an EX_TYPE_DEFAULT_MCE_SAFE entry today.
      return guestPersonas[ctx.case.guest].machineCheckSafe === "all";
    default:
      return false;
  }
}

const eventWords: readonly string[] = ["", "async #PF", "#MC", "#VE", "#PF", "NMI", "error interrupt", ""];

/** Does this guest know what the event means? */
export function understands(ctx: Context, event: number): boolean {
  switch (event) {
    case EVENT.machineCheck:
      return true;
    case EVENT.virtualizationException:
      return guestPersonas[ctx.case.guest].understandsVe;
    default:
      if (guestPersonas[ctx.case.guest].pageFaultIsError) return true;
      return ctx.case.faultHandler === "direct" && event !== EVENT.pvError;
  }
}

/** A #PF whose CR2 an NMI has overwritten: it says an address that is nobody's. */
function strayPageFault(
  ctx: Context,
  s: Uint8Array,
  task: number,
  access: AccessStep | null,
  events: EventSink | null,
): void {
  mark(ctx, s, MARK.lostReport);
  if (access !== null && (modeOf(access) === "kernel" || access.mode === "kernel")) {
    oops(ctx, s, task, KERNEL.oops, events, "#PF at an address of the NMI's");
    return;
  }
  tell(
    events,
    "exception",
    "guest",
    "guest",
    `#PF at an address of the NMI's: ${taskName(ctx, task)} gets SIGSEGV`,
  );
  if (task !== IDLE) die(ctx, s, task);
}

/** #MC, #VE, #PF, NMI or error interrupt about a page that cannot be had. Whoever is current is taken for the culprit. */
function errorEvent(ctx: Context, s: Uint8Array, v: number, events: EventSink | null): void {
  const { f } = ctx;
  const event = at(s, f.vEvent + v);
  const task = at(s, f.vTask + v);
  const page = at(s, f.vPage + v);
  const access = currentAccess(ctx, s, task);
  const word = eventWords[event] ?? "?";
  s[f.vEvent + v] = EVENT.none;
  s[f.vVeBusy + v] = 0;
  s[f.vPage + v] = 0;
  if (task !== at(s, f.vFaulter + v)) mark(ctx, s, MARK.wrongVictim);
  s[f.vFaulter + v] = 0;
  if (at(s, f.vCr2 + v) === TOKEN_GARBAGE) {
    s[f.vCr2 + v] = 0;
    strayPageFault(ctx, s, task, access, events);
    return;
  }
  if (!understands(ctx, event)) {
    if (event !== EVENT.virtualizationException) {
      tell(events, "exception", "guest", "guest", `${word}: finds nothing wrong and returns`);
      return;
    }
    oops(ctx, s, task, KERNEL.panic, events, "#VE without a handler");
    return;
  }
  if (access === null) {
    if (event === EVENT.machineCheck) {
      oops(ctx, s, task, KERNEL.panic, events, "#MC out of context");
      return;
    }
    mark(ctx, s, MARK.lostReport);
    tell(events, "exception", "guest", "guest", `${word}: concerns nothing that runs here: lost`);
    return;
  }
  if (modeOf(access) === "kernel" || access.mode === "kernel") {
    if (covered(ctx, access, event)) {
      tell(events, "fixup", "guest", "guest", `${word}: exception table: ${access.op} returns -EFAULT`);
      advance(ctx, s, task, SAW.efault);
      return;
    }
    const end = event === EVENT.machineCheck ? KERNEL.panic : KERNEL.oops;
    oops(ctx, s, task, end, events, `${word} in ${access.op} of the guest kernel, no exception table entry`);
    return;
  }
  tell(events, "exception", "guest", "guest", `${word} in ${taskName(ctx, task)}`);
  if (event === EVENT.machineCheck) {
    // memory_failure(): the page is poisoned for good, whatever the host does with the file later.
    s[f.guestPoison + page] = 1;
    sigbus(ctx, s, task, SAW.sigbusMceerr, events);
    return;
  }
  sigbus(ctx, s, task, SAW.sigbusAdrerr, events);
}

/** Events whose handlers learn from CR2 what they are about. The others have banks, areas, or nothing. */
function readsCr2(event: number): boolean {
  return event === EVENT.asyncPageFault || event === EVENT.pageFault;
}

function handlerActions(ctx: Context, v: number): Action[] {
  const { f } = ctx;
  const here = (s: Uint8Array): boolean => at(s, f.vAt + v) === AT.guest && alive(ctx, s);
  return [
    {
      name: `guest: vcpu${v} reads flags and CR2`,
      actor: `guest${v}`,
      guard: (s) => at(s, f.vEvent + v) === EVENT.asyncPageFault && here(s),
      apply: (s, e) => asyncPageFault(ctx, s, v, e),
    },
    {
      name: `guest: vcpu${v} handles an error event`,
      actor: `guest${v}`,
      guard: (s) =>
        at(s, f.vEvent + v) >= EVENT.machineCheck && at(s, f.vEvent + v) <= EVENT.pvError && here(s),
      apply: (s, e) => errorEvent(ctx, s, v, e),
    },
    {
      name: `guest: vcpu${v} takes the page-ready interrupt`,
      actor: `guest${v}`,
      guard: (s) =>
        at(s, f.vIrq + v) !== 0 && at(s, f.vEvent + v) === EVENT.none && interruptsOn(ctx, s, v) && here(s),
      apply: (s, e) => {
        const token = at(s, f.vToken + v);
        const error = at(s, f.vTokenError + v) !== 0;
        s[f.vIrq + v] = 0;
        s[f.vToken + v] = 0;
        s[f.vTokenError + v] = 0;
        s[f.vEvent + v] = ctx.case.ack ? EVENT.acknowledging : EVENT.none;
        wake(ctx, s, token, error, e);
      },
    },
    {
      name: `guest: vcpu${v} acknowledges page-ready`,
      actor: `guest${v}`,
      guard: (s) => at(s, f.vEvent + v) === EVENT.acknowledging && here(s),
      apply: (s, e) => {
        tell(e, "apf-ready", "guest", "kvm", "ACK: next one, please");
        s[f.vEvent + v] = EVENT.none;
        // MSR_KVM_ASYNC_PF_ACK: pageready_pending = false, then kvm_check_async_pf_completion().
        if (anyDone(ctx, s, v) && ctx.has("ack-rescans")) s[f.vReadyRequest + v] = 1;
      },
    },
    {
      name: `nmi: vcpu${v} takes an NMI whose handler faults`,
      actor: "nmi",
      guard: (s) => at(s, f.nmiLeft) !== 0 && readsCr2(at(s, f.vEvent + v)) && here(s),
      apply: (s, e) => {
        s[f.nmiLeft] = 0;
        if (ctx.case.nmi === "cr2-lost" || !ctx.has("nmi-saves-cr2")) s[f.vCr2 + v] = TOKEN_GARBAGE;
        if (ctx.case.nmi === "flags-lost") s[f.vFlags + v] = REASON.none;
        tell(
          e,
          "exception",
          "guest",
          "guest",
          `NMI before CR2 and flags are read, with a #PF inside (${ctx.case.nmi})`,
        );
      },
    },
  ];
}

/** Each task an actor, so that fairness is owed to each. Counting is an action of its own: progress that can be seen. */
function taskActions(ctx: Context, t: number): Action[] {
  const { f } = ctx;
  const v = ctx.case.tasks[t]?.vcpu ?? 0;
  const actor = `task.${taskName(ctx, t)}`;
  const runs = (s: Uint8Array): boolean =>
    at(s, f.vTask + v) === t &&
    at(s, f.vAt + v) === AT.guest &&
    at(s, f.vEvent + v) === EVENT.none &&
    alive(ctx, s) &&
    schedulable(ctx, s, t);
  const run: Action = {
    name: `${actor}: runs its next step`,
    actor,
    guard: (s) => runs(s) && currentStep(ctx, s, t)?.op !== "count",
    apply: (s, e) => runStep(ctx, s, v, e),
  };
  if (!isBystander(ctx, t)) return [run];
  const count: Action = {
    name: countAction(ctx, t),
    actor,
    guard: (s) => runs(s) && currentStep(ctx, s, t)?.op === "count",
    apply: (s, e) => runStep(ctx, s, v, e),
  };
  return [run, count];
}

export function isBystander(ctx: Context, t: number): boolean {
  return ctx.case.tasks[t]?.steps.at(-1)?.op === "count";
}

/** Name of the action by which bystander `t` gets on. */
export function countAction(ctx: Context, t: number): string {
  return `task.${taskName(ctx, t)}: counts`;
}

function killAction(ctx: Context): Action[] {
  const { f } = ctx;
  const victim = ctx.case.tasks.findIndex((task) => task.name === ctx.case.kill);
  if (victim < 0) return [];
  return [
    {
      name: `kill: SIGKILL to ${ctx.case.kill}`,
      actor: "kill",
      guard: (s) => {
        const state = at(s, f.tState + victim);
        return (
          at(s, f.killPending) === 0 && (state === TASK.runnable || state === TASK.sleeping) && alive(ctx, s)
        );
      },
      apply: (s, e) => {
        tell(
          e,
          "signal",
          "kill",
          "guest",
          `SIGKILL to ${ctx.case.kill}: taken when it next returns to user mode`,
        );
        s[f.killPending] = victim + 1;
      },
    },
  ];
}

export function guestActions(ctx: Context): Action[] {
  const perVcpu = Array.from({ length: ctx.vcpus }, (_, v) => [
    ...scheduleActions(ctx, v),
    ...handlerActions(ctx, v),
  ]);
  const perTask = ctx.case.tasks.flatMap((_, t) => taskActions(ctx, t));
  return [...perVcpu.flat(), ...perTask, ...killAction(ctx)];
}
