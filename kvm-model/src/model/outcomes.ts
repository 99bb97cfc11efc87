/**
 * The allowed outcomes of a case: what could be observed at the end of each interleaving. An end is a state in which
 * nothing is enabled, or a fair cycle (a loop, or bystanders who count for ever). The words are those of the
 * vocabulary, without figures; real observations are compared with this set.
 */
import { type Component, type CycleQuery, fairComponents, lassoOf } from "../explore/cycles.ts";
import type { Graph } from "../explore/explorer.ts";
import { formatToken } from "../explore/path.ts";
import { AT, at, type Context, currentAccess, HOST, KERNEL, SAW, STOP, TASK } from "./fields.ts";
import { countAction, isBystander } from "./guest.ts";
import { stopReasons } from "./vmm.ts";

export type Outcome = {
  /** By task: a word for each of its steps; steps that are no accesses say `-`. */
  readonly tasks: Readonly<Record<string, readonly string[]>>;
  readonly bystanders: Readonly<Record<string, "progress" | "starved">>;
  readonly vmm: string;
  readonly guestKernel: "alive" | "oops" | "panic";
  /** By host step. */
  readonly host: readonly string[];
  /** The shortest way to an end of this kind. Not part of the outcome's identity. */
  readonly token: string;
};

const sawWords: Readonly<Record<number, string>> = {
  [SAW.value]: "value",
  [SAW.zero]: "zero",
  [SAW.stale]: "stale",
  [SAW.sigbusAdrerr]: "sigbus(BUS_ADRERR)",
  [SAW.sigbusMceerr]: "sigbus(BUS_MCEERR_AR)",
  [SAW.efault]: "efault",
  [SAW.killed]: "killed",
};

const hostWords: Readonly<Record<number, string>> = {
  [HOST.notReached]: "not-reached",
  [HOST.done]: "done",
  [HOST.delayed]: "delayed",
  [HOST.denied]: "denied",
};

/** What a cycle shows besides its states: which tasks act in it, and whether faults go round. */
type Turn = { readonly acting: ReadonlySet<string>; readonly faulting: boolean };

const still: Turn = { acting: new Set(), faulting: false };

/** Has task `t` begun the access that it is at? */
function begun(ctx: Context, s: Uint8Array, t: number): boolean {
  const { f } = ctx;
  if (at(s, f.tState + t) === TASK.sleeping) return true;
  for (let v = 0; v < ctx.vcpus; v++) {
    if (at(s, f.vTask + v) === t && at(s, f.vAt + v) !== AT.guest) return true;
  }
  for (let w = 0; w < ctx.works; w++) if (at(s, f.wState + w) !== 0 && at(s, f.wTask + w) === t) return true;
  return false;
}

function taskWords(ctx: Context, s: Uint8Array, t: number, turn: Turn): string[] {
  const { f } = ctx;
  const task = ctx.case.tasks[t];
  const ended = at(s, f.vm) !== STOP.none || at(s, f.kernel) === KERNEL.panic;
  const current = at(s, f.tStep + t);
  return (task?.steps ?? []).map((step, index): string => {
    const saw = at(s, (ctx.sawAt[t] as number) + index);
    if (step.op === "signal" || step.op === "await" || step.op === "count") return "-";
    if (saw !== SAW.nothing) return sawWords[saw] ?? "?";
    if (index !== current || currentAccess(ctx, s, t) === null) return "not-reached";
    const started = begun(ctx, s, t) || turn.acting.has(`task.${task?.name}`);
    if (!started) return "not-reached";
    return ended ? "killed" : "hung";
  });
}

const everywhere: CycleQuery = { states: () => true };

function outcomeOf(ctx: Context, s: Uint8Array, turn: Turn): Omit<Outcome, "token"> {
  const { f } = ctx;
  const indices = ctx.case.tasks.map((_, t) => t);
  const counting = indices.filter((t) => isBystander(ctx, t));
  const stopped = at(s, f.vm);
  return {
    tasks: Object.fromEntries(
      indices.map((t) => [ctx.case.tasks[t]?.name ?? "", taskWords(ctx, s, t, turn)]),
    ),
    bystanders: Object.fromEntries(
      counting.map((t) => [
        ctx.case.tasks[t]?.name ?? "",
        turn.acting.has(countAction(ctx, t)) ? "progress" : "starved",
      ]),
    ),
    vmm: stopped === STOP.none ? (turn.faulting ? "looping" : "running") : `stopped(${stopReasons[stopped]})`,
    guestKernel: (["alive", "oops", "panic"] as const)[at(s, f.kernel)] ?? "alive",
    host: ctx.case.host.map((_, step) => hostWords[at(s, f.hostSaw + step)] ?? "?"),
  };
}

/** Which actors and actions move inside a component. */
function turnOf(graph: Graph, component: Component): Turn {
  const { model } = graph;
  const inside = new Set(component.members);
  const acting = new Set<string>();
  let faulting = false;
  for (const member of component.members) {
    const end = graph.edgeStart.values[member + 1] as number;
    for (let edge = graph.edgeStart.values[member] as number; edge < end; edge++) {
      if (!inside.has(graph.edgeTarget.values[edge] as number)) continue;
      const action = graph.edgeAction.values[edge] as number;
      const name = model.actionNames[action] ?? "";
      acting.add(name);
      acting.add(model.actors[model.actorOf[action] as number] ?? "");
      if (name.includes("snapshot")) faulting = true;
    }
  }
  return { acting, faulting };
}

/** Every different end, by the shortest way. Needs a graph with edges. */
export function outcomesOf(graph: Graph, ctx: Context): Outcome[] {
  const ends: { readonly index: number; readonly turn: Turn; readonly component: Component | null }[] = [
    ...graph.terminals.map((index) => ({ index, turn: still, component: null })),
    ...fairComponents(graph, everywhere).map((component) => ({
      index: component.entry,
      turn: turnOf(graph, component),
      component,
    })),
  ].sort((a, b) => a.index - b.index);
  const found = new Map<string, Outcome>();
  for (const { index, turn, component } of ends) {
    const identity = outcomeOf(ctx, graph.state(index), turn);
    const key = JSON.stringify(identity);
    if (found.has(key)) continue;
    const lasso = component === null ? null : lassoOf(graph, component, everywhere);
    const token = lasso === null ? formatToken(graph.pathTo(index)) : formatToken(lasso.stem, lasso.cycle);
    found.set(key, { ...identity, token });
  }
  return [...found.values()];
}
