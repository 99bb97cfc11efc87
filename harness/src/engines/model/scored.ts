/**
 * The scorecard's cases in the model: the scenarios that `daxfault run` decides, each explored to all its ends. For
 * `daxfault explore`, and for tests; `run` has the same cases among its own.
 */
import {
  type ExpectationTable,
  judge,
  type Proposal,
  type Scenario,
  type ScoredCase,
  scored,
} from "../../../../language/src/index.ts";
import { isAboutProposal } from "../../run/plan.ts";
import { engineRow } from "../registry.ts";
import { modelRun, modelSupports } from "./engine.ts";

export type ModelScoring = {
  readonly scenarios: readonly Scenario[];
  readonly expectations: ExpectationTable;
  /** Bounds the search of each case. */
  readonly maxStates?: number;
};

export type ModelCases = {
  readonly cases: readonly ScoredCase[];
  /** Scenarios of which the bound let no end be found. */
  readonly unended: readonly Scenario[];
};

/** The cases about the proposal that name a property and that the model can tell. */
export function modelCases(
  proposal: Proposal,
  { scenarios, expectations, maxStates }: ModelScoring,
): ModelCases {
  const { name: engine, nature } = engineRow("model");
  const unended: Scenario[] = [];
  const cases = scenarios.flatMap((scenario): ScoredCase[] => {
    if (scenario.properties.length === 0 || !isAboutProposal(scenario, proposal)) return [];
    if (modelSupports(scenario, proposal).kind === "no") return [];
    const result = modelRun(scenario, proposal, maxStates);
    if (result.kind !== "evidence") {
      unended.push(scenario);
      return [];
    }
    const expectation = expectations.find(scenario, proposal);
    const { evidence } = result;
    const asked = { scenario, proposal, engine, nature, machine: "here", expectation, result } as const;
    const verdict = judge({ ...asked, errata: [] });
    return [scored({ scenario, proposal, place: engine, nature, verdict, expectation, evidence })];
  });
  return { cases, unended };
}
