/**
 * The scorecard: which properties hold of which proposal. One function a property decides it, for real runs and for every
 * ending that the model allows; a cell says which of the two decided it, or the document that it was read from.
 * Where a real run and the model contradict each other, one of them is wrong: the cell has both, and no run is green.
 */
import type { EngineNature, Evidence, Exhaustiveness } from "../evidence.ts";
import type { Proposal } from "../proposal.ts";
import type { Scenario } from "../scenario/scenario.ts";
import type { Verdict, VerdictKind } from "../verdict.ts";
import { type Ending, endingsOf } from "./ending.ts";
import type { DocumentedCell, Expectation } from "./expectations.ts";
import { missingWitnesses } from "./judge.ts";
import { type CaseFinding, type Finding, findingOf, type Property, properties } from "./properties.ts";

export const holdsWords = ["yes", "no", "partly", "unknown"] as const;
export type Holds = (typeof holdsWords)[number];

/** What decided a cell: `both`, where the model's cases change the word that the real ones have. */
export const deciderWords = ["real", "model", "both", "document"] as const;
export type DecidedBy = (typeof deciderWords)[number];

/** The cases of one kind, real or modelled, that decided a cell. */
export type Share = {
  readonly holds: Exclude<Holds, "unknown">;
  readonly cases: number;
  /** Of real ones: engine and kernel; of the model: `model`. */
  readonly places: readonly string[];
  /** Was every ending of every case looked at? Never of real runs. */
  readonly exhaustive: boolean;
};

/** A case in which a real run shows what the model excludes. */
export type Contradiction = {
  readonly scenario: string;
  readonly place: string;
  readonly real: "yes" | "no";
  readonly model: "yes" | "no";
};

export type ScoreCell = {
  readonly proposal: string;
  readonly property: string;
  readonly holds: Holds;
  /** null: nothing did. */
  readonly by: DecidedBy | null;
  readonly real: Share | null;
  readonly model: Share | null;
  readonly contradictions: readonly Contradiction[];
  /** The measured value behind the word: the host's longest call, the rounds of a race that were lost; null: there is none. */
  readonly figure: string | null;
  /** Of a document: its name and place. */
  readonly source: string | null;
};

export type ScoredCase = {
  readonly scenario: Scenario;
  readonly proposal: Proposal;
  /** Engine and machine, with the kernel where it is real. */
  readonly place: string;
  readonly nature: EngineNature;
  readonly verdict: VerdictKind;
  /** Nothing was expected of it, and all its witnesses were seen: inconclusive as a test, but what it shows counts. */
  readonly isWithoutExpectation?: boolean;
  /** At least one. */
  readonly endings: readonly Ending[];
  readonly exhaustiveness: Exhaustiveness;
};

export type JudgedCase = Pick<ScoredCase, "scenario" | "proposal" | "place" | "nature"> & {
  readonly evidence: Evidence;
  readonly verdict: Verdict;
  readonly expectation: Expectation | null;
};

/** The case as the scorecard takes it. */
export function scored({ verdict, expectation, evidence, ...rest }: JudgedCase): ScoredCase {
  const { scenario, nature } = rest;
  const isVacuous = verdict.kind === "inconclusive" && verdict.cause === "vacuous";
  const isWithoutExpectation =
    isVacuous && expectation === null && missingWitnesses(scenario, evidence, nature).length === 0;
  return {
    ...rest,
    verdict: verdict.kind,
    isWithoutExpectation,
    endings: endingsOf(evidence, nature),
    exhaustiveness: evidence.exhaustiveness,
  };
}

/** Rounds of a race against a guard, beside the cases: how many, and in how many the guest met a lost page. */
export type RacedRounds = {
  readonly proposal: string;
  readonly rounds: number;
  readonly lost: number;
};

/** One case's answer for a property. */
export type Decision = Pick<CaseFinding, "possible"> & {
  readonly finding: "yes" | "no";
  readonly ending: Ending | null;
  readonly scored: ScoredCase;
};

/** Evidence that proves nothing decides nothing, nor does a peculiarity of one backend (errata) speak for a proposal. */
function decides({ verdict, isWithoutExpectation }: ScoredCase): boolean {
  switch (verdict) {
    case "pass":
    case "fail":
    case "xpass":
      return true;
    case "inconclusive":
      return isWithoutExpectation === true;
    case "xfail":
    case "skip":
      return false;
  }
}

/** A search that was cut off before it found what decides by itself: a counterexample, or an example of a `some`. */
function isCutOff({ exhaustiveness }: ScoredCase, { quantifier }: Property, finding: Finding): boolean {
  return finding !== (quantifier === "every" ? "no" : "yes") && exhaustiveness.kind === "bounded";
}

function decisionOf(property: Property, scored: ScoredCase): Decision | null {
  const { scenario, proposal, endings } = scored;
  if (!decides(scored) || !scenario.properties.includes(property.id)) return null;
  const { finding, possible, ending } = findingOf(property, {
    scenario,
    proposal,
    endings,
  });
  if (finding === "unknown" || isCutOff(scored, property, finding)) return null;
  return { finding, possible, ending, scored };
}

/** The answer of those cases that decide the property. */
export function decisionsOn(propertyId: string, cases: readonly ScoredCase[]): readonly Decision[] {
  const property = properties.find(({ id }) => id === propertyId);
  if (property === undefined) return [];
  return cases.flatMap((scored) => decisionOf(property, scored) ?? []);
}

function merge(words: readonly ("yes" | "no" | "partly")[]): Holds {
  const yes = words.includes("yes");
  const no = words.includes("no");
  if (words.includes("partly") || (yes && no)) return "partly";
  if (yes) return "yes";
  return no ? "no" : "unknown";
}

/** Does a case of the model name the property whose search was cut off? Then no yes is the last word. */
function isOpen(property: string, cases: readonly ScoredCase[]): boolean {
  return cases.some(
    (scored) => scored.scenario.properties.includes(property) && scored.exhaustiveness.kind === "bounded",
  );
}

function shareOf(decisions: readonly Decision[], hasOpenCases = false): Share | null {
  const holds = merge(decisions.map(({ finding }) => finding));
  if (holds === "unknown" || (holds === "yes" && hasOpenCases)) return null;
  return {
    holds,
    cases: decisions.length,
    places: [...new Set(decisions.map(({ scored }) => scored.place))].sort(),
    exhaustive: decisions.every(({ scored }) => scored.exhaustiveness.kind === "exhaustive"),
  };
}

/** A race is one more real case: lost once is no. */
function withRaces(share: Share | null, { rounds, lost }: RacedRounds): Share {
  const word = lost > 0 ? "no" : "yes";
  return {
    // "Never" has one answer: a race that was lost is no part of it.
    holds: word === "no" || share === null ? word : share.holds,
    cases: (share?.cases ?? 0) + 1,
    places: [...(share?.places ?? []), `race of ${rounds} rounds`],
    exhaustive: false,
  };
}

/** Real runs that show what every ending of the model for the same case excludes. */
function contradictionsOf(
  real: readonly Decision[],
  modelled: readonly Decision[],
): readonly Contradiction[] {
  return real.flatMap(({ finding, scored }) => {
    const model = modelled.find((one) => one.scored.scenario.id === scored.scenario.id);
    if (model === undefined || model.possible.has(finding)) return [];
    if (model.scored.exhaustiveness.kind !== "exhaustive") return [];
    return [{ scenario: scored.scenario.id, place: scored.place, real: finding, model: model.finding }];
  });
}

/** A race that was lost although the model has no interleaving that loses it. */
function racesContradict(races: RacedRounds | null, model: Share | null): readonly Contradiction[] {
  if (races === null || races.lost === 0 || model?.holds !== "yes" || !model.exhaustive) return [];
  return [{ scenario: "race", place: `race of ${races.rounds} rounds`, real: "no", model: "yes" }];
}

/** How long a process of the host was held up, in the cases that decide whether it is harmed. */
function figureOf(property: string, real: readonly Decision[], races: RacedRounds | null): string | null {
  if (property === "prevented" && races !== null) {
    return `${races.lost} of ${races.rounds} rounds lost`;
  }
  if (property !== "host-unharmed") return null;
  const held = real.flatMap(({ ending }) => (ending?.hostMs == null ? [] : [ending.hostMs]));
  return held.length === 0 ? null : `${Math.max(...held).toFixed(1)} ms`;
}

function decidedBy(holds: Holds, real: Share | null, model: Share | null): DecidedBy | null {
  if (real === null) return model === null ? null : "model";
  return real.holds === holds ? "real" : "both";
}

export type ScoreInput = {
  readonly cases: readonly ScoredCase[];
  /** Scenarios of whose cases the bound of a search let no end be found: they leave their properties open. */
  readonly unended?: readonly Pick<Scenario, "properties">[];
  readonly documented: readonly DocumentedCell[];
  readonly races?: readonly RacedRounds[];
};

/** One cell. */
export function scoreCell(
  proposal: string,
  property: string,
  { cases, unended = [], documented, races = [] }: ScoreInput,
): ScoreCell {
  const own = cases.filter((scored) => scored.proposal.id === proposal);
  const decisions = decisionsOn(property, own);
  const ofReal = decisions.filter(({ scored }) => scored.nature.isReal);
  const ofModel = decisions.filter(({ scored }) => !scored.nature.isReal);
  const raced = property === "prevented" ? (races.find((one) => one.proposal === proposal) ?? null) : null;
  const real = raced === null ? shareOf(ofReal) : withRaces(shareOf(ofReal), raced);
  const hasOpenCases = isOpen(property, own) || unended.some(({ properties: ids }) => ids.includes(property));
  const model = shareOf(ofModel, hasOpenCases);
  const holds = merge([real, model].flatMap((share) => (share === null ? [] : [share.holds])));
  const source = documented.find((cell) => cell.proposal === proposal && cell.property === property);
  const isDocumented = holds === "unknown" && source !== undefined;
  return {
    proposal,
    property,
    holds: isDocumented ? source.says : holds,
    by: isDocumented ? "document" : decidedBy(holds, real, model),
    real,
    model,
    contradictions: [...contradictionsOf(ofReal, ofModel), ...racesContradict(raced, model)],
    figure: figureOf(property, ofReal, raced),
    source: isDocumented ? source.source : null,
  };
}

/** All cells of the proposals, properties in the order of their definition. */
export function scorecard(proposalIds: readonly string[], input: ScoreInput): readonly ScoreCell[] {
  return proposalIds.flatMap((proposal) => properties.map(({ id }) => scoreCell(proposal, id, input)));
}
