/**
 * What can happen in a case, as the explorer finds it: for each fact, a shortest way to it or null.
 * Facts are neutral; `claims/properties.ts` says which of them a property forbids or demands.
 */
import { type Exhaustiveness, type ExploreOptions, explore, type Graph } from "../explore/explorer.ts";
import { type Finding, findDeadlock, findLivelock, findState } from "../explore/search.ts";
import { type ModelCase, modelCase } from "./case.ts";
import { AT, alive, at, type Context, HOST, KERNEL, MARK, SAW, STOP, TASK } from "./fields.ts";
import { countAction, isBystander } from "./guest.ts";
import { hostFinished } from "./host.ts";
import { type GuestModel, guestModel } from "./model.ts";

export const factNames = [
  /** A task stays at an access for ever although everybody who can act does. */
  "livelock",
  /** Nothing can happen any more and a task has not finished: it sleeps for ever. */
  "deadlock",
  "host-stuck",
  "host-delayed",
  "host-denied",
  "vm-stopped",
  "stopped-efault",
  "stopped-memory-fault",
  "stopped-mmio",
  "stopped-internal-error",
  "stopped-triple-fault",
  "oops",
  "panic",
  "starved",
  "wrong-victim",
  "silent-data",
  "stale-mapping",
  "imprecise",
  "lost-report",
  "ran-during-io",
  "met-gone-page",
  "sigbus",
  "sigbus-adrerr",
  "sigbus-mceerr",
  "efault-returned",
  "all-done",
  /** Somebody learns that a page is gone: a signal, an error code, or the VMM an exit. */
  "told",
  /** Everybody has finished, and async page faults are still off because of an error that nobody was told. */
  "apf-left-off",
  /** Everybody has finished, and a gfn is still remembered as bad. */
  "error-gfn-left",
  /** The bytes from before the truncation, seen after the file had grown again. */
  "value-after-regrowth",
  /** KVM_RUN has returned for an error while another task than the faulting one is current. */
  "exit-elsewhere",
  /** A task that came after the file had grown again was refused all the same. */
  "refused-after-regrowth",
] as const;
export type Fact = (typeof factNames)[number];

export type Facts = {
  readonly case: ModelCase;
  readonly found: Readonly<Record<Fact, Finding | null>>;
  readonly exhaustiveness: Exhaustiveness;
  readonly transitions: number;
  readonly seconds: number;
};

/** Tasks that have an end: everything but bystanders. */
function unfinished(ctx: Context, s: Uint8Array): boolean {
  for (let t = 0; t < ctx.tasks; t++) {
    if (isBystander(ctx, t)) continue;
    const state = at(s, ctx.f.tState + t);
    if (state !== TASK.done && state !== TASK.dead) return true;
  }
  return false;
}

export function allDone(ctx: Context, s: Uint8Array): boolean {
  return !unfinished(ctx, s) && alive(ctx, s);
}

/** A fair way to go on for ever in which a bystander stops counting. */
function starvation(graph: Graph, ctx: Context): Finding | null {
  for (let t = 0; t < ctx.tasks; t++) {
    if (!isBystander(ctx, t)) continue;
    const counts = graph.model.actionNames.indexOf(countAction(ctx, t));
    const query = { states: (s: Uint8Array) => alive(ctx, s), withoutActions: new Set([counts]) };
    const finding = findLivelock(graph, query) ?? findDeadlock(graph, (s) => !alive(ctx, s));
    if (finding !== null) return finding;
  }
  return null;
}

function saw(graph: Graph, ctx: Context, words: readonly number[]): Finding | null {
  const steps = ctx.case.tasks.reduce((sum, task) => sum + task.steps.length, 0);
  return findState(graph, (s) => {
    for (let step = 0; step < steps; step++) if (words.includes(at(s, ctx.f.tSaw + step))) return true;
    return false;
  });
}

function hostStuck(graph: Graph, ctx: Context): Finding | null {
  const waits = (s: Uint8Array): boolean => !hostFinished(ctx, s);
  const deadlock = findDeadlock(graph, (s) => !waits(s) || awaitsInVain(ctx, s));
  return deadlock ?? findLivelock(graph, { states: (s) => waits(s) && !awaitsInVain(ctx, s) });
}

/** The host waits for a signal that no task will give any more: the scenario's doing, not the guard's. */
function awaitsInVain(ctx: Context, s: Uint8Array): boolean {
  return ctx.case.host[at(s, ctx.f.hostStep)]?.op === "await";
}

export function collectFacts(
  given: GuestModel,
  options: Partial<ExploreOptions> = {},
): { facts: Facts; graph: Graph } {
  const { model, ctx } = given;
  const graph = explore(model, { ...options, edges: true });
  const { f } = ctx;
  const marked = (bit: number): Finding | null => findState(graph, (s) => (at(s, f.marks) & bit) !== 0);
  const stopped = (...reasons: number[]): Finding | null =>
    findState(graph, (s) => reasons.includes(at(s, f.vm)));
  const host = (word: number): Finding | null =>
    findState(graph, (s) => ctx.case.host.some((_, step) => at(s, f.hostSaw + step) === word));
  const isEnd = (s: Uint8Array): boolean => !alive(ctx, s) || !unfinished(ctx, s);
  const found: Record<Fact, Finding | null> = {
    livelock: findLivelock(graph, {
      states: (s) => alive(ctx, s) && unfinished(ctx, s) && someSteps(ctx, s),
    }),
    deadlock: findDeadlock(graph, isEnd),
    "host-stuck": hostStuck(graph, ctx),
    "host-delayed": marked(MARK.hostDelayed),
    "host-denied": host(HOST.denied),
    "vm-stopped": findState(graph, (s) => at(s, f.vm) !== STOP.none),
    "stopped-efault": stopped(STOP.efault, STOP.poison),
    "stopped-memory-fault": stopped(STOP.memoryFault),
    "stopped-mmio": stopped(STOP.mmio),
    "stopped-internal-error": stopped(STOP.internalError),
    "stopped-triple-fault": stopped(STOP.tripleFault),
    oops: findState(graph, (s) => at(s, f.kernel) === KERNEL.oops),
    panic: findState(graph, (s) => at(s, f.kernel) === KERNEL.panic),
    starved: starvation(graph, ctx),
    "wrong-victim": marked(MARK.wrongVictim),
    "silent-data": marked(MARK.silentData),
    "stale-mapping": marked(MARK.staleMapping),
    imprecise: marked(MARK.imprecise),
    "lost-report": marked(MARK.lostReport),
    "ran-during-io": marked(MARK.ranDuringIo),
    "met-gone-page": marked(MARK.metGonePage),
    sigbus: saw(graph, ctx, [SAW.sigbusAdrerr, SAW.sigbusMceerr]),
    "sigbus-adrerr": saw(graph, ctx, [SAW.sigbusAdrerr]),
    "sigbus-mceerr": saw(graph, ctx, [SAW.sigbusMceerr]),
    "efault-returned": saw(graph, ctx, [SAW.efault]),
    "all-done": findState(graph, (s) => allDone(ctx, s)),
    told:
      saw(graph, ctx, [SAW.sigbusAdrerr, SAW.sigbusMceerr, SAW.efault]) ??
      findState(graph, (s) => vcpus(ctx).some((v) => at(s, f.vAt + v) === AT.stopped)),
    "apf-left-off": findState(
      graph,
      (s) => allDone(ctx, s) && vcpus(ctx).some((v) => at(s, f.vErrorPending + v) !== 0),
    ),
    "error-gfn-left": findState(graph, (s) => allDone(ctx, s) && errorGfnLeft(ctx, s)),
    "value-after-regrowth": findState(graph, (s) => afterRegrowth(ctx, s, (word) => word === SAW.value)),
    "exit-elsewhere": findState(graph, (s) => vcpus(ctx).some((v) => exitElsewhere(ctx, s, v))),
    "refused-after-regrowth": findState(graph, (s) =>
      afterRegrowth(ctx, s, (word) => word >= SAW.sigbusAdrerr && word <= SAW.killed),
    ),
  };
  const facts: Facts = {
    case: ctx.case,
    found,
    exhaustiveness: graph.exhaustiveness,
    transitions: graph.transitions,
    seconds: graph.seconds,
  };
  return { facts, graph };
}

function vcpus(ctx: Context): number[] {
  return Array.from({ length: ctx.vcpus }, (_, v) => v);
}

function exitElsewhere(ctx: Context, s: Uint8Array, v: number): boolean {
  return at(s, ctx.f.vAt + v) === AT.stopped && at(s, ctx.f.vTask + v) !== at(s, ctx.f.vFaulter + v);
}

/** Tasks whose first step waits for the regrowth: is what their access saw of this kind? */
function afterRegrowth(ctx: Context, s: Uint8Array, is: (saw: number) => boolean): boolean {
  return ctx.case.tasks.some(
    (task, t) => task.steps[0]?.op === "await" && is(at(s, (ctx.sawAt[t] as number) + 1)),
  );
}

function errorGfnLeft(ctx: Context, s: Uint8Array): boolean {
  const from = ctx.f.vErrorGfn;
  return s.subarray(from, from + ctx.vcpus * ctx.errorSlots).some((slot) => slot !== 0);
}

/** Not a state in which the unfinished tasks merely wait for a signal that the scenario has not given. */
function someSteps(ctx: Context, s: Uint8Array): boolean {
  for (let t = 0; t < ctx.tasks; t++) {
    const state = at(s, ctx.f.tState + t);
    if (isBystander(ctx, t) || (state !== TASK.runnable && state !== TASK.sleeping)) continue;
    const step = ctx.case.tasks[t]?.steps[at(s, ctx.f.tStep + t)];
    if (step?.op !== "await" || (at(s, ctx.f.signals) & (ctx.signalBit.get(step.name) ?? 0)) !== 0)
      return true;
  }
  return false;
}

/** Explores a case given in short form. */
export function factsOf(
  given: Parameters<typeof modelCase>[0],
  options: Partial<ExploreOptions> = {},
): Facts {
  return collectFacts(guestModel(modelCase(given)), options).facts;
}
