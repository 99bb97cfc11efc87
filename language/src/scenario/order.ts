/**
 * Which steps of a scenario come before which, in every run: by the order of an actor's own steps, and by signals. Not
 * here: what merely happens to come first. A signal that several steps raise orders nothing, nor does `stuck`.
 */
import { untilOf } from "./labels.ts";
import type { Scenario } from "./scenario.ts";

/** A step: its actor, and its position among the actor's steps. */
export type StepAt = { readonly actor: string; readonly index: number };

type Actors = Pick<Scenario, "actors">;

const keyOf = ({ actor, index }: StepAt): string => `${actor}/${index}`;

/** The one step that raises the signal; null where none does, or several. */
function raiserOf({ actors }: Actors, name: string): StepAt | null {
  const raisers = Object.entries(actors).flatMap(([actor, { steps }]) =>
    steps.flatMap((step, index) => (step.verb === "signal" && step.name === name ? [{ actor, index }] : [])),
  );
  return raisers.length === 1 ? (raisers[0] ?? null) : null;
}

/** The steps right before one. An access that is repeated until a signal ends behind it. */
function before(scenario: Actors, { actor, index }: StepAt): readonly StepAt[] {
  const step = scenario.actors[actor]?.steps[index];
  if (step === undefined) return [];
  const signal = step.verb === "await" ? step.name : untilOf(step);
  const raiser = signal === null ? null : raiserOf(scenario, signal);
  return [...(index > 0 ? [{ actor, index: index - 1 }] : []), ...(raiser === null ? [] : [raiser])];
}

/** Every step that comes before this one. */
export function stepsBefore(scenario: Actors, step: StepAt): readonly StepAt[] {
  const found = new Map<string, StepAt>();
  const open = [...before(scenario, step)];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    if (found.has(keyOf(next))) continue;
    found.set(keyOf(next), next);
    open.push(...before(scenario, next));
  }
  return [...found.values()];
}

/** Does `first` come before `second` in every run? */
export function isBefore(scenario: Actors, first: StepAt, second: StepAt): boolean {
  return stepsBefore(scenario, second).some((step) => keyOf(step) === keyOf(first));
}
