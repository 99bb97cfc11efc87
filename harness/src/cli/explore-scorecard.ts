/**
 * `daxfault explore` without a scenario: the scorecard as the model alone decides it, by the scenarios and the functions
 * that `daxfault run` decides it by, each scenario explored to all its ends; with the way into each `no`.
 */
import {
  type Decision,
  decisionsOn,
  exitCodes,
  type Proposal,
  properties,
  type ScoreCell,
  type ScoredCase,
  scoreCell,
} from "../../../language/src/index.ts";
import { comparedText } from "../engines/model/allowed.ts";
import { type ModelCases, modelCases } from "../engines/model/scored.ts";
import { loadExpectations, loadScenarios } from "../fixtures.ts";
import { scorecardText } from "../report/scorecard.ts";
import type { Style } from "../report/style.ts";
import type { ExploreLine } from "./lines.ts";
import { type JsonOutput, openJson } from "./output.ts";

/** A cell, and the cases behind it. */
type Decided = { readonly cell: ScoreCell; readonly decisions: readonly Decision[] };

function decide(proposal: Proposal, { cases, unended }: ModelCases): readonly Decided[] {
  return properties
    .filter((property) => property.decide !== null)
    .map(({ id }) => ({
      cell: scoreCell(proposal.id, id, { cases, unended, documented: [] }),
      decisions: decisionsOn(id, cases),
    }));
}

/** States of all cases that name the property, decided or not. */
function searched(
  property: string,
  cases: readonly ScoredCase[],
): { states: number; boundedBy: string | null } {
  let states = 0;
  let boundedBy: string | null = null;
  for (const { scenario, exhaustiveness } of cases) {
    if (!scenario.properties.includes(property)) continue;
    if (exhaustiveness.kind === "sampled") continue;
    states += exhaustiveness.states;
    if (exhaustiveness.kind === "bounded") boundedBy = exhaustiveness.by;
  }
  return { states, boundedBy };
}

function writeCell(
  json: JsonOutput<ExploreLine>,
  { cell, decisions }: Decided,
  cases: readonly ScoredCase[],
): void {
  const { states, boundedBy } = searched(cell.property, cases);
  const against = decisions.find(({ finding }) => finding === "no");
  const ending = against?.ending ?? null;
  json.write({
    type: "property",
    proposal: cell.proposal,
    scenario: (against === undefined ? decisions : [against])
      .map(({ scored }) => scored.scenario.id)
      .join(","),
    property: cell.property,
    holds: cell.holds,
    exhaustiveness:
      boundedBy === null ? { kind: "exhaustive", states } : { kind: "bounded", by: boundedBy, states },
    states,
    because: ending === null ? null : comparedText(ending.outcome),
    replay: ending?.replay ?? null,
  });
}

/** The scenarios in which the property does not hold, each with its outcome and the way there. */
function againstText({ cell, decisions }: Decided): readonly string[] {
  return decisions.flatMap(({ finding, ending, scored }) =>
    finding === "no" && ending !== null
      ? [
          `  ${cell.property} does not hold: ${scored.scenario.id}: ${comparedText(ending.outcome)}`,
          `    ${ending.replay ?? ""}`,
        ]
      : [],
  );
}

export type ScoreOptions = { readonly maxStates: number; readonly json: string | undefined };

/** Exit code 2 where a bound was met: then a cell may say less than it could. */
export function scoreCommand(
  chosen: readonly Proposal[],
  { maxStates, json: target }: ScoreOptions,
  style: Style,
): number {
  const scoring = { scenarios: loadScenarios(), expectations: loadExpectations(), maxStates };
  const json = openJson<ExploreLine>(target);
  const cells: ScoreCell[] = [];
  let isBounded = false;
  try {
    for (const proposal of chosen) {
      const modelled = modelCases(proposal, scoring);
      const { cases, unended } = modelled;
      const decided = decide(proposal, modelled);
      cells.push(...decided.map(({ cell }) => cell));
      isBounded ||=
        unended.length > 0 || cases.some(({ exhaustiveness }) => exhaustiveness.kind === "bounded");
      for (const one of decided) writeCell(json, one, cases);
      if (json.isStdout) continue;
      const states = cases.reduce(
        (sum, { exhaustiveness }) => sum + (exhaustiveness.kind === "sampled" ? 0 : exhaustiveness.states),
        0,
      );
      console.log(`${style.bold(proposal.id)}  ${proposal.title} [${cases.length} cases, ${states} states]`);
      for (const line of decided.flatMap(againstText)) console.log(line);
    }
    const table = scorecardText(cells, style);
    if (!json.isStdout && table !== null) console.log(`\n${table}`);
    return isBounded ? exitCodes.inconclusive : exitCodes.ok;
  } finally {
    json.close();
  }
}
