/** Defects of kernels that were seen: by the evidence where it shows one by itself, else passes whose expectation names one. */
import { type Defect, defects, ENDLESS_LOOP, exitCodes, exitCodeText } from "../../../language/src/index.ts";
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
export function defectOf({ verdict, planned, expectation, result }: CaseResult): Defect | null {
  // An outcome of a model is no kernel's defect: it did not happen.
  if (!planned.nature.isReal || result?.kind !== "evidence") return null;
  if (verdict.kind === "pass" && expectation?.defect != null) return expectation.defect;
  // A loop is proven by KVM's counters, whether an expectation says so or not.
  const isLooping = result.evidence.observations.vmm?.some(({ kind }) => kind === "looping") ?? false;
  const isEvidence = verdict.kind === "pass" || (verdict.kind === "inconclusive" && expectation === null);
  return isLooping && isEvidence ? (defects.find(({ id }) => id === ENDLESS_LOOP) ?? null) : null;
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

/** The heading above findings: what no rule expected was seen all the same. */
export function findingsTitle(findings: readonly DefectFinding[]): string {
  const isExpected = findings.every(({ cases }) => cases.every(({ verdict }) => verdict.kind === "pass"));
  return `Defects of this kernel that were seen${isExpected ? ", as expected of it" : ""}`;
}

/** How a report ends, in a sentence: for readers who do not know that a hang that was expected is a pass. */
export function endText({ exitCode, results }: Report): string {
  const defects = findingsOf(results).length;
  if (exitCode !== exitCodes.ok || defects === 0) return exitCodeText(exitCode);
  return `as expected of this kernel, ${defects === 1 ? "a defect" : `${defects} defects`} included`;
}
