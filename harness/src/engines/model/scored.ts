/**
 * The scorecard's cases in the model: the scenarios that `daxfault run` decides, each explored to all its ends. For
 * `daxfault explore`, documents and tests; `run` has the same cases among its own.
 */
import {
  judge,
  type Proposal,
  type Scenario,
  type ScoredCase,
  scored,
} from "../../../../language/src/index.ts";
import type { Catalogue } from "../../run/catalogue.ts";
import { isAboutProposal } from "../../run/plan.ts";
import { engineRow } from "../registry.ts";
import { modelRun, modelSupports } from "./engine.ts";

export type ModelScoring = {
  readonly scenarios: readonly Scenario[];
  readonly expectationOf: Catalogue["expectationOf"];
  /** Bounds the search of each case. */
  readonly maxStates?: number;
};

export type ModelCases = {
  readonly cases: readonly ScoredCase[];
  /** Scenarios of which the bound let no end be found. */
  readonly unended: readonly Scenario[];
};

/**
 * The case as the scorecard takes it. "no end": a bound cut the search off before one was found. null: not for the model,
 * or not about the proposal.
 */
function scoreCase(
  scenario: Scenario,
  proposal: Proposal,
  { expectationOf, maxStates }: ModelScoring,
): ScoredCase | "no end" | null {
  const { name: engine, nature } = engineRow("model");
  if (!isAboutProposal(scenario, proposal) || modelSupports(scenario, proposal, maxStates).kind === "no")
    return null;
  const result = modelRun(scenario, proposal, maxStates);
  if (result.kind !== "evidence") return "no end";
  const expectation = expectationOf({ scenario, proposal });
  const { evidence } = result;
  const asked = { scenario, proposal, engine, nature, machine: "here", expectation, result } as const;
  const verdict = judge({ ...asked, errata: [] });
  return scored({ scenario, proposal, place: engine, nature, verdict, expectation, evidence });
}

/** One case; null where the model has none. */
export function modelCaseOf(
  scenario: Scenario,
  proposal: Proposal,
  scoring: ModelScoring,
): ScoredCase | null {
  const found = scoreCase(scenario, proposal, scoring);
  return found === "no end" ? null : found;
}

/** The cases about the proposal that name a property and that the model can tell. */
export function modelCases(proposal: Proposal, scoring: ModelScoring): ModelCases {
  const unended: Scenario[] = [];
  const cases: ScoredCase[] = [];
  for (const scenario of scoring.scenarios) {
    if (scenario.properties.length === 0) continue;
    const found = scoreCase(scenario, proposal, scoring);
    if (found === "no end") unended.push(scenario);
    else if (found !== null) cases.push(found);
  }
  return { cases, unended };
}
