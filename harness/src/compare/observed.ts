/**
 * fixtures/observed: what real kernels showed, case by case, in the words of the vocabulary. The model is held against it,
 * and docs/scorecard.md has its real cells from it. Written by scripts/observed-record, a file a kernel.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import {
  type OutcomeWords,
  parseOutcomeWords,
  proposals,
  type Scenario,
  type ScoredCase,
  type VerdictKind,
} from "../../../language/src/index.ts";
import { engineNames, engineRow } from "../engines/registry.ts";
import { packagePath } from "../paths.ts";
import type { CaseId, ObservedFacts, ObservedKernel } from "./recorded.ts";

export type ObservedCase = CaseId & {
  readonly scenarioHash: string;
  readonly kvmBackend: string | null;
  readonly words: OutcomeWords;
  /** Left out, with `facts`, of files that were recorded before the scorecard was made of them. */
  readonly verdict?: VerdictKind;
  readonly facts?: ObservedFacts;
};

export type ObservedFile = {
  readonly about: string;
  /** Day of the recording, YYYY-MM-DD. */
  readonly recorded?: string;
  readonly kernels?: readonly ObservedKernel[];
  readonly cases: readonly ObservedCase[];
};

/** By file name, without `.json`. */
export function loadObserved(): ReadonlyMap<string, ObservedFile> {
  const folder = packagePath("fixtures/observed");
  return new Map(
    readdirSync(folder)
      .sort()
      .map((file) => [
        file.replace(/\.json$/, ""),
        JSON.parse(readFileSync(join(folder, file), "utf8")) as ObservedFile,
      ]),
  );
}

/** The engine that executed a case; inside kernels the cases of VMs are those of `kvm`. */
function natureOf({ engine, kvmBackend }: ObservedCase): ScoredCase["nature"] {
  const name = engineNames.find((known) => known === engine) ?? (kvmBackend === null ? "process" : "kvm");
  return engineRow(name).nature;
}

/**
 * The case as the scorecard takes it. null: its scenario or its proposal is no longer what was run, or the file does not
 * have what properties need.
 */
export function scoredObservation(
  one: ObservedCase,
  place: string,
  scenarios: ReadonlyMap<string, Scenario>,
): ScoredCase | null {
  const scenario = scenarios.get(one.scenario);
  const proposal = proposals.find(({ id }) => id === one.proposal);
  if (scenario?.hash !== one.scenarioHash || proposal === undefined) return null;
  if (one.facts === undefined || one.verdict === undefined) return null;
  const { history, ...facts } = one.facts;
  const outcome = parseOutcomeWords({ ...one.words, vmm: history }, scenario);
  if (outcome === null) return null;
  return {
    scenario,
    proposal,
    place,
    nature: natureOf(one),
    verdict: one.verdict,
    endings: [{ outcome, ...facts, metLostPage: null, token: null }],
    exhaustiveness: { kind: "sampled", runs: 1, seed: null },
  };
}

/** All observations of the files that the scorecard can be made of. */
export function scoredObservations(scenarios: readonly Scenario[]): readonly ScoredCase[] {
  const byId = new Map(scenarios.map((scenario) => [scenario.id, scenario]));
  return [...loadObserved()].flatMap(([name, { cases }]) =>
    cases.flatMap((one) => scoredObservation(one, name, byId) ?? []),
  );
}
