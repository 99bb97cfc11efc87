/**
 * The result of a case: what was planned, what came out, how often. Several runs of one case merge into one result.
 * An outcome is compared by its text without figures: two runs had the same outcome if their texts are equal.
 */
import {
  accessText,
  type Evidence,
  type Expectation,
  hostResultText,
  type RunResult,
  severity,
  type Verdict,
  type VerdictKind,
  vmmText,
} from "../../../language/src/index.ts";
import type { PlannedCase } from "./plan.ts";

/** How often a case came out like this. */
export type CaseOutcome = {
  /** `outcomeText` of the run. */
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

/** `value(0x5)` -> `value`. What differs from run to run by nature is no difference. */
function bare(word: string): string {
  return word.split("(")[0] ?? word;
}

function sortedEntries<Value>(
  record: Readonly<Record<string, Value>>,
): readonly (readonly [string, Value])[] {
  return Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1));
}

function evidenceText({ observations }: Evidence): string {
  const { accesses, host, vmm, guestKernel, bystanders } = observations;
  const parts: string[] = [];
  for (const [actor, labels] of sortedEntries(accesses)) {
    for (const [label, access] of sortedEntries(labels)) {
      // The code of a SIGBUS is part of the outcome, the bytes of a value are not.
      const text = access.kind === "sigbus" ? accessText(access) : bare(accessText(access));
      parts.push(`${actor}.${label} ${text}`);
    }
  }
  for (const [actor, labels] of sortedEntries(host)) {
    for (const [label, step] of sortedEntries(labels)) {
      const text = step.kind === "denied" ? hostResultText(step) : bare(hostResultText(step));
      parts.push(`${actor}.${label} ${text}`);
    }
  }
  for (const [name, state] of sortedEntries(bystanders)) parts.push(`${name} ${state}`);
  if (vmm !== null) parts.push(`VMM ${vmm.map(vmmText).join(", ")}`);
  if (guestKernel !== null) parts.push(`guest kernel ${guestKernel}`);
  return parts.join("; ");
}

export function outcomeText(result: RunResult): string {
  return result.kind === "evidence" ? evidenceText(result.evidence) : result.kind;
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

function mergedVerdict(worst: Verdict, outcomes: readonly CaseOutcome[]): Verdict {
  if (new Set(outcomes.map(({ text }) => text)).size < 2) return worst;
  const total = outcomes.reduce((sum, { count }) => sum + count, 0);
  const list = outcomes.map(({ count, text }) => `${count} of ${total}: ${text}`).join(" | ");
  // A counterexample stands, however often it was not seen.
  if (worst.kind === "fail" || worst.kind === "xpass") {
    return { kind: worst.kind, reason: `${worst.reason} (outcomes differ: ${list})` };
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
 * Several runs of one case as one result: the gravest run speaks for it, the outcomes of all are counted, and runs
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
  const runs = outcomes.reduce((sum, { count }) => sum + count, 0);
  return {
    ...worst,
    result: worst.result === null ? null : sampledOver(worst.result, runs),
    verdict: mergedVerdict(worst.verdict, outcomes),
    outcomes,
    durationMs: candidates.reduce((sum, { durationMs }) => sum + durationMs, 0),
  };
}
