/**
 * Lassos: a path from the initial state into a cycle that a fair system can go round for ever.
 *
 * Weak fairness: an actor that is enabled in every state of the cycle must act in it. A strongly connected component
 * holds a fair cycle iff the component as a whole is fair, because a walk that visits every state and every edge of it
 * is a cycle too, and a larger cycle only disables more actors somewhere and lets more of them act. So one pass of
 * Tarjan's algorithm over the states and edges that the property allows decides it.
 *
 * Worked example: states A and B, edges A -guest-> B, B -kvm-> A, and in both the worker could step to C. The worker is
 * enabled in A and in B and takes no edge of {A, B}: not fair, because a real worker thread would run some day. If the
 * worker is disabled in B (nothing queued), going round for ever starves no actor: fair, a livelock.
 */
import { type ActorSet, addActor, hasActor, noActors } from "./actors.ts";
import type { Graph } from "./explorer.ts";

export type CycleQuery = {
  /** Only cycles through states for which this holds: `the victim has not finished`. */
  readonly states: (state: Uint8Array) => boolean;
  /** Only cycles without these actions (bit by action index): `the bystander's count`. */
  readonly withoutActions?: ReadonlySet<number>;
};

export type Lasso = {
  /** Action indices from the initial state to the first state of the cycle. */
  readonly stem: readonly number[];
  /** Action indices once round. */
  readonly cycle: readonly number[];
  /** States of the component. */
  readonly componentStates: number;
};

export type Component = { readonly members: readonly number[]; readonly entry: number };

/** The fair lasso with the shortest stem, or null. */
export function findFairLasso(graph: Graph, query: CycleQuery): Lasso | null {
  let best: Component | null = null;
  for (const component of fairComponents(graph, query)) {
    if (best === null || component.entry < best.entry) best = component;
  }
  return best === null ? null : lassoOf(graph, best, query);
}

/** Once round a fair component, as its lasso. */
export function lassoOf(graph: Graph, component: Component, query: CycleQuery): Lasso {
  return {
    stem: graph.pathTo(component.entry),
    cycle: walkComponent(graph, component, query),
    componentStates: component.members.length,
  };
}

/** Every fair component, smallest state index (= reached first) as its entry. */
export function fairComponents(graph: Graph, query: CycleQuery): Component[] {
  if (!graph.hasEdges)
    throw new Error("looking for cycles needs a graph with edges: explore with { edges: true }");
  const found: Component[] = [];
  const open = [allowedStates(graph, query)];
  for (let allowed = open.pop(); allowed !== undefined; allowed = open.pop()) {
    tarjan(graph, query, allowed, (members, componentOf, id) => {
      const fairness = fairnessOf(graph, query, members, componentOf, id);
      if (!fairness.weak) return;
      if (fairness.denied.every((word) => word === 0)) {
        found.push({ members, entry: members.reduce((least, member) => Math.min(least, member)) });
        return;
      }
      // A strongly fair actor is enabled somewhere and never acts: only cycles that avoid those states are left.
      const rest = new Uint8Array(graph.expanded);
      for (const member of members) {
        if (!enablesOneOf(graph, member, fairness.denied)) rest[member] = 1;
      }
      open.push(rest);
    });
  }
  return found;
}

function enablesOneOf(graph: Graph, state: number, actors: ActorSet): boolean {
  const at = state * graph.actorWords;
  return actors.some((word, index) => ((graph.enabledActors.values[at + index] as number) & word) !== 0);
}

function allowedStates(graph: Graph, query: CycleQuery): Uint8Array {
  const words = new Int32Array(graph.store.words);
  const state = new Uint8Array(words.buffer);
  const allowed = new Uint8Array(graph.expanded);
  for (let index = 0; index < graph.expanded; index++) {
    graph.store.load(index, words);
    allowed[index] = query.states(state) ? 1 : 0;
  }
  return allowed;
}

type Fairness = {
  /** Has an edge, and every weakly fair actor acts or is disabled somewhere. */
  readonly weak: boolean;
  /** Strongly fair actors that are enabled somewhere in it and never act. */
  readonly denied: ActorSet;
};

function both(some: ActorSet, others: ActorSet): ActorSet {
  return some.map((word, index) => word & (others[index] as number));
}

/** Actors that are enabled in all states of a component, and in some. */
function enabledIn(graph: Graph, members: readonly number[]): { always: ActorSet; ever: ActorSet } {
  const ever = noActors(graph.model.actors.length);
  const always = ever.map(() => -1);
  for (const member of members) {
    for (let word = 0; word < graph.actorWords; word++) {
      const mask = graph.enabledActors.values[member * graph.actorWords + word] as number;
      always[word] = (always[word] as number) & mask;
      ever[word] = (ever[word] as number) | mask;
    }
  }
  return { always, ever };
}

function fairnessOf(
  graph: Graph,
  query: CycleQuery,
  members: readonly number[],
  componentOf: Int32Array,
  id: number,
): Fairness {
  const { model } = graph;
  const acting = noActors(model.actors.length);
  const { always, ever } = enabledIn(graph, members);
  let innerEdges = 0;
  for (const member of members) {
    const end = graph.edgeStart.values[member + 1] as number;
    for (let edge = graph.edgeStart.values[member] as number; edge < end; edge++) {
      const action = graph.edgeAction.values[edge] as number;
      if (componentOf[graph.edgeTarget.values[edge] as number] !== id) continue;
      if (query.withoutActions?.has(action) === true) continue;
      innerEdges++;
      addActor(acting, model.actorOf[action] as number);
    }
  }
  const idle = acting.map((word) => ~word);
  return {
    weak: innerEdges > 0 && both(both(always, model.fairActors), idle).every((word) => word === 0),
    denied: both(both(ever, model.stronglyFairActors), idle),
  };
}

/**
 * Tarjan, with an explicit stack (a path can be as long as the graph has states).
 * `componentOf` is 0 for states not yet assigned, else the number of their component.
 */
function tarjan(
  graph: Graph,
  query: CycleQuery,
  allowed: Uint8Array,
  onComponent: (members: number[], componentOf: Int32Array, id: number) => void,
): void {
  const states = graph.expanded;
  const order = new Int32Array(states);
  const low = new Int32Array(states);
  const componentOf = new Int32Array(graph.states);
  const nextEdge = new Int32Array(states);
  const path: number[] = [];
  const open: number[] = [];
  let clock = 0;
  let components = 0;
  const edgeStart = graph.edgeStart.values;
  const edgeTarget = graph.edgeTarget.values;
  const edgeAction = graph.edgeAction.values;

  const enter = (state: number): void => {
    order[state] = low[state] = ++clock;
    nextEdge[state] = edgeStart[state] as number;
    path.push(state);
    open.push(state);
  };
  for (let root = 0; root < states; root++) {
    if (allowed[root] === 0 || order[root] !== 0) continue;
    enter(root);
    while (path.length > 0) {
      const state = path[path.length - 1] as number;
      const edge = nextEdge[state] as number;
      if (edge < (edgeStart[state + 1] as number)) {
        nextEdge[state] = edge + 1;
        const target = edgeTarget[edge] as number;
        if (target >= states || allowed[target] === 0) continue;
        if (query.withoutActions?.has(edgeAction[edge] as number) === true) continue;
        if (order[target] === 0) enter(target);
        else if (componentOf[target] === 0)
          low[state] = Math.min(low[state] as number, order[target] as number);
        continue;
      }
      path.pop();
      const caller = path[path.length - 1];
      if (caller !== undefined) low[caller] = Math.min(low[caller] as number, low[state] as number);
      if (low[state] !== order[state]) continue;
      const id = ++components;
      const members: number[] = [];
      for (;;) {
        const member = open.pop() as number;
        componentOf[member] = id;
        members.push(member);
        if (member === state) break;
      }
      onComponent(members, componentOf, id);
    }
  }
}

/**
 * A cycle through the component's entry that shows its fairness: for every actor that is enabled in all of its states,
 * one of that actor's edges; for every other fair actor, a state in which it is disabled. Then back to the entry.
 */
function walkComponent(graph: Graph, component: Component, query: CycleQuery): number[] {
  const inside = new Set(component.members);
  const { model } = graph;
  const { always, ever } = enabledIn(graph, component.members);
  const mustAct = (actor: number): boolean =>
    hasActor(always, actor) || (hasActor(ever, actor) && hasActor(model.stronglyFairActors, actor));
  const isEnabled = (state: number, actor: number): boolean =>
    hasActor(graph.enabledActors.values, actor, state * graph.actorWords);
  const cycle: number[] = [];
  let at = component.entry;
  const go = (done: (from: number, action: number, to: number) => boolean): boolean => {
    const path = shortestWalk(graph, inside, query, at, done);
    if (path === null) return false;
    for (const edge of path) {
      cycle.push(graph.edgeAction.values[edge] as number);
      at = graph.edgeTarget.values[edge] as number;
    }
    return true;
  };
  const seenDisabled = new Set<number>();
  const acted = new Set<number>();
  const look = (): void => {
    for (const action of cycle) acted.add(model.actorOf[action] as number);
    for (let actor = 0; actor < model.actors.length; actor++)
      if (!isEnabled(at, actor)) seenDisabled.add(actor);
  };
  look();
  for (let actor = 0; actor < model.actors.length; actor++) {
    if (!hasActor(model.fairActors, actor)) continue;
    if (mustAct(actor)) {
      if (!acted.has(actor)) go((_from, action) => model.actorOf[action] === actor);
    } else if (!seenDisabled.has(actor)) {
      go((_from, _action, to) => !isEnabled(to, actor));
    }
    look();
  }
  if (at !== component.entry || cycle.length === 0) go((_from, _action, to) => to === component.entry);
  return cycle;
}

/** Edges of a shortest walk inside the component that ends with an edge for which `done` holds. */
function shortestWalk(
  graph: Graph,
  inside: ReadonlySet<number>,
  query: CycleQuery,
  from: number,
  done: (from: number, action: number, to: number) => boolean,
): number[] | null {
  const reachedBy = new Map<number, { edge: number; previous: number }>();
  const queue = [from];
  for (let head = 0; head < queue.length; head++) {
    const state = queue[head] as number;
    const end = graph.edgeStart.values[state + 1] as number;
    for (let edge = graph.edgeStart.values[state] as number; edge < end; edge++) {
      const action = graph.edgeAction.values[edge] as number;
      const target = graph.edgeTarget.values[edge] as number;
      if (!inside.has(target) || query.withoutActions?.has(action) === true) continue;
      if (done(state, action, target)) return [...walkBack(reachedBy, from, state), edge];
      if (target === from || reachedBy.has(target)) continue;
      reachedBy.set(target, { edge, previous: state });
      queue.push(target);
    }
  }
  return null;
}

function walkBack(
  reachedBy: ReadonlyMap<number, { edge: number; previous: number }>,
  from: number,
  to: number,
): number[] {
  const edges: number[] = [];
  for (let at = to; at !== from; ) {
    const step = reachedBy.get(at);
    if (step === undefined) throw new Error("a walk inside a component lost its way");
    edges.push(step.edge);
    at = step.previous;
  }
  return edges.reverse();
}
