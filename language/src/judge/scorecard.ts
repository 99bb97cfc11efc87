/**
 * The scorecard: which properties hold of which proposal. Decided by evidence of cases that name the property,
 * whether as expected or not; a cell that no case decides is `documented` with its source, or `unknown`.
 */
import type { EngineNature, Evidence } from "../evidence.ts";
import type { Scenario } from "../scenario/scenario.ts";
import type { VerdictKind } from "../verdict.ts";
import type { DocumentedCell } from "./expectations.ts";
import { type Finding, properties } from "./properties.ts";

export const holdsWords = ["yes", "no", "partly", "unknown", "documented"] as const;
export type Holds = (typeof holdsWords)[number];

export type ScoreCell = {
  readonly proposal: string;
  readonly property: string;
  readonly holds: Holds;
  /** Cases that decided it. */
  readonly cases: number;
  /** By `placeName`. */
  readonly engines: readonly string[];
  /** True only if every deciding case was looked at exhaustively. */
  readonly exhaustive: boolean;
  /** For `documented`: the source's answer. */
  readonly says: "yes" | "no" | null;
  readonly source: string | null;
};

export type ScoredCase = {
  readonly scenario: Scenario;
  readonly proposal: string;
  /** `placeName` of the case. */
  readonly engine: string;
  readonly nature: EngineNature;
  readonly verdict: VerdictKind;
  /** Nothing was expected of it, and all its witnesses were seen: inconclusive as a test, but what it shows counts. */
  readonly isWithoutExpectation?: boolean;
  readonly evidence: Evidence;
};

/** One case's answer for a property. */
export type Decision = { readonly finding: Exclude<Finding, "unknown">; readonly scored: ScoredCase };

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

/** The answer of those cases that decide the property. */
export function decisionsOn(propertyId: string, cases: readonly ScoredCase[]): readonly Decision[] {
  const property = properties.find(({ id }) => id === propertyId);
  const decisions: Decision[] = [];
  for (const scored of cases) {
    if (!decides(scored)) continue;
    if (!scored.scenario.properties.includes(propertyId)) continue;
    const finding = property?.decide?.(scored.scenario, scored.evidence, scored.nature) ?? "unknown";
    if (finding !== "unknown") decisions.push({ finding, scored });
  }
  return decisions;
}

function merge(decisions: readonly Decision[]): Holds {
  const yes = decisions.some(({ finding }) => finding === "yes");
  const no = decisions.some(({ finding }) => finding === "no");
  if (yes && no) return "partly";
  if (yes) return "yes";
  return no ? "no" : "unknown";
}

/** One cell. */
export function scoreCell(
  proposal: string,
  property: string,
  cases: readonly ScoredCase[],
  documented: readonly DocumentedCell[],
): ScoreCell {
  const decisions = decisionsOn(
    property,
    cases.filter((scored) => scored.proposal === proposal),
  );
  const source = documented.find((cell) => cell.proposal === proposal && cell.property === property);
  const isDocumented = decisions.length === 0 && source !== undefined;
  return {
    proposal,
    property,
    holds: isDocumented ? "documented" : merge(decisions),
    cases: decisions.length,
    engines: [...new Set(decisions.map(({ scored }) => scored.engine))].sort(),
    exhaustive:
      decisions.length > 0 &&
      decisions.every(({ scored }) => scored.evidence.exhaustiveness.kind === "exhaustive"),
    says: isDocumented ? source.says : null,
    source: isDocumented ? source.source : null,
  };
}

/** All cells of the proposals, properties in the order of their definition. */
export function scorecard(
  proposalIds: readonly string[],
  cases: readonly ScoredCase[],
  documented: readonly DocumentedCell[],
): readonly ScoreCell[] {
  return proposalIds.flatMap((proposal) =>
    properties.map(({ id }) => scoreCell(proposal, id, cases, documented)),
  );
}
