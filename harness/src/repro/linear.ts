/**
 * A scenario as one order of steps: what a program without actors can do one after the other. Follows the signals:
 * the guest goes on until it has to wait, then the host does what it can, and so on.
 */
import {
  type AccessStep,
  accessesOf,
  guestActors,
  type HostAction,
  type HostStep,
  hostActors,
  isAccess,
  isAction,
  isBystander,
  type Scenario,
  STUCK,
  untilOf,
} from "../../../language/src/index.ts";

export type Linear = {
  /** The guest's accesses, in order. */
  readonly accesses: readonly AccessStep[];
  /** By number of accesses done before: what the host then does. */
  readonly host: ReadonlyMap<number, readonly HostAction[]>;
  /** What waits for the vCPU to be stuck, or for something behind that: not part of the order. */
  readonly leftOut: readonly string[];
};

export type LinearResult =
  | { readonly kind: "linear"; readonly linear: Linear }
  | { readonly kind: "none"; readonly reason: string };

/** One actor and how far it has come. */
type Cursor<Step> = { readonly name: string; readonly steps: readonly Step[]; next: number };

/** Takes steps until one that awaits something not yet raised. Returns those that do something. */
function advance<Step extends { readonly verb: string }>(
  cursor: Cursor<Step>,
  raised: Set<string>,
): readonly Step[] {
  const done: Step[] = [];
  while (cursor.next < cursor.steps.length) {
    const step = cursor.steps[cursor.next];
    if (step === undefined) break;
    const name = "name" in step && typeof step.name === "string" ? step.name : "";
    if (step.verb === "await" && !raised.has(name)) break;
    if (step.verb === "signal") raised.add(name);
    else if (step.verb !== "await") done.push(step);
    cursor.next += 1;
  }
  return done;
}

function leftOver(cursors: readonly Cursor<{ readonly verb: string }>[]): readonly string[] {
  return cursors.flatMap(({ name, steps, next }) => {
    const count = steps.length - next;
    return count === 0 ? [] : [`${name}: its last ${count === 1 ? "step" : `${count} steps`}`];
  });
}

/** The order, or why there is none: several tasks that touch the window have no one order. */
export function linearize(scenario: Scenario): LinearResult {
  const tasks = guestActors(scenario).filter(([, actor]) => accessesOf(actor).length > 0);
  const [victim, second] = tasks;
  if (victim === undefined) return { kind: "none", reason: "nobody in the guest touches the window" };
  if (second !== undefined) {
    return { kind: "none", reason: `${tasks.length} tasks touch the window, in no one order` };
  }
  const [name, actor] = victim;
  if (actor.in === "guest-kernel") return { kind: "none", reason: `${name} is the guest's kernel` };
  if (actor.nested) {
    return { kind: "none", reason: `${name} runs in a guest's guest: one program is no host and its guest` };
  }
  if (actor.steps.some((step) => untilOf(step) !== null)) {
    return { kind: "none", reason: `${name} repeats an access until somebody else gets on` };
  }
  if (actor.steps.some((step) => "actor" in step)) {
    return { kind: "none", reason: `${name} kills another task` };
  }
  const guest = { name, steps: actor.steps, next: 0 };
  const hosts: Cursor<HostStep>[] = hostActors(scenario).map(([host, { steps }]) => ({
    name: host,
    steps,
    next: 0,
  }));
  const raised = new Set<string>();
  const accesses: AccessStep[] = [];
  const host = new Map<number, readonly HostAction[]>();
  // Every round takes at least one step, of which there are at most so many.
  const rounds = guest.steps.length + hosts.reduce((sum, { steps }) => sum + steps.length, 1);
  for (let round = 0; round < rounds; round += 1) {
    const before = guest.next + hosts.reduce((sum, { next }) => sum + next, 0);
    accesses.push(...advance(guest, raised).filter(isAccess));
    const actions = hosts.flatMap((cursor) => advance(cursor, raised)).filter(isAction);
    if (actions.length > 0) host.set(accesses.length, [...(host.get(accesses.length) ?? []), ...actions]);
    if (guest.next + hosts.reduce((sum, { next }) => sum + next, 0) === before) break;
  }
  if (guest.next < guest.steps.length) {
    return { kind: "none", reason: `${name} waits for something that comes only after it is stuck` };
  }
  const others = guestActors(scenario)
    .filter(([, one]) => isBystander(one))
    .map(([one]) => `${one}: counts, and is not needed`);
  const vmms = Object.entries(scenario.actors)
    .filter(([, one]) => one.in === "vmm")
    .map(([one]) => `${one}: acts only on a vCPU that is ${STUCK}`);
  return { kind: "linear", linear: { accesses, host, leftOut: [...leftOver(hosts), ...others, ...vmms] } };
}
