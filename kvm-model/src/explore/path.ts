/**
 * Paths: replay tokens, schedulers, and checks that a model keeps the promises of its port.
 *
 * A token is the action indices of a path, joined by slashes: `0/3/17`; a cycle follows a double slash: `0/3//4/5`.
 * It is short, safe in a URL and a shell, and replays on the same model (same case, same version) only.
 */
import type { Graph } from "./explorer.ts";
import { type EventSink, type Model, type ModelEvent, TRACEPOINT } from "./model.ts";

export class ReplayError extends Error {
  override readonly name = "ReplayError";
}

export type Token = { readonly stem: readonly number[]; readonly cycle: readonly number[] };

export function formatToken(stem: readonly number[], cycle: readonly number[] = []): string {
  return cycle.length === 0 ? stem.join("/") : `${stem.join("/")}//${cycle.join("/")}`;
}

export function parseToken(text: string): Token {
  const [stem, cycle, ...more] = text.split("//");
  if (more.length > 0) throw new ReplayError(`token ${text}: more than one cycle ("//")`);
  return { stem: parsePart(text, stem), cycle: parsePart(text, cycle) };
}

function parsePart(token: string, part: string | undefined): number[] {
  if (part === undefined || part === "") return [];
  return part.split("/").map((piece) => {
    if (!/^\d{1,3}$/.test(piece)) throw new ReplayError(`token ${token}: "${piece}" is no action index`);
    return Number(piece);
  });
}

export type Step = {
  readonly action: number;
  readonly name: string;
  readonly actor: string;
  readonly events: readonly ModelEvent[];
};

/** The chooser of actions. It may keep state of its own within one run; null ends the run. */
export interface Scheduler {
  readonly name: string;
  /** One of the first `count` entries of `enabled`, or null. */
  choose(enabled: Uint16Array, count: number, step: number): number | null;
}

/** Follows a list of actions. */
export function replayScheduler(actions: readonly number[]): Scheduler {
  return {
    name: "replay",
    choose(enabled, count, step) {
      const action = actions[step];
      if (action === undefined) return null;
      if (!enabled.subarray(0, count).includes(action)) {
        throw new ReplayError(
          `step ${step}: action ${action} is not enabled there (enabled: ${enabled.subarray(0, count).join(", ")}). ` +
            "Likely cause: the token belongs to another scenario, proposal or version of the model. " +
            "Next: run daxfault explore on this case again and take its token.",
        );
      }
      return action;
    },
  };
}

/** Random walk, reproducible from its seed (xorshift32: good enough to pick among a few steps). */
export function randomScheduler(seed: number, maxSteps: number): Scheduler {
  let state = seed | 0 || 0x9e3779b9;
  return {
    name: `random(seed ${seed})`,
    choose(enabled, count, step) {
      if (step >= maxSteps) return null;
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      return enabled[(state >>> 0) % count] ?? null;
    },
  };
}

/** Runs the model under a scheduler, until it has nothing enabled or the scheduler ends the run. */
export function runSchedule(model: Model, scheduler: Scheduler): { steps: Step[]; state: Uint8Array } {
  const state = new Uint8Array(model.stateBytes);
  const enabled = new Uint16Array(model.actionNames.length);
  const steps: Step[] = [];
  model.initial(state);
  for (;;) {
    const count = model.enabled(state, enabled);
    if (count === 0 && scheduler.name !== "replay") break;
    const action = scheduler.choose(enabled, count, steps.length);
    if (action === null) break;
    const events: ModelEvent[] = [];
    const sink: EventSink = (event) => {
      // For programs (explore/follow.ts): to people it is no news.
      if (event.kind !== TRACEPOINT) events.push(event);
    };
    model.next(state, action, sink);
    const name = model.actionNames[action] ?? `action ${action}`;
    const actor = model.actors[model.actorOf[action] as number] ?? "?";
    steps.push({ action, name, actor, events });
  }
  return { steps, state };
}

export function replay(model: Model, token: Token): { steps: Step[]; state: Uint8Array } {
  return runSchedule(model, replayScheduler([...token.stem, ...token.cycle]));
}

/**
 * Determinism: replays random schedules and compares the sets of enabled actions and the states, step by step, with and
 * without an event sink. A difference means that `enabled` or `next` looks at something besides the state.
 */
export function checkDeterminism(model: Model, seed: number, runs: number, maxSteps: number): void {
  for (let run = 0; run < runs; run++) {
    const first = traceOf(model, randomScheduler(seed + run, maxSteps), null);
    const again = traceOf(model, replayScheduler(first.actions), () => {});
    const differs = first.lines.findIndex((line, index) => line !== again.lines[index]);
    if (differs >= 0 || first.lines.length !== again.lines.length) {
      throw new ReplayError(
        `${model.name}: the same schedule ran differently at step ${differs} (seed ${seed + run}): ` +
          `${first.lines[differs]} against ${again.lines[differs]}. ` +
          "Likely cause: a guard or a step uses randomness, time, or a variable outside the state. " +
          `Next: look at the step before it; token ${formatToken(first.actions.slice(0, differs))}.`,
      );
    }
  }
}

function traceOf(
  model: Model,
  scheduler: Scheduler,
  sink: EventSink | null,
): { actions: number[]; lines: string[] } {
  const state = new Uint8Array(model.stateBytes);
  const enabled = new Uint16Array(model.actionNames.length);
  const actions: number[] = [];
  const lines: string[] = [];
  model.initial(state);
  for (;;) {
    const count = model.enabled(state, enabled);
    lines.push(`${enabled.subarray(0, count).join(",")} in ${state.join(",")}`);
    if (count === 0) break;
    const action = scheduler.choose(enabled, count, actions.length);
    if (action === null) break;
    model.next(state, action, sink);
    actions.push(action);
  }
  return { actions, lines };
}

/**
 * Soundness of the reduction, checked and not believed: in every reachable state, a local action stays enabled when
 * another actor steps, keeps the others enabled, commutes with them, and changes nothing that `visible` distinguishes.
 * Returns how many pairs were looked at.
 */
export function checkLocalActions(graph: Graph, visible: (state: Uint8Array) => number): number {
  const { model } = graph;
  const enabled = new Uint16Array(model.actionNames.length);
  let pairs = 0;
  for (let index = 0; index < graph.expanded; index++) {
    const state = graph.state(index);
    const count = model.enabled(state, enabled);
    const actions = [...enabled.subarray(0, count)];
    for (const local of actions) {
      if (model.localActions[local] !== 1) continue;
      const after = stepped(model, state, local);
      if (visible(after) !== visible(state)) fail(model, local, local, "is seen by a property");
      for (const other of actions) {
        if (other === local) continue;
        pairs++;
        const otherFirst = stepped(model, state, other);
        if (!isEnabled(model, otherFirst, local)) fail(model, local, other, "is disabled by");
        if (!isEnabled(model, after, other)) fail(model, local, other, "disables");
        const one = stepped(model, otherFirst, local);
        const two = stepped(model, after, other);
        if (one.some((byte, at) => byte !== two[at])) fail(model, local, other, "does not commute with");
      }
    }
  }
  return pairs;
}

function stepped(model: Model, state: Uint8Array, action: number): Uint8Array {
  const copy = state.slice();
  model.next(copy, action, null);
  return copy;
}

function isEnabled(model: Model, state: Uint8Array, action: number): boolean {
  const enabled = new Uint16Array(model.actionNames.length);
  const count = model.enabled(state, enabled);
  return enabled.subarray(0, count).includes(action);
}

function fail(model: Model, local: number, other: number, what: string): never {
  throw new Error(
    `${model.name}: "${model.actionNames[local]}" is declared local but ${what} "${model.actionNames[other]}". ` +
      "Next: take `local` off that action, or the reduction may hide a counterexample.",
  );
}
