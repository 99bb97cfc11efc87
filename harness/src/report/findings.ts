/** Defects of kernels that were seen: passes whose expectation names one. */
import { type Defect, exitCodes, exitCodeText } from "../../../language/src/index.ts";
import type { CaseResult } from "../run/result.ts";
import type { Report } from "./report.ts";

export type DefectFinding = {
  readonly id: string;
  readonly text: string;
  readonly source: string;
  /** At least one. */
  readonly cases: readonly CaseResult[];
};

/** The defect that this result shows, or null. */
export function defectOf({ verdict, planned, expectation }: CaseResult): Defect | null {
  // An outcome of a model is no kernel's defect: it did not happen.
  if (verdict.kind !== "pass" || !planned.nature.isReal) return null;
  return expectation?.defect ?? null;
}

export function findingsOf(results: readonly CaseResult[]): readonly DefectFinding[] {
  const seen = new Map<string, { id: string; text: string; source: string; cases: CaseResult[] }>();
  for (const result of results) {
    const defect = defectOf(result);
    if (defect === null) continue;
    const entry = seen.get(defect.id) ?? { ...defect, cases: [] };
    entry.cases.push(result);
    seen.set(defect.id, entry);
  }
  return [...seen.values()];
}

/** How a report ends, in a sentence: for readers who do not know that a hang that was expected is a pass. */
export function endText({ exitCode, results }: Report): string {
  const defects = findingsOf(results).length;
  if (exitCode !== exitCodes.ok || defects === 0) return exitCodeText(exitCode);
  return `as expected of this kernel, ${defects === 1 ? "a defect" : `${defects} defects`} included`;
}
