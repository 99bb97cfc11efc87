/**
 * `daxfault explore` without a scenario: the scorecard as the model alone decides it, by the scenarios and the functions
 * that `daxfault run` decides it by, each scenario explored to all its ends; with the way into each `no`.
 */
import {
  type Decision,
  decisionsOn,
  exitCodes,
  needsOf,
  needsText,
  type Proposal,
  properties,
  type ScoreCell,
  type ScoredCase,
  scoreCell,
} from "../../../language/src/index.ts";
import { comparedText, replayText } from "../engines/model/allowed.ts";
import { TIMER } from "../engines/model/engine.ts";
import { type ModelCases, modelCases } from "../engines/model/scored.ts";
import { visible } from "../report/encode.ts";
import { scorecardText } from "../report/scorecard.ts";
import type { Style } from "../report/style.ts";
import type { Catalogue } from "../run/catalogue.ts";
import { argumentOf, type NamedProposal } from "../run/plan.ts";
import type { ExploreLine } from "./lines/explore.ts";
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

/** The command that shows the way to the ending that decided. */
type Replay = (decision: Decision) => string | null;

function replayOf(named: NamedProposal, { scenarios }: Catalogue): Replay {
  const byId = new Map(scenarios.map((one) => [one.scenario.id, one]));
  return ({ ending, scored }) => {
    const scenario = byId.get(scored.scenario.id);
    if (scenario === undefined || ending === null || ending.token === null) return null;
    const path = { token: ending.token, timer: TIMER };
    return replayText(named.proposal.id, argumentOf(scenario, named), path);
  };
}

function writeCell(
  json: JsonOutput<ExploreLine>,
  { cell, decisions }: Decided,
  { cases, replay }: { readonly cases: readonly ScoredCase[]; readonly replay: Replay },
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
    replay: against === undefined ? null : replay(against),
  });
}

/** The scenarios in which the property does not hold, each with its outcome and the way there. */
function againstText({ cell, decisions }: Decided, replay: Replay): readonly string[] {
  return decisions.flatMap((decision) => {
    const { finding, ending, scored } = decision;
    if (finding !== "no" || ending === null) return [];
    return [
      `  ${cell.property} does not hold: ${scored.scenario.id}: ${comparedText(ending.outcome)}`,
      `    ${replay(decision) ?? ""}`,
    ];
  });
}

export type ScoreOptions = {
  readonly maxStates: number;
  readonly json: string | undefined;
  readonly style: Style;
};

function statesOf(cases: readonly ScoredCase[]): number {
  return cases.reduce(
    (sum, { exhaustiveness }) => sum + (exhaustiveness.kind === "sampled" ? 0 : exhaustiveness.states),
    0,
  );
}

/** Exit code 2 where a bound was met: then a cell may say less than it could. */
export function scoreCommand(
  chosen: readonly NamedProposal[],
  catalogue: Catalogue,
  { maxStates, json: target, style }: ScoreOptions,
): number {
  const scenarios = catalogue.scenarios.map(({ scenario }) => scenario);
  const { expectationOf } = catalogue;
  const json = openJson<ExploreLine>(target);
  const cells: ScoreCell[] = [];
  let isBounded = false;
  for (const named of chosen) {
    const { proposal } = named;
    const modelled = modelCases(proposal, { scenarios, expectationOf, maxStates });
    const { cases, unended } = modelled;
    const decided = decide(proposal, modelled);
    const replay = replayOf(named, catalogue);
    cells.push(...decided.map(({ cell }) => cell));
    isBounded ||= unended.length > 0 || cases.some(({ exhaustiveness }) => exhaustiveness.kind === "bounded");
    for (const one of decided) writeCell(json, one, { cases, replay });
    if (json.isStdout) continue;
    const size = `${cases.length} cases, ${statesOf(cases)} states`;
    console.log(`${style.bold(visible(proposal.id))}  ${visible(proposal.title)} [${size}]`);
    console.log(style.dim(`  needs ${needsText(needsOf(proposal))}`));
    for (const line of decided.flatMap((one) => againstText(one, replay))) console.log(visible(line));
  }
  const table = scorecardText({ cells, proposals: chosen.map(({ proposal }) => proposal) }, style);
  if (!json.isStdout && table !== null) console.log(`\n${table}`);
  return isBounded ? exitCodes.inconclusive : exitCodes.ok;
}
