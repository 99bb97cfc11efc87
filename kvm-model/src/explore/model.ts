/**
 * The port between a model and the strategy that runs it. A model is three pure functions over a flat state; it knows no
 * strategy, and a strategy (explorer, replay, random walk) knows no mechanism. What the state does not decide is a choice,
 * and every choice is an action of its own: `next` has no randomness, no clock and no memory.
 */

import type { Layout } from "../state/layout.ts";
import { type ActorSet, addActor, noActors } from "./actors.ts";

/** One step as text. `from` and `to` are lifelines of the sequence diagram. */
export type ModelEvent = {
  readonly kind: string;
  readonly from: string;
  readonly to: string;
  readonly detail: string;
};

/** Kind of the events that say which of the kernel's tracepoints a step passes; their detail is compared, not read. */
export const TRACEPOINT = "tracepoint";

export type EventSink = (event: ModelEvent) => void;

export interface Model {
  readonly name: string;
  readonly layout: Layout;
  readonly stateBytes: number;
  /** By action index: what the step is called. */
  readonly actionNames: readonly string[];
  /** By action index: what the step is, for programs; null where no program asks. */
  readonly actionKinds: readonly (string | null)[];
  /** By action index: which actor takes it. */
  readonly actorOf: Uint8Array;
  /** By actor index. */
  readonly actors: readonly string[];
  /** Actors under weak fairness: one that stays enabled for ever is not passed over for ever. */
  readonly fairActors: ActorSet;
  /** Among them, those under strong fairness: one that is enabled again and again is not passed over for ever. */
  readonly stronglyFairActors: ActorSet;
  /** By action index: 1 if the step is local, i.e. commutes with every other actor's steps and no property sees it. */
  readonly localActions: Uint8Array;
  initial(state: Uint8Array): void;
  /** Writes the indices of the enabled actions in ascending order, returns how many. */
  enabled(state: Uint8Array, out: Uint16Array): number;
  /** Takes an enabled action, in place. */
  next(state: Uint8Array, action: number, events: EventSink | null): void;
}

/** One row of a model written as a table: the form in which mechanisms are added. */
export type Action = {
  /** The step's name, for output. */
  readonly name: string;
  readonly kind?: string;
  readonly actor: string;
  readonly guard: (state: Uint8Array) => boolean;
  readonly apply: (state: Uint8Array, events: EventSink | null) => void;
  /** See Model.localActions; checked against the whole state space by `checkLocalActions`. */
  readonly local?: boolean;
};

export type TableModel = {
  readonly name: string;
  readonly layout: Layout;
  readonly actions: readonly Action[];
  /** Actors that may never act although they could: an NMI, a kill, a lease limit. */
  readonly unfairActors: readonly string[];
  /** Actors whose request is latched until it is served: a timer interrupt. */
  readonly stronglyFairActors?: readonly string[];
  readonly initial: (state: Uint8Array) => void;
  /** Before guards and steps of a state: a model that reads it through views points them at it. */
  readonly bind?: (state: Uint8Array, events: EventSink | null) => void;
};

const MAX_ACTORS = 256;
const MAX_ACTIONS = 256;

export function tableModel(table: TableModel): Model {
  const actors = [...new Set(table.actions.map((action) => action.actor))];
  if (actors.length > MAX_ACTORS)
    throw new RangeError(`${table.name}: ${actors.length} actors, at most ${MAX_ACTORS}`);
  if (table.actions.length > MAX_ACTIONS) {
    throw new RangeError(`${table.name}: ${table.actions.length} actions, at most ${MAX_ACTIONS}`);
  }
  const guards = table.actions.map((action) => action.guard);
  const applies = table.actions.map((action) => action.apply);
  const bind = table.bind ?? (() => {});
  const fairActors = noActors(actors.length);
  const stronglyFairActors = noActors(actors.length);
  for (const [index, actor] of actors.entries()) {
    if (table.stronglyFairActors?.includes(actor) === true) addActor(stronglyFairActors, index);
    if (!table.unfairActors.includes(actor)) addActor(fairActors, index);
  }
  return {
    name: table.name,
    layout: table.layout,
    stateBytes: table.layout.stateBytes,
    actionNames: table.actions.map((action) => action.name),
    actionKinds: table.actions.map((action) => action.kind ?? null),
    actorOf: Uint8Array.from(table.actions, (action) => actors.indexOf(action.actor)),
    actors,
    fairActors,
    stronglyFairActors,
    localActions: Uint8Array.from(table.actions, (action) => (action.local === true ? 1 : 0)),
    initial: table.initial,
    enabled(state, out) {
      bind(state, null);
      let count = 0;
      for (let index = 0; index < guards.length; index++) {
        const guard = guards[index];
        if (guard?.(state)) out[count++] = index;
      }
      return count;
    },
    next(state, action, events) {
      const apply = applies[action];
      if (apply === undefined) throw new RangeError(`${table.name} has no action ${action}`);
      bind(state, events);
      apply(state, events);
    },
  };
}
