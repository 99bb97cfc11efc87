/**
 * fixtures/observed: what real kernels showed, case by case, in the words of the vocabulary. The model is held against it,
 * and docs/scorecard.md has its real cells from it. Written by scripts/observed-record, a file a kernel.
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import {
  kvmParts,
  type OutcomeWords,
  parseOutcomeWords,
  proposals,
  type Scenario,
  type ScoredCase,
  type VerdictKind,
  verdictKinds,
} from "../../../language/src/index.ts";
import {
  InputError,
  issueText,
  jsonErrorText,
  readInput,
  readJsonSource,
} from "../../../language/src/read.ts";
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

/** Words of an outcome, in a recording. */
export const wordsShape: z.ZodType<OutcomeWords> = z.strictObject({
  steps: z.record(z.string(), z.string()),
  bystanders: z.record(z.string(), z.string()),
  vmm: z.string().nullable(),
  guestKernel: z.string().nullable(),
});

const fileShape = z.strictObject({
  about: z.string(),
  recorded: z.iso.date().exactOptional(),
  kernels: z
    .array(
      z.strictObject({
        release: z.string(),
        kvmBackend: z.string().nullable(),
        origin: z.string().nullable(),
        accelerator: z.enum(["kvm", "tcg"]).nullable(),
        patches: z.array(z.strictObject({ name: z.string(), sha256: z.string() })).exactOptional(),
        kvm: z.enum(kvmParts).exactOptional(),
      }),
    )
    .exactOptional(),
  cases: z.array(
    z.strictObject({
      scenario: z.string(),
      scenarioHash: z.string(),
      proposal: z.string(),
      engine: z.string(),
      kvmBackend: z.string().nullable(),
      words: wordsShape,
      verdict: z.enum(verdictKinds).exactOptional(),
      facts: z
        .strictObject({
          history: z.string().nullable(),
          exitAt: z.enum(["access", "elsewhere"]).nullable(),
          wasRecalled: z.boolean(),
          nmi: z.boolean(),
          hostMs: z.number().nullable(),
        })
        .exactOptional(),
    }),
  ),
});

/** Eight times the largest, which has some 1,500 observations. */
const FILE_BYTES_MAX = 4 * 1024 * 1024;

/** A file that is none. The message names file and line. */
export class ObservedError extends Error {
  override readonly name = "ObservedError";
}

/** Reads a recording of that shape. Throws an ObservedError. */
export function readRecording<Recording>(
  path: string,
  shape: z.ZodType<Recording>,
  bytesMax: number,
): Recording {
  const refuse = (line: number | null, message: string): never => {
    throw new ObservedError(`${path}${line === null ? "" : `:${line}`}: ${message}`);
  };
  let text: string;
  try {
    text = readInput(path, bytesMax);
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    return refuse(error.line, error.message);
  }
  const source = readJsonSource(text);
  if (source.kind === "error") throw new ObservedError(jsonErrorText(path, source));
  const [twice] = source.duplicates;
  if (twice !== undefined) return refuse(twice.line, `${twice.path.join(".")}: twice in this object`);
  const parsed = shape.safeParse(source.value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  if (issue === undefined) return refuse(null, "not a file of observations");
  const message = issueText(issue, shape, source.value);
  return refuse(source.lineOf(issue.path), `${issue.path.join(".")}: ${message}`);
}

/** Throws an ObservedError. */
export function readObserved(path: string): ObservedFile {
  return readRecording(path, fileShape, FILE_BYTES_MAX);
}

/** The recordings of a folder of fixtures, by file name without `.json`. */
export function recordingsIn<Recording>(
  folder: string,
  read: (path: string) => Recording,
): ReadonlyMap<string, Recording> {
  const path = packagePath(folder);
  const files = readdirSync(path).sort();
  return new Map(files.map((file) => [file.replace(/\.json$/, ""), read(join(path, file))]));
}

/** By file name, without `.json`. */
export function loadObserved(): ReadonlyMap<string, ObservedFile> {
  return recordingsIn("fixtures/observed", readObserved);
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
