/**
 * The result of a case: what was planned, what came out, how often. Several runs of one case merge into one result.
 * Runs are compared by the text of their outcome, which has no figures.
 */
import {
  type Expectation,
  outcomeText,
  type RunResult,
  recordedStyle,
  severity,
  type Verdict,
  type VerdictKind,
} from "../../../language/src/index.ts";
import type { PlannedCase } from "./plan.ts";

/** How often a case came out like this. */
export type CaseOutcome = {
  /** `resultText` of the run. */
  readonly text: string;
  readonly verdict: VerdictKind;
  readonly count: number;
};

export type CaseResult = {
  readonly planned: PlannedCase;
  readonly verdict: Verdict;
  /** null: it was not run. */
  readonly result: RunResult | null;
  readonly expectation: Expectation | null;
  /** Of all runs of the case, the most frequent first; empty: it was not run. */
  readonly outcomes: readonly CaseOutcome[];
  /** All runs together. */
  readonly durationMs: number;
};

/** How often a case was run. */
export function runsOf({ outcomes }: Pick<CaseResult, "outcomes">): number {
  return outcomes.reduce((sum, { count }) => sum + count, 0);
}

/** The part of a run that is recorded, and compared between the runs of a case. */
export function resultText(result: RunResult): string {
  return result.kind === "evidence" ? outcomeText(result.evidence.observations, recordedStyle) : result.kind;
}

function mergeOutcomes(lists: readonly (readonly CaseOutcome[])[]): readonly CaseOutcome[] {
  const merged = new Map<string, CaseOutcome>();
  for (const outcome of lists.flat()) {
    const key = `${outcome.verdict} ${outcome.text}`;
    const count = (merged.get(key)?.count ?? 0) + outcome.count;
    merged.set(key, { ...outcome, count });
  }
  return [...merged.values()].sort((a, b) => b.count - a.count);
}

/** No outcome: the machine was too busy in that run, or its emulator erred. */
const noOutcome: ReadonlySet<string> = new Set<RunResult["kind"]>(["busy", "emulator-defect"]);

function mergedVerdict(worst: Verdict, outcomes: readonly CaseOutcome[]): Verdict {
  if (new Set(outcomes.map(({ text }) => text)).size < 2) return worst;
  const total = runsOf({ outcomes });
  const lost = runsOf({ outcomes: outcomes.filter(({ text }) => noOutcome.has(text)) });
  const seen = outcomes.filter(({ text }) => !noOutcome.has(text));
  if (worst.kind === "inconclusive" && noOutcome.has(worst.cause) && seen.length === 1) {
    return { ...worst, reason: `${worst.reason} (${lost} of ${total} runs; the others came out the same)` };
  }
  const list = outcomes.map(({ count, text }) => `${count} of ${total}: ${text}`).join(" | ");
  // A counterexample stands, however often it was not seen.
  if (worst.kind === "fail" || worst.kind === "xpass") {
    return { ...worst, reason: `${worst.reason} (outcomes differ: ${list})` };
  }
  return { kind: "inconclusive", cause: "unstable", reason: `outcomes differ: ${list}` };
}

/** Several runs are one larger sample; what was exhaustive or bounded in one run is so still. */
function sampledOver(result: RunResult, runs: number): RunResult {
  if (result.kind !== "evidence" || result.evidence.exhaustiveness.kind !== "sampled") return result;
  const exhaustiveness = { ...result.evidence.exhaustiveness, runs };
  return { ...result, evidence: { ...result.evidence, exhaustiveness } };
}

/**
 * Several runs of one case as one result: the gravest run represents it, the outcomes of all are counted, and runs
 * that differ are `inconclusive (unstable)`. Runs that did not happen (skip) give way to those that did.
 * @param results At least one.
 */
export function mergeRuns(results: readonly CaseResult[]): CaseResult {
  const ran = results.filter(({ verdict }) => verdict.kind !== "skip");
  const candidates = ran.length > 0 ? ran : results;
  const [first, ...others] = candidates;
  if (first === undefined) throw new Error("no runs to merge");
  if (others.length === 0) return first;
  const worst = others.reduce(
    (gravest, one) => (severity(one.verdict.kind) > severity(gravest.verdict.kind) ? one : gravest),
    first,
  );
  const outcomes = mergeOutcomes(candidates.map((one) => one.outcomes));
  const runs = runsOf({ outcomes });
  return {
    ...worst,
    result: worst.result === null ? null : sampledOver(worst.result, runs),
    verdict: mergedVerdict(worst.verdict, outcomes),
    outcomes,
    durationMs: candidates.reduce((sum, { durationMs }) => sum + durationMs, 0),
  };
}
