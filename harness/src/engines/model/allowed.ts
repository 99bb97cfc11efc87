/**
 * What the model allows for a case: the set of final observations over all interleavings, and whether a given
 * observation is one of them. `observed(real) within allowed(model)`, else one of the two is wrong.
 */
import {
  explore,
  guestModel,
  type ModelCase,
  modelCase,
  outcomesOf,
} from "../../../../kvm-model/src/index.ts";
import type { Proposal, Scenario } from "../../../../language/src/index.ts";
import { type Backend, stepWords, translate, type Words, wordsOf } from "./translate.ts";

export type AllowedEnd = {
  readonly words: Words;
  /** The words of `words.steps` with their particulars: `sigbus(BUS_ADRERR)`. */
  readonly full: Readonly<Record<string, string>>;
  readonly token: string;
  readonly timer: boolean;
};

export type Allowed =
  | {
      readonly kind: "ends";
      readonly ends: readonly AllowedEnd[];
      readonly states: number;
      /** What cut the search off, or null: then nothing else is allowed. */
      readonly boundedBy: string | null;
    }
  | { readonly kind: "unsupported"; readonly reason: string };

const STATES_MAX = 2_000_000;

export type AllowedOptions = {
  readonly maxStates?: number;
  /** Guests with a timer, without, or (if not given) both. */
  readonly timers?: readonly boolean[];
  /** Changes to the case: mutations. */
  readonly more?: Partial<ModelCase>;
};

/** Guests with and without a timer are both allowed: a scenario does not say whether its guest has one. */
export function allowedEnds(
  scenario: Scenario,
  proposal: Proposal,
  backend: Backend,
  options: AllowedOptions = {},
): Allowed {
  const { maxStates = STATES_MAX } = options;
  const ends = new Map<string, AllowedEnd>();
  let states = 0;
  let boundedBy: string | null = null;
  for (const timer of options.timers ?? [true, false]) {
    const translation = translate(scenario, proposal, backend, timer);
    if (translation.kind === "no") return { kind: "unsupported", reason: translation.reason };
    const { model, ctx } = guestModel(modelCase({ ...translation.case, ...options.more }));
    const graph = explore(model, { edges: true, maxStates });
    states += graph.states;
    boundedBy ??= graph.boundedBy;
    for (const outcome of outcomesOf(graph, ctx)) {
      const words = wordsOf(outcome, translation.plan);
      const key = JSON.stringify(words);
      const full = stepWords(outcome, translation.plan);
      if (!ends.has(key)) ends.set(key, { words, full, token: outcome.token, timer });
    }
  }
  return { kind: "ends", ends: [...ends.values()], states, boundedBy };
}

/** One line: `victim.load#2 hung, host.truncate#1 done; VMM looping; guest alive; bystander starved`. */
export function wordsText(words: Words): string {
  const steps = Object.entries(words.steps).map(([label, word]) => `${label} ${word}`);
  const bystanders = Object.entries(words.bystanders).map(([name, word]) => `${name} ${word}`);
  const vmm = words.vmm === null ? [] : [`VMM ${words.vmm}`, `guest ${words.guestKernel}`];
  return [steps.join(", "), ...vmm, ...bystanders].filter((part) => part !== "").join("; ");
}

export function isSame(a: Words, b: Words): boolean {
  return wordsText(sorted(a)) === wordsText(sorted(b));
}

function sorted(words: Words): Words {
  const byName = (record: Readonly<Record<string, string>>): Record<string, string> =>
    Object.fromEntries(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)));
  return { ...words, steps: byName(words.steps), bystanders: byName(words.bystanders) };
}
