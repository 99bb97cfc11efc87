/**
 * The outcomes that the model allows for a case: those of all interleavings. `observed(real) within allowed(model)`, else one of
 * the two is wrong. Here is also what that comparison leaves out, and how an outcome is printed with it.
 */
import {
  explore,
  guestModel,
  type ModelCase,
  modelCase,
  outcomesOf,
} from "../../../../kvm-model/src/index.ts";
import {
  coarsen,
  comparedStyle,
  type EndFacts,
  modelledOnly,
  type Outcome,
  type OutcomeWords,
  outcomeText,
  outcomeWords,
  type Proposal,
  type Scenario,
  sameOutcome,
} from "../../../../language/src/index.ts";
import { type Backend, relabel, translate } from "./translate.ts";

/** A path of the model, and whether its guest has a timer. */
export type ModelPath = { readonly token: string; readonly timer: boolean };

/**
 * The command that shows a path step by step.
 * @param argument names the scenario: an id or a file, and the options that say where it and the proposal come from
 */
export function replayText(proposal: string, argument: string, { token, timer }: ModelPath): string {
  const replay = `daxfault explore ${proposal} --scenario ${argument} --replay ${token}`;
  return timer ? replay : `${replay} --no-timer`;
}

/** One of the outcomes that compare alike stands for all of them. */
export type AllowedEnd = ModelPath & { readonly outcome: Outcome; readonly facts: EndFacts };

export type Allowed =
  | {
      readonly kind: "ends";
      readonly ends: readonly AllowedEnd[];
      readonly states: number;
      /** The bound that cut the search off, or null: then nothing else is allowed. */
      readonly boundedBy: string | null;
    }
  | { readonly kind: "unsupported"; readonly reason: string };

const STATES_MAX = 2_000_000;

export type AllowedOptions = {
  readonly maxStates?: number;
  /** Guests with a timer, without, or (if not given) both. */
  readonly timers?: readonly boolean[];
  /** Outcomes that compare alike are two ends if their facts differ: what properties need. */
  readonly byFacts?: boolean;
  /** Changes to the case: mutations. */
  readonly more?: Partial<ModelCase>;
};

/** Guests with and without a timer are both allowed: a scenario does not state whether its guest has one. */
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
    const translation = translate(scenario, proposal, { backend, timer });
    if (translation.kind === "no") return { kind: "unsupported", reason: translation.reason };
    const { model, ctx } = guestModel(modelCase({ ...translation.case, ...options.more }));
    const graph = explore(model, { edges: true, maxStates });
    states += graph.states;
    boundedBy ??= graph.boundedBy;
    for (const { outcome, facts, token } of outcomesOf(graph, ctx)) {
      const relabelled = relabel(outcome, translation.plan);
      const text = comparedText(relabelled);
      const key = options.byFacts === true ? JSON.stringify([text, facts]) : text;
      if (!ends.has(key)) ends.set(key, { outcome: relabelled, facts, token, timer });
    }
  }
  return { kind: "ends", ends: [...ends.values()], states, boundedBy };
}

/** The compared part of an outcome, on one line. */
export function comparedText(outcome: Outcome): string {
  return outcomeText(coarsen(outcome, modelledOnly), comparedStyle);
}

/** The compared part of an outcome, word by word. */
export function comparedWords(outcome: Outcome): OutcomeWords {
  return outcomeWords(coarsen(outcome, modelledOnly), comparedStyle);
}

export function isEnd(end: AllowedEnd, observed: Outcome): boolean {
  return sameOutcome(end.outcome, observed, modelledOnly);
}
