/**
 * Breadth-first search over machine.ts, and what its ends and its fair cycles are in the words of the vocabulary.
 * A cycle is fair if every actor that could always go on does: weak fairness for each vCPU, work item, process, timer.
 */
import {
  type AccessWord,
  type HostWord,
  type Outcome,
  outcomeText,
  recordedStyle,
} from "../../../language/src/index.ts";
import { begin, type Program, SCHEDULER, type State, turns, UNFAIR, type World } from "./machine.ts";

const STATES_MAX = 200_000;

type Edge = { readonly to: number; readonly actor: string; readonly mark: string | null };

type Follow = (edge: Edge) => boolean;

type Graph = { readonly states: readonly State[]; readonly edges: readonly (readonly Edge[])[] };

function explore(world: World): Graph {
  const known = new Map<string, number>();
  const states: State[] = [];
  const edges: Edge[][] = [];
  const number = (state: State): number => {
    const key = JSON.stringify(state);
    const old = known.get(key);
    if (old !== undefined) return old;
    known.set(key, states.length);
    return states.push(state) - 1;
  };
  number(begin(world));
  for (let i = 0; i < states.length; i++) {
    const state = states[i];
    if (state === undefined) break;
    if (states.length > STATES_MAX) throw new RangeError(`more than ${STATES_MAX} states`);
    edges.push(turns(world, state).map(({ actor, mark, to }) => ({ actor, mark, to: number(to) })));
  }
  return { states, edges };
}

/** Tarjan's algorithm without recursion: the strongly connected components of `nodes` along the edges that `follow` allows. */
function components(
  edges: Graph["edges"],
  nodes: readonly number[],
  follow: Follow,
): readonly (readonly number[])[] {
  const within = new Set(nodes);
  const found: number[][] = [];
  const order = new Map<number, number>();
  const low = new Map<number, number>();
  const open: number[] = [];
  const isOpen = new Set<number>();
  const lower = (at: number, to: number): void => {
    low.set(at, Math.min(low.get(at) ?? to, to));
  };
  const visit = (at: number): { readonly at: number; readonly rest: Edge[] } => {
    order.set(at, order.size);
    lower(at, order.size - 1);
    open.push(at);
    isOpen.add(at);
    return { at, rest: (edges[at] ?? []).filter((edge) => within.has(edge.to) && follow(edge)) };
  };
  for (const root of nodes) {
    const path = order.has(root) ? [] : [visit(root)];
    for (let top = path.at(-1); top !== undefined; top = path.at(-1)) {
      const edge = top.rest.pop();
      if (edge === undefined) {
        path.pop();
        const own = low.get(top.at) ?? 0;
        const parent = path.at(-1);
        if (parent !== undefined) lower(parent.at, own);
        if (own !== order.get(top.at)) continue;
        const component = open.splice(open.lastIndexOf(top.at));
        for (const member of component) isOpen.delete(member);
        found.push(component);
      } else if (!order.has(edge.to)) path.push(visit(edge.to));
      else if (isOpen.has(edge.to)) lower(top.at, order.get(edge.to) ?? 0);
    }
  }
  return found;
}

type Cycle = { readonly at: number; readonly marks: ReadonlySet<string> };

/** The largest fair cycles among `nodes`. One in which a strongly fair actor never moves avoids all states in which it can. */
function fairCycles(graph: Graph, nodes: readonly number[], follow: Follow): readonly Cycle[] {
  const actorsAt = (at: number): readonly string[] => (graph.edges[at] ?? []).map(({ actor }) => actor);
  return components(graph.edges, nodes, follow).flatMap((component): readonly Cycle[] => {
    const [first] = component;
    const members = new Set(component);
    const inside = component.flatMap((at) =>
      (graph.edges[at] ?? []).filter((edge) => members.has(edge.to) && follow(edge)),
    );
    if (first === undefined || inside.length === 0) return [];
    const moving = new Set(inside.map(({ actor }) => actor));
    const isLeftOut = (actor: string): boolean => actor.startsWith(SCHEDULER) && !moving.has(actor);
    const rest = component.filter((at) => !actorsAt(at).some(isLeftOut));
    if (rest.length < component.length) return fairCycles(graph, rest, follow);
    const always = actorsAt(first).filter((actor) => component.every((at) => actorsAt(at).includes(actor)));
    if (always.some((actor) => actor !== UNFAIR && !moving.has(actor))) return [];
    return [{ at: first, marks: new Set(inside.flatMap(({ mark }) => mark ?? [])) }];
  });
}

/** Labels are indexes of steps. */
function describe(program: Program, state: State, marks: ReadonlySet<string>): Outcome {
  const isOver = state.vm === "stopped" || state.guest === "panic";
  const accesses: Record<string, Record<string, AccessWord>> = {};
  const bystanders: Record<string, "progress" | "starved"> = {};
  program.tasks.forEach(({ name, ops }, t) => {
    const task = state.tasks[t];
    const words: Record<string, AccessWord> = {};
    ops.forEach((op, pc) => {
      if (op.do === "count") bystanders[name] = marks.has(`count ${t}`) ? "progress" : "starved";
      if (!("page" in op)) return;
      const unfinished = isOver || task?.state === "killed" ? "killed" : "hung";
      const unseen = task?.pc === pc && task.began ? unfinished : "not-reached";
      words[pc] = { kind: task?.seen[pc] ?? unseen };
    });
    accesses[name] = words;
  });
  const steps = program.host.map((_, pc): [number, HostWord] => [
    pc,
    { kind: pc < state.host.pc ? "done" : "not-reached" },
  ]);
  const running = { kind: marks.has("async") ? "looping" : "running" } as const;
  const vmm = state.vm === "stopped" ? ({ kind: "stopped", reason: "efault" } as const) : running;
  const host = { host: Object.fromEntries(steps) };
  return { accesses, host, vmm: [vmm], guestKernel: state.guest, bystanders };
}

/**
 * All outcomes. Ends first. Then, for each set of marks, the fair cycles that do without them: what every cycle of a
 * component does is only what is left in all of them.
 */
export function outcomes(world: World): { readonly texts: readonly string[]; readonly states: number } {
  const graph = explore(world);
  const texts = new Set<string>();
  const add = (state: State, marks: ReadonlySet<string>): void => {
    texts.add(outcomeText(describe(world.program, state, marks), recordedStyle));
  };
  graph.states.forEach((state, at) => {
    if (graph.edges[at]?.every(({ actor }) => actor === UNFAIR)) add(state, new Set());
  });
  const marks = [...new Set(graph.edges.flat().flatMap(({ mark }) => mark ?? []))];
  for (let set = 0; set < 2 ** marks.length; set++) {
    const avoided = new Set(marks.filter((_, i) => (set >> i) & 1));
    const follow: Follow = ({ mark }) => mark === null || !avoided.has(mark);
    for (const cycle of fairCycles(graph, [...graph.states.keys()], follow)) {
      const state = graph.states[cycle.at];
      if (state !== undefined) add(state, cycle.marks);
    }
  }
  return { texts: [...texts].sort(), states: graph.states.length };
}
