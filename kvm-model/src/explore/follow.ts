/**
 * Follows a list of observed events through a model: is there a path whose visible events are exactly these, in this
 * order? Steps that pass nothing visible may be taken at any time. The list may end anywhere: a trace is a prefix.
 *
 * Searches pairs of a state and a position in the list, breadth first, each once; the path to the furthest pair is kept,
 * so that a list which cannot be followed says where, and what the model could have shown there instead.
 *
 * Where several write the list at once, something may be written down later than it happened: behind what others have
 * done meanwhile, before anything else of the same writer's. Then a pair has, besides, what is not written down yet.
 */
import type { Model, ModelEvent } from "./model.ts";
import { formatToken } from "./path.ts";

export type Observed = {
  readonly event: string;
  /** May be what the model does not show: it is passed over where it does not fit. */
  readonly optional: boolean;
};

export type FollowOptions = {
  /** The events of a step, in order. */
  readonly visibleOf: (
    before: Uint8Array,
    after: Uint8Array,
    events: readonly ModelEvent[],
  ) => readonly string[];
  /** Pairs of a state and a position. */
  readonly maxPairs: number;
  /** Events that may be written late; left out: none. */
  readonly late?: Late;
};

export type Late = {
  readonly mayBe: (event: string) => boolean;
  /** The writer of the event; null: a writer that is never late. @param actor of the step that shows it */
  readonly writerOf: (event: string, actor: string) => string | null;
};

export type Followed =
  | { readonly kind: "followed"; readonly token: string; readonly pairs: number }
  | {
      readonly kind: "diverges";
      /** Index of the first event that no path has. */
      readonly at: number;
      /** The next events of paths that agree until there; empty: none. */
      readonly instead: readonly string[];
      /** One such path. */
      readonly token: string;
      readonly pairs: number;
    }
  | { readonly kind: "bounded"; readonly at: number; readonly pairs: number };

type Edge = {
  readonly action: number;
  readonly to: number;
  readonly visible: readonly string[];
  /** The writer of the event. */
  readonly writers: readonly (string | null)[];
};

/** The states that were met, by number; what leaves each is found out once. */
class States {
  readonly #model: Model;
  readonly #options: FollowOptions;
  readonly #numbers = new Map<string, number>();
  readonly #states: Uint8Array[] = [];
  readonly #edges: (readonly Edge[] | undefined)[] = [];
  readonly #enabled: Uint16Array;

  constructor(model: Model, options: FollowOptions) {
    this.#model = model;
    this.#options = options;
    this.#enabled = new Uint16Array(model.actionNames.length);
  }

  number(state: Uint8Array): number {
    const key = Buffer.from(state.buffer, state.byteOffset, state.byteLength).toString("latin1");
    const known = this.#numbers.get(key);
    if (known !== undefined) return known;
    const number = this.#states.length;
    this.#numbers.set(key, number);
    this.#states.push(state);
    return number;
  }

  edges(number: number): readonly Edge[] {
    const known = this.#edges[number];
    if (known !== undefined) return known;
    const before = this.#states[number] as Uint8Array;
    const count = this.#model.enabled(before, this.#enabled);
    const edges = Array.from(this.#enabled.subarray(0, count), (action): Edge => {
      const after = before.slice();
      const events: ModelEvent[] = [];
      this.#model.next(after, action, (event) => events.push(event));
      const actor = this.#model.actors[this.#model.actorOf[action] as number] ?? "";
      const visible = this.#options.visibleOf(before, after, events);
      const writers = visible.map((event) => this.#options.late?.writerOf(event, actor) ?? null);
      return { action, to: this.number(after), visible, writers };
    });
    this.#edges[number] = edges;
    return edges;
  }
}

type Unwritten = { readonly event: string; readonly writer: string };

type Pair = {
  readonly state: number;
  /** How many of the observed events lie behind. */
  readonly at: number;
  /** Events that have happened and are not written yet. */
  readonly unwritten: readonly Unwritten[];
  readonly from: Pair | null;
  /** The action that led here; null at the start, and where an optional event was passed over. */
  readonly action: number | null;
};

function tokenOf(last: Pair): string {
  const actions: number[] = [];
  for (let pair: Pair | null = last; pair !== null; pair = pair.from) {
    if (pair.action !== null) actions.push(pair.action);
  }
  return formatToken(actions.reverse());
}

/** How many of `visible` were observed from `at` on. The list may end within a step: what it has no room for counts. */
function matched(observed: readonly Observed[], at: number, visible: readonly string[]): number {
  const differs = visible.findIndex((event, index) => {
    const seen = observed[at + index];
    return seen !== undefined && seen.event !== event;
  });
  return differs < 0 ? visible.length : differs;
}

/** Where paths leave the list: the furthest position so far, what they show there instead, and one that comes there. */
class Frontier {
  at = -1;
  instead = new Set<string>();
  pair: Pair | null = null;

  reached(at: number, pair: Pair, shown: string | null): void {
    if (at > this.at) {
      this.at = at;
      this.pair = pair;
      this.instead = new Set();
    }
    if (at === this.at && shown !== null) this.instead.add(shown);
  }
}

/** How far ahead in the list something late is looked for: other writers do not get further in between. */
const LATE_WITHIN = 32;

/** The successors of a pair, known ones included. */
function* successors(
  states: States,
  observed: readonly Observed[],
  pair: Pair,
  { late }: FollowOptions,
  frontier: Frontier,
): Generator<Pair> {
  const { at, unwritten } = pair;
  const next = observed[at];
  if (next?.optional === true) yield { ...pair, at: at + 1, from: pair, action: null };
  const written = unwritten.findIndex(({ event }) => event === next?.event);
  if (written >= 0)
    yield { ...pair, at: at + 1, unwritten: unwritten.toSpliced(written, 1), from: pair, action: null };
  for (const { action, to, visible, writers } of states.edges(pair.state)) {
    if (unwritten.some(({ writer }) => writers.includes(writer))) continue;
    const count = matched(observed, at, visible);
    if (count < visible.length) frontier.reached(at + count, pair, visible[count] ?? null);
    else yield { state: to, at: at + count, unwritten, from: pair, action };
    const [event] = visible;
    const [writer] = writers;
    if (visible.length !== 1 || event === undefined || writer == null || late?.mayBe(event) !== true)
      continue;
    const isAhead = observed.slice(at + 1, at + LATE_WITHIN).some((seen) => seen.event === event);
    if (isAhead) yield { state: to, at, unwritten: [...unwritten, { event, writer }], from: pair, action };
  }
}

export function follow(model: Model, observed: readonly Observed[], options: FollowOptions): Followed {
  const states = new States(model, options);
  const seen = new Set<string>();
  const queue: Pair[] = [];
  const frontier = new Frontier();
  const add = (pair: Pair): void => {
    const late = pair.unwritten.map(({ event }) => event).sort();
    const key = `${pair.state}/${pair.at}/${late.join("/")}`;
    if (seen.has(key)) return;
    seen.add(key);
    queue.push(pair);
  };
  const initial = new Uint8Array(model.stateBytes);
  model.initial(initial);
  add({ state: states.number(initial), at: 0, unwritten: [], from: null, action: null });
  for (let index = 0; index < queue.length; index++) {
    const pair = queue[index] as Pair;
    if (pair.at >= observed.length) return { kind: "followed", token: tokenOf(pair), pairs: seen.size };
    if (seen.size > options.maxPairs) return { kind: "bounded", at: frontier.at, pairs: seen.size };
    frontier.reached(pair.at, pair, null);
    for (const next of successors(states, observed, pair, options, frontier)) add(next);
  }
  return {
    kind: "diverges",
    at: frontier.at,
    instead: [...frontier.instead].sort(),
    token: tokenOf(frontier.pair as Pair),
    pairs: seen.size,
  };
}
