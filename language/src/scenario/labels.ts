/** How steps are called in witnesses, expectations and observations: `load#2` is an actor's second load. */
import { type AccessStep, type GuestStep, guestVerbs, isAccess, isLinuxCall } from "./guest-verbs.ts";
import { actOf, type HostAction, isAction } from "./host-verbs.ts";
import type { Actor, Scenario } from "./scenario.ts";

export type Labelled<Step> = {
  readonly label: string;
  readonly step: Step;
  /** Position in the actor's list of steps. */
  readonly index: number;
};

export type GuestActor = Extract<Actor, { in: "guest-task" | "guest-kernel" }>;
export type HostActor = Extract<Actor, { in: "host-process" }>;

function labelled<Step extends { readonly verb: string }, Wanted extends Step>(
  steps: readonly Step[],
  wanted: (step: Step) => step is Wanted,
): readonly Labelled<Wanted>[] {
  const seen = new Map<string, number>();
  const result: Labelled<Wanted>[] = [];
  for (const [index, step] of steps.entries()) {
    if (!wanted(step)) continue;
    const count = (seen.get(step.verb) ?? 0) + 1;
    seen.set(step.verb, count);
    result.push({ label: `${step.verb}#${count}`, step, index });
  }
  return result;
}

/** The steps of a guest actor that touch the window. */
export function accessesOf(actor: GuestActor): readonly Labelled<AccessStep>[] {
  return labelled(actor.steps, isAccess);
}

/** The labels of a list's accesses by position. */
export function labelledAccesses(steps: readonly GuestStep[]): ReadonlyMap<number, string> {
  return new Map(labelled(steps, isAccess).map(({ label, index }) => [index, label]));
}

/** The steps of a host actor that do something to the file. */
export function actionsOf(actor: HostActor): readonly Labelled<HostAction>[] {
  return labelled(actor.steps, isAction);
}

export function guestActors(scenario: Pick<Scenario, "actors">): readonly (readonly [string, GuestActor])[] {
  const result: (readonly [string, GuestActor])[] = [];
  for (const [name, actor] of Object.entries(scenario.actors)) {
    if (actor.in === "guest-task" || actor.in === "guest-kernel") result.push([name, actor]);
  }
  return result;
}

/** Is a task that of a guest's guest? */
export function isNested(scenario: Pick<Scenario, "actors">): boolean {
  return guestActors(scenario).some(([, actor]) => actor.in === "guest-task" && actor.nested === true);
}

/** Those of all guest actors. */
export function allAccesses(scenario: Pick<Scenario, "actors">): readonly AccessStep[] {
  return guestActors(scenario).flatMap(([, { steps }]) => steps.filter(isAccess));
}

/** The first step that is a system call of Linux alone, `victim: fsync`; null: there is none. */
export function linuxCallOf(scenario: Pick<Scenario, "actors">): string | null {
  for (const [name, { steps }] of guestActors(scenario)) {
    const call = steps.find(isLinuxCall);
    if (call !== undefined) return `${name}: ${call.verb}`;
  }
  return null;
}

export function hostActors(scenario: Pick<Scenario, "actors">): readonly (readonly [string, HostActor])[] {
  const result: (readonly [string, HostActor])[] = [];
  for (const [name, actor] of Object.entries(scenario.actors)) {
    if (actor.in === "host-process") result.push([name, actor]);
  }
  return result;
}

/** Has it the file open before it is mapped? */
export function opensEarly({ steps: [first] }: HostActor): boolean {
  return first !== undefined && isAction(first) && actOf(first).descriptor === "opens";
}

/** Is our FUSE mount part of this scenario: under the window, or in the hands of a host actor? */
export function usesMount(scenario: Pick<Scenario, "actors" | "backing">): boolean {
  return (
    scenario.backing.mount !== undefined ||
    hostActors(scenario).some(([, actor]) => actor.through === "mount")
  );
}

/** Does this actor do nothing but count at its end? */
export function isBystander(actor: GuestActor): boolean {
  const last = actor.steps.at(-1);
  return last !== undefined && guestVerbs[last.verb].endless === true;
}

/** The signal that ends a step's repetition, or null. */
export function untilOf(step: Actor["steps"][number]): string | null {
  return "until" in step ? (step.until ?? null) : null;
}

/** The vCPU that runs an actor. */
export function cpuOf(actor: GuestActor): number {
  return actor.cpu ?? 0;
}

/** The signal names that the actors raise or wait for, in order of first use. */
export function signalNames(scenario: Pick<Scenario, "actors">): readonly string[] {
  const names = new Set<string>();
  for (const actor of Object.values(scenario.actors)) {
    for (const step of actor.steps) {
      if (step.verb === "signal" || step.verb === "await") names.add(step.name);
      const until = untilOf(step);
      if (until !== null) names.add(until);
    }
  }
  return [...names];
}
