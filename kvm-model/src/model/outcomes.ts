/**
 * The allowed outcomes of a case: what could be observed at the end of each interleaving. An end is a state in which
 * nothing is enabled, or a fair cycle (a loop, or bystanders who count for ever). The words are those of the
 * vocabulary, without figures; real observations are compared with this set.
 */
import { type Component, type CycleQuery, fairComponents, lassoOf } from "../explore/cycles.ts";
import type { Graph } from "../explore/explorer.ts";
import { formatToken } from "../explore/path.ts";
import type { Context } from "./fields.ts";
import { COUNT_STEP } from "./guest/tasks.ts";
import { FAULT_STEP } from "./kvm.ts";
import { Machine } from "./machine.ts";
import type { Saw, Task } from "./task.ts";
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

const sawWords: Readonly<Record<Exclude<Saw, "nothing">, string>> = {
  value: "value",
  zero: "zero",
  stale: "stale",
  "sigbus-adrerr": "sigbus(BUS_ADRERR)",
  "sigbus-mceerr": "sigbus(BUS_MCEERR_AR)",
  efault: "efault",
  killed: "killed",
};

/** What a cycle shows besides its states. */
type Turn = {
  /** Actors that act in it. */
  readonly acting: ReadonlySet<string>;
  /** Actors that count in it: bystanders that get on. */
  readonly counting: ReadonlySet<string>;
  /** Page faults go round. */
  readonly faulting: boolean;
};

const still: Turn = { acting: new Set(), counting: new Set(), faulting: false };

/** Has the task begun the access that it is at? */
function hasBegun(m: Machine, task: Task): boolean {
  return (
    task.state === "sleeping" ||
    m.vcpus.some((vcpu) => vcpu.task === task && vcpu.place !== "guest") ||
    m.works.some((work) => work.state !== "free" && work.task === task)
  );
}

function taskWords(m: Machine, task: Task, turn: Turn): string[] {
  return task.steps.map((step, index): string => {
    const saw = task.saw(index);
    if (step.op === "signal" || step.op === "await" || step.op === "count") return "-";
    if (saw !== "nothing") return sawWords[saw];
    if (index !== task.step) return "not-reached";
    if (!hasBegun(m, task) && !turn.acting.has(task.actor)) return "not-reached";
    return m.alive ? "hung" : "killed";
  });
}

const everywhere: CycleQuery = { states: () => true };

function outcomeOf(m: Machine, turn: Turn): Omit<Outcome, "token"> {
  const bystanders = m.tasks.filter((task) => task.isBystander);
  const running = turn.faulting ? "looping" : "running";
  return {
    tasks: Object.fromEntries(m.tasks.map((task) => [task.name, taskWords(m, task, turn)])),
    bystanders: Object.fromEntries(
      bystanders.map((task) => [task.name, turn.counting.has(task.actor) ? "progress" : "starved"]),
    ),
    vmm: m.vmStop === "none" ? running : `stopped(${stopReasons[m.vmStop]})`,
    guestKernel: m.kernel,
    host: m.case.host.map((_, step) => m.hostResult(step)),
  };
}

/** Which actors move inside a component, and how. */
function turnOf(graph: Graph, component: Component): Turn {
  const { model } = graph;
  const inside = new Set(component.members);
  const acting = new Set<string>();
  const counting = new Set<string>();
  let faulting = false;
  for (const member of component.members) {
    const end = graph.edgeStart.values[member + 1] as number;
    for (let edge = graph.edgeStart.values[member] as number; edge < end; edge++) {
      if (!inside.has(graph.edgeTarget.values[edge] as number)) continue;
      const action = graph.edgeAction.values[edge] as number;
      const actor = model.actors[model.actorOf[action] as number] ?? "";
      acting.add(actor);
      if (model.actionKinds[action] === COUNT_STEP) counting.add(actor);
      if (model.actionKinds[action] === FAULT_STEP) faulting = true;
    }
  }
  return { acting, counting, faulting };
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
  const m = new Machine(ctx);
  const found = new Map<string, Outcome>();
  for (const { index, turn, component } of ends) {
    const identity = outcomeOf(m.bind(graph.state(index)), turn);
    const key = JSON.stringify(identity);
    if (found.has(key)) continue;
    const lasso = component === null ? null : lassoOf(graph, component, everywhere);
    const token = lasso === null ? formatToken(graph.pathTo(index)) : formatToken(lasso.stem, lasso.cycle);
    found.set(key, { ...identity, token });
  }
  return [...found.values()];
}
