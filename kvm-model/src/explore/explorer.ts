/**
 * Breadth-first search of every choice of a model. Breadth-first, so that the first path to a state is a shortest one.
 *
 * It returns a Graph: the states in the order found, how each was reached (parent and action), and, on demand, all edges
 * and the set of enabled actors of each state, which the search for lassos (`cycles.ts`) needs. It judges nothing.
 * `exhaustiveness` has the bound that cut a search off; a graph under a bound may show a counterexample, never "never".
 *
 * Reduction (off by default): where a state enables a step that is local (`Model.localActions`), only that step is
 * explored, unless it leads to a state already seen; then the state is expanded in full. The first part is the ample set
 * {step} (it commutes with all others and no property sees it), the second the cycle proviso for breadth-first search,
 * without which an action could be put off for ever round a cycle.
 */
import { actorWords, addActor } from "./actors.ts";
import type { Model } from "./model.ts";
import { grownCapacity, StateStore } from "./store.ts";

export type Exhaustiveness =
  | { readonly kind: "exhaustive"; readonly states: number }
  | { readonly kind: "bounded"; readonly by: string; readonly states: number };

export type ExploreOptions = {
  readonly maxStates: number;
  /** All buffers of the exploration together. */
  readonly maxBytes: number;
  /** Record edges: needed for lassos, 5 bytes an edge and 8 a state (12 of a model with more than 32 actors). */
  readonly edges: boolean;
  readonly reduce: boolean;
};

export const defaultExploreOptions: ExploreOptions = {
  maxStates: 20_000_000,
  maxBytes: 3 * 1024 ** 3,
  edges: false,
  reduce: false,
};

/** Typed arrays that grow together with the number of states or edges. */
class GrowingInt32 {
  values: Int32Array = new Int32Array(4096);
  push(index: number, value: number): void {
    if (index >= this.values.length) {
      const grown = new Int32Array(grownCapacity(this.values.length));
      grown.set(this.values);
      this.values = grown;
    }
    this.values[index] = value;
  }
}

class GrowingUint8 {
  values: Uint8Array = new Uint8Array(4096);
  push(index: number, value: number): void {
    if (index >= this.values.length) {
      const grown = new Uint8Array(grownCapacity(this.values.length));
      grown.set(this.values);
      this.values = grown;
    }
    this.values[index] = value;
  }
}

export class Graph {
  readonly model: Model;
  readonly store: StateStore;
  readonly parent: GrowingInt32 = new GrowingInt32();
  readonly parentAction: GrowingUint8 = new GrowingUint8();
  /** With edges: index of the first edge of each state; edges of state i end where those of i+1 begin. */
  readonly edgeStart: GrowingInt32 = new GrowingInt32();
  readonly edgeTarget: GrowingInt32 = new GrowingInt32();
  readonly edgeAction: GrowingUint8 = new GrowingUint8();
  /** With edges: the set of actors that are enabled in each state, `actorWords` words a state. */
  readonly enabledActors: GrowingInt32 = new GrowingInt32();
  readonly actorWords: number;
  /** States without an enabled action, at most MAX_TERMINAL of them by index; `terminalCount` counts all. */
  readonly terminals: number[] = [];
  terminalCount = 0;
  transitions = 0;
  /** States whose successors have been computed: all of them, unless a bound was met. */
  expanded = 0;
  boundedBy: string | null = null;
  hasEdges = false;
  seconds = 0;

  constructor(model: Model) {
    this.model = model;
    this.store = new StateStore(model.stateBytes);
    this.actorWords = actorWords(model.actors.length);
  }

  get states(): number {
    return this.store.count;
  }

  get exhaustiveness(): Exhaustiveness {
    return this.boundedBy === null
      ? { kind: "exhaustive", states: this.states }
      : { kind: "bounded", by: this.boundedBy, states: this.states };
  }

  get allocatedBytes(): number {
    const index = this.parent.values.byteLength + this.parentAction.values.byteLength;
    const edges =
      this.edgeStart.values.byteLength +
      this.edgeTarget.values.byteLength +
      this.edgeAction.values.byteLength +
      this.enabledActors.values.byteLength;
    return this.store.allocatedBytes + index + (this.hasEdges ? edges : 0);
  }

  /** Bytes per stored state above the state itself, slack of all buffers included. */
  get overheadBytesPerState(): number {
    return this.allocatedBytes / this.states - this.model.stateBytes;
  }

  /** A copy of state `index`. */
  state(index: number): Uint8Array {
    const words = new Int32Array(this.store.words);
    this.store.load(index, words);
    return new Uint8Array(words.buffer);
  }

  /** Action indices of a shortest path from the initial state to state `index`. */
  pathTo(index: number): number[] {
    const path: number[] = [];
    for (let at = index; at > 0; at = this.parent.values[at] as number) {
      path.push(this.parentAction.values[at] as number);
    }
    return path.reverse();
  }
}

const MAX_TERMINAL = 1 << 16;
/** How often memory and bounds are looked at, in expanded states. */
const BOUND_CHECK_MASK = 0xfff;

export function explore(model: Model, options: Partial<ExploreOptions> = {}): Graph {
  const limits = { ...defaultExploreOptions, ...options };
  const graph = new Graph(model);
  graph.hasEdges = limits.edges;
  const began = performance.now();
  try {
    search(graph, limits);
  } catch (error) {
    // V8 throws RangeError when a buffer cannot be allocated. What was found until then stands, under a bound.
    if (!(error instanceof RangeError) || !/alloc|length|memory/i.test(error.message)) throw error;
    graph.boundedBy = `memory: a buffer could not grow beyond ${Math.round(graph.allocatedBytes / 2 ** 20)} MiB`;
  }
  graph.seconds = (performance.now() - began) / 1000;
  return graph;
}

/** The bound that is met before state `index` is expanded, or null. Memory is looked at now and then: it is a sum. */
function boundMet(graph: Graph, limits: ExploreOptions, index: number): string | null {
  if (graph.store.count > limits.maxStates) return `${limits.maxStates} states`;
  if ((index & BOUND_CHECK_MASK) !== 0 || graph.allocatedBytes <= limits.maxBytes) return null;
  return `memory: ${Math.round(limits.maxBytes / 2 ** 20)} MiB`;
}

/** Facts about a state that cycles and deadlocks are found by. */
function recordState(
  graph: Graph,
  index: number,
  enabled: Uint16Array,
  count: number,
  edgeCount: number,
): void {
  if (count === 0) {
    graph.terminalCount++;
    if (graph.terminals.length < MAX_TERMINAL) graph.terminals.push(index);
  }
  if (!graph.hasEdges) return;
  graph.edgeStart.push(index, edgeCount);
  const { model, enabledActors } = graph;
  const set = index * graph.actorWords;
  for (let word = 0; word < graph.actorWords; word++) enabledActors.push(set + word, 0);
  for (let at = 0; at < count; at++)
    addActor(enabledActors.values, model.actorOf[enabled[at] as number] as number, set);
}

function search(graph: Graph, limits: ExploreOptions): void {
  const { model, store } = graph;
  const words = store.words;
  const currentWords = new Int32Array(words);
  const current = new Uint8Array(currentWords.buffer);
  const nextWords = new Int32Array(words);
  const next = new Uint8Array(nextWords.buffer);
  const enabled = new Uint16Array(model.actionNames.length);
  let edgeCount = 0;

  model.initial(next);
  store.insert(nextWords);
  graph.parent.push(0, -1);
  graph.parentAction.push(0, 0);

  for (let index = 0; index < store.count; index++) {
    graph.boundedBy = boundMet(graph, limits, index);
    if (graph.boundedBy !== null) break;
    store.load(index, currentWords);
    const count = model.enabled(current, enabled);
    recordState(graph, index, enabled, count, edgeCount);
    const ample = limits.reduce && count > 1 ? ampleAction(model, enabled, count) : -1;
    let reduced = ample >= 0;
    let last = reduced ? ample + 1 : count;
    for (let at = Math.max(ample, 0); at < last; at++) {
      const action = enabled[at] as number;
      for (let word = 0; word < words; word++) nextWords[word] = currentWords[word] as number;
      model.next(next, action, null);
      let target = store.insert(nextWords);
      if (target < 0) {
        target = -1 - target;
        graph.parent.push(target, index);
        graph.parentAction.push(target, action);
      } else if (reduced) {
        // Cycle proviso: the one local step led to a state already seen, so take all steps after all.
        reduced = false;
        last = count;
        at = -1;
        continue;
      }
      graph.transitions++;
      if (!graph.hasEdges) continue;
      graph.edgeTarget.push(edgeCount, target);
      graph.edgeAction.push(edgeCount, action);
      edgeCount++;
    }
    graph.expanded = index + 1;
  }
  if (graph.hasEdges) graph.edgeStart.push(graph.expanded, edgeCount);
}

/** Position in `enabled` of the first local action, or -1. */
function ampleAction(model: Model, enabled: Uint16Array, count: number): number {
  for (let at = 0; at < count; at++) if (model.localActions[enabled[at] as number] === 1) return at;
  return -1;
}
