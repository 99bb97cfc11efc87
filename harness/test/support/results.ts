/** Results of cases for tests of the reports. */
import type { Evidence } from "../../src/evidence.ts";
import type { Expectation } from "../../src/kinds.ts";
import type { CaseResult } from "../../src/run/runner.ts";
import type { Scenario } from "../../src/scenario/scenario.ts";
import type { Verdict } from "../../src/verdict.ts";
import { proposalOf, scenarioWith } from "./cases.ts";
import { evidenceWith, expectationWith } from "./evidence.ts";

export type ResultChanges = {
  readonly scenario?: Partial<Scenario>;
  readonly proposal?: string;
  readonly verdict?: Verdict;
  readonly evidence?: Evidence | null;
  readonly expectation?: Expectation | null;
};

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
      engine: proposal.kvm === "none" ? "process" : "kvm",
      support: isSkipped ? { kind: "no", reason: verdict.reason, fix: "mend it" } : { kind: "yes" },
    },
    verdict,
    result: isSkipped
      ? null
      : evidence === null
        ? { kind: "timeout", message: "too long" }
        : { kind: "evidence", evidence },
    expectation: changes.expectation === undefined ? expectationWith() : changes.expectation,
    durationMs: 12,
  };
}
