/** Results of cases for tests of the reports. */
import type { Evidence, Expectation, Scenario, Verdict } from "../../../language/src/index.ts";
import { proposalOf, scenarioWith } from "../../../language/test/support/cases.ts";
import { evidenceWith, expectationWith, natures } from "../../../language/test/support/evidence.ts";
import type { RecordedRun } from "../../src/report/decode.ts";
import { caseRecord, proposalRecord, runRecord, scenarioRecord } from "../../src/report/jsonl.ts";
import type { RunEnd, RunInfo } from "../../src/run/observer.ts";
import type { PlannedCase } from "../../src/run/plan.ts";
import type { CaseResult } from "../../src/run/result.ts";

export type ResultChanges = {
  readonly scenario?: Partial<Scenario>;
  readonly proposal?: string;
  readonly verdict?: Verdict;
  readonly evidence?: Evidence | null;
  readonly expectation?: Expectation | null;
};

/** An engine on this machine. */
export const executionOf = (
  engine: keyof typeof natures,
): Pick<PlannedCase, "engine" | "nature" | "machine"> => ({
  engine,
  nature: natures[engine],
  machine: "here",
});

export function resultWith(changes: ResultChanges = {}): CaseResult {
  const evidence = changes.evidence === undefined ? evidenceWith() : changes.evidence;
  const verdict = changes.verdict ?? { kind: "pass", reason: "as expected" };
  const isSkipped = verdict.kind === "skip";
  const proposal = proposalOf(changes.proposal ?? "efault-exit");
  const scenario = scenarioWith(changes.scenario ?? {});
  return {
    planned: {
      scenario,
      argument: scenario.id,
      proposal,
      ...executionOf(proposal.kvm === "none" ? "process" : "kvm"),
      support: isSkipped ? { kind: "no", reason: verdict.reason, fix: "mend it" } : { kind: "yes" },
    },
    verdict,
    result: isSkipped
      ? null
      : evidence === null
        ? { kind: "timeout", message: "too long" }
        : { kind: "evidence", evidence },
    expectation: changes.expectation === undefined ? expectationWith() : changes.expectation,
    outcomes: isSkipped ? [] : [{ text: "an outcome", verdict: verdict.kind, count: 1 }],
    durationMs: 12,
  };
}

export function infoWith(changes: Partial<RunInfo> = {}): RunInfo {
  return {
    version: "0.1.0",
    startedAt: new Date(0).toISOString(),
    kernel: "6.18.0",
    node: "v20.19.0",
    pageSize: 4096,
    kvmBackend: "kvm_amd",
    runDirectory: "/tmp/daxfault-x",
    fileSystem: "ext4",
    cases: 3,
    jobs: 2,
    timeoutMs: 20_000,
    repeat: 1,
    busy: 0,
    shard: null,
    attestations: [evidenceWith().attestation],
    ...changes,
  };
}

/** A run that came to its end. */
export function recordedWith(
  results: readonly CaseResult[],
  end: Partial<RunEnd> = {},
  info: Partial<RunInfo> = {},
): RecordedRun {
  return {
    info: infoWith({ cases: results.length, ...info }),
    scenarios: results.map(({ planned }) => planned.scenario),
    results,
    end: { interruptedBy: null, defects: [], durationMs: 1000, ...end },
  };
}

/** The lines that a run of these results writes, parsed again. */
export function linesOf({ info, results }: RecordedRun): readonly unknown[] {
  const proposals = new Map(results.map(({ planned }) => [planned.proposal.id, planned.proposal]));
  const scenarios = new Map(results.map(({ planned }) => [planned.scenario.id, planned.scenario]));
  return [
    runRecord(info),
    ...[...proposals.values()].map(proposalRecord),
    ...[...scenarios.values()].map(scenarioRecord),
    ...results.map(caseRecord),
  ].map((record) => JSON.parse(JSON.stringify(record)));
}
