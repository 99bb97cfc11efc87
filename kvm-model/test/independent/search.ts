/**
 * Breadth-first search over machine.ts, and what its ends and its fair cycles are in the words of the vocabulary.
 * A cycle is fair if every actor that could always go on does: weak fairness for each vCPU, work item, process, timer.
 */
import { begin, type Program, type State, turns, type World } from "./machine.ts";

const STATES_MAX = 400_000;

/** An outcome as sorted texts: `victim.load#1 value`, `counter progress`, `vmm looping`, `guest alive`. */
export type Words = string;

type Edge = { readonly to: number; readonly actor: string; readonly mark: string | null };

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

/** Tarjan's algorithm without recursion: the strongly connected components along the edges that `follow` allows. */
function components(edges: Graph["edges"], follow: (edge: Edge) => boolean): readonly (readonly number[])[] {
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
    return { at, rest: (edges[at] ?? []).filter(follow) };
  };
  for (let root = 0; root < edges.length; root++) {
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

/** The marks of a fair cycle through all of a component; null: there is none. */
function fairMarks(
  graph: Graph,
  component: readonly number[],
  follow: (edge: Edge) => boolean,
): ReadonlySet<string> | null {
  const members = new Set(component);
  const inside = component.flatMap((at) =>
    (graph.edges[at] ?? []).filter((edge) => members.has(edge.to) && follow(edge)),
  );
  if (inside.length === 0) return null;
  const moving = new Set(inside.map(({ actor }) => actor));
  const [first = 0] = component;
  const always = (graph.edges[first] ?? []).map(({ actor }) => actor).filter((actor) => !moving.has(actor));
  const starved = always.some((actor) =>
    component.every((at) => graph.edges[at]?.some((edge) => edge.actor === actor)),
  );
  return starved ? null : new Set(inside.flatMap(({ mark }) => mark ?? []));
}

function describe(program: Program, state: State, marks: ReadonlySet<string>): Words {
  const isOver = state.vm === "stopped" || state.guest === "panic";
  const words: string[] = [];
  program.tasks.forEach(({ name, ops }, t) => {
    const task = state.tasks[t];
    const counts: Record<string, number> = {};
    ops.forEach((op, pc) => {
      if (op.do === "count") {
        const got = isOver
          ? false
          : marks.has("async")
            ? marks.has(`count:${t}`)
            : !state.trouble || task?.counted;
        words.push(`${name} ${got ? "progress" : "starved"}`);
      }
      if (!("page" in op)) return;
      const verb = op.by === "kernel" ? (op.do === "load" ? "kernel-read" : "kernel-write") : op.do;
      counts[verb] = (counts[verb] ?? 0) + 1;
      const isAt = task?.pc === pc && task.began;
      const unseen = isAt ? (isOver || task.state === "killed" ? "killed" : "hung") : "not-reached";
      words.push(`${name}.${verb}#${counts[verb]} ${task?.seen[pc] ?? unseen}`);
    });
  });
  for (const [name, ops] of Object.entries(program.hosts)) {
    const counts: Record<string, number> = {};
    ops.forEach((op, pc) => {
      if (op.do === "signal" || op.do === "await") return;
      counts[op.do] = (counts[op.do] ?? 0) + 1;
      words.push(
        `${name}.${op.do}#${counts[op.do]} ${(state.hosts[name]?.pc ?? 0) > pc ? "done" : "not-reached"}`,
      );
    });
  }
  const vmm = state.vm === "stopped" ? "stopped(efault)" : marks.has("async") ? "looping" : "running";
  return [...words.sort(), `vmm ${vmm}`, `guest ${state.guest}`].join("; ");
}

/**
 * All outcomes. Ends first. Then, for each set of marks, the fair cycles that do without them: what every cycle of a
 * component does is only what is left in all of them.
 */
export function outcomes(world: World): { readonly words: ReadonlySet<Words>; readonly states: number } {
  const graph = explore(world);
  const words = new Set<Words>();
  graph.states.forEach((state, at) => {
    if (graph.edges[at]?.length === 0) words.add(describe(world.program, state, new Set()));
  });
  const marks = [...new Set(graph.edges.flat().flatMap(({ mark }) => mark ?? []))];
  for (let set = 0; set < 2 ** marks.length; set++) {
    const avoided = new Set(marks.filter((_, i) => (set >> i) & 1));
    const follow = ({ mark }: Edge): boolean => mark === null || !avoided.has(mark);
    for (const component of components(graph.edges, follow)) {
      const seen = fairMarks(graph, component, follow);
      const state = graph.states[component[0] ?? 0];
      if (seen !== null && state !== undefined) words.add(describe(world.program, state, seen));
    }
  }
  return { words, states: graph.states.length };
}
