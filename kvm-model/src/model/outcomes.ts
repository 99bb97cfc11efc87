/**
 * The allowed outcomes of a case: what could be observed at the end of each interleaving. An end is a state in which
 * nothing is enabled, or a fair cycle (a loop, or bystanders who count for ever). The words are those of the
 * vocabulary, without figures; real observations are compared with this set.
 */

import type { AccessWord, HostWord, Outcome, VmmWord } from "../../../language/src/index.ts";
import { type Component, type CycleQuery, fairComponents, lassoOf } from "../explore/cycles.ts";
import type { Graph } from "../explore/explorer.ts";
import { formatToken } from "../explore/path.ts";
import { AT, at, type Context, currentAccess, HOST, KERNEL, SAW, STOP, TASK } from "./fields.ts";
import { countAction, isBystander } from "./guest.ts";
import { stopReasons } from "./vmm.ts";

/**
 * An end by the shortest way to it. The outcome's labels are the model's own: of an access the index of its step in the
 * task, of a host step the index in the case, under `HOST_ACTOR`.
 */
export type End = { readonly outcome: Outcome; readonly token: string };

/** The one host process. */
export const HOST_ACTOR = "host";

const sawWords: Readonly<Record<number, AccessWord>> = {
  [SAW.value]: { kind: "value" },
  [SAW.zero]: { kind: "zero" },
  [SAW.stale]: { kind: "stale" },
  [SAW.sigbusAdrerr]: { kind: "sigbus", code: "BUS_ADRERR" },
  [SAW.sigbusMceerr]: { kind: "sigbus", code: "BUS_MCEERR_AR" },
  [SAW.efault]: { kind: "efault" },
  [SAW.killed]: { kind: "killed" },
};

const NOT_REACHED = { kind: "not-reached" } as const;

const hostWords: Readonly<Record<number, HostWord>> = {
  [HOST.notReached]: NOT_REACHED,
  [HOST.done]: { kind: "done" },
  [HOST.delayed]: { kind: "delayed" },
  // The file is sealed (F_SEAL_SHRINK): shmem_setattr() (mm/shmem.c).
  [HOST.denied]: { kind: "denied", errno: "EPERM" },
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

/** By the index of the step; steps that are no accesses are left out. */
function taskWords(ctx: Context, s: Uint8Array, t: number, turn: Turn): Record<string, AccessWord> {
  const { f } = ctx;
  const task = ctx.case.tasks[t];
  const ended = at(s, f.vm) !== STOP.none || at(s, f.kernel) === KERNEL.panic;
  const current = at(s, f.tStep + t);
  const wordOf = (index: number): AccessWord => {
    const saw = sawWords[at(s, (ctx.sawAt[t] as number) + index)];
    if (saw !== undefined) return saw;
    if (index !== current || currentAccess(ctx, s, t) === null) return NOT_REACHED;
    const started = begun(ctx, s, t) || turn.acting.has(`task.${task?.name}`);
    if (!started) return NOT_REACHED;
    return { kind: ended ? "killed" : "hung" };
  };
  return Object.fromEntries(
    (task?.steps ?? []).flatMap(({ op }, index) =>
      op === "signal" || op === "await" || op === "count" ? [] : [[index, wordOf(index)]],
    ),
  );
}

function vmmWord(stopped: number, turn: Turn): VmmWord {
  const reason = stopReasons[stopped];
  if (reason === undefined || reason === "running") return { kind: turn.faulting ? "looping" : "running" };
  return { kind: "stopped", reason };
}

const everywhere: CycleQuery = { states: () => true };

function outcomeOf(ctx: Context, s: Uint8Array, turn: Turn): Outcome {
  const { f } = ctx;
  const indices = ctx.case.tasks.map((_, t) => t);
  const counting = indices.filter((t) => isBystander(ctx, t));
  return {
    accesses: Object.fromEntries(
      indices.map((t) => [ctx.case.tasks[t]?.name ?? "", taskWords(ctx, s, t, turn)]),
    ),
    bystanders: Object.fromEntries(
      counting.map((t) => [
        ctx.case.tasks[t]?.name ?? "",
        turn.acting.has(countAction(ctx, t)) ? "progress" : "starved",
      ]),
    ),
    vmm: [vmmWord(at(s, f.vm), turn)],
    guestKernel: (["alive", "oops", "panic"] as const)[at(s, f.kernel)] ?? "alive",
    host: {
      [HOST_ACTOR]: Object.fromEntries(
        ctx.case.host.map((_, step) => [step, hostWords[at(s, f.hostSaw + step)] ?? NOT_REACHED]),
      ),
    },
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
export function outcomesOf(graph: Graph, ctx: Context): End[] {
  const ends: { readonly index: number; readonly turn: Turn; readonly component: Component | null }[] = [
    ...graph.terminals.map((index) => ({ index, turn: still, component: null })),
    ...fairComponents(graph, everywhere).map((component) => ({
      index: component.entry,
      turn: turnOf(graph, component),
      component,
    })),
  ].sort((a, b) => a.index - b.index);
  const found = new Map<string, End>();
  for (const { index, turn, component } of ends) {
    const outcome = outcomeOf(ctx, graph.state(index), turn);
    const key = JSON.stringify(outcome);
    if (found.has(key)) continue;
    const lasso = component === null ? null : lassoOf(graph, component, everywhere);
    const token = lasso === null ? formatToken(graph.pathTo(index)) : formatToken(lasso.stem, lasso.cycle);
    found.set(key, { outcome, token });
  }
  return [...found.values()];
}
