/** One case by itself, for programs: chosen, run in a folder of its own, judged. */

import type { Expectation, ExpectedOutcome } from "../../language/src/index.ts";
import type { RegisteredName } from "./engines/registry.ts";
import { loadErrata } from "./fixtures.ts";
import { loadPlace } from "./machines/places.ts";
import { CatalogueError, isScenarioFile, loadCatalogue, type Sources } from "./run/catalogue.ts";
import { openRunDirectory } from "./run/directory.ts";
import { lanesOf, runLane } from "./run/lanes.ts";
import { type Place, type PlannedCase, plan } from "./run/plan.ts";
import type { CaseResult } from "./run/result.ts";

/** An engine on this machine, or a kernel with the engines that run inside it. */
export type EngineName = RegisteredName | `kernel:${string}`;

export type CaseSpec = {
  /** An id, or a scenario file with a single scenario. */
  readonly scenario: string;
  readonly proposal: string;
  readonly engine: EngineName;
  /** Folders of the user's own, as for `--scenarios` and `--proposals`. */
  readonly sources?: Partial<Pick<Sources, "scenarios" | "proposals">>;
  /** The expectation, in place of that of the fixtures or the folder's kinds. Unlisted: value, done. */
  readonly expect?: Partial<ExpectedOutcome>;
  /** Hard limit; 20 s if not given. */
  readonly timeoutMs?: number;
  /** Ends the case. */
  readonly signal?: AbortSignal;
};

const TIMEOUT_MS = 20_000;

type ChosenCase = {
  readonly planned: PlannedCase;
  readonly place: Place;
  readonly expectation: Expectation | null;
};

async function chooseCase(spec: CaseSpec): Promise<ChosenCase> {
  const isFile = isScenarioFile(spec.scenario);
  const catalogue = loadCatalogue({
    scenarios: spec.sources?.scenarios ?? [],
    proposals: spec.sources?.proposals ?? [],
    files: isFile ? [spec.scenario] : [],
  });
  const found = isFile
    ? catalogue.fileScenarios
    : catalogue.scenarios.filter(({ scenario }) => scenario.id === spec.scenario);
  const [named, second] = found;
  if (named === undefined) throw new CatalogueError(`no scenario ${JSON.stringify(spec.scenario)}`);
  if (second !== undefined)
    throw new CatalogueError(`${spec.scenario} has ${found.length} scenarios: give the folder and an id`);
  const proposal = catalogue.proposals.find((one) => one.proposal.id === spec.proposal);
  if (proposal === undefined) throw new CatalogueError(`no proposal ${JSON.stringify(spec.proposal)}`);
  const about = named.scenario.proposals;
  if (about !== null && !about.includes(spec.proposal)) {
    throw new CatalogueError(`${named.scenario.id} is about ${about.join(", ")}, not ${spec.proposal}`);
  }
  const place = await loadPlace(spec.engine);
  const [planned] = plan([named], [proposal], [place]);
  if (planned === undefined) throw new CatalogueError("no such case");
  const expected: Expectation | null =
    spec.expect === undefined
      ? catalogue.expectationOf(planned)
      : {
          rule: "the test",
          outcome: { accesses: {}, host: {}, bystanders: {}, events: {}, ...spec.expect },
          better: [],
          defect: null,
        };
  return { planned, place, expectation: expected };
}

/** The case with whether it can run here. Throws what is wrong with the spec. */
export async function openCase(
  spec: CaseSpec,
): Promise<PlannedCase & { readonly expectation: Expectation | null }> {
  const { planned, expectation } = await chooseCase(spec);
  return { ...planned, expectation };
}

/**
 * Runs one case and judges it. A case that cannot run here is a result with the verdict `skip`, and its reason.
 * Rejects for what is wrong with the spec, for an abort, and for what could not be cleaned up.
 */
export async function runCase(spec: CaseSpec): Promise<CaseResult> {
  const { planned, place, expectation } = await chooseCase(spec);
  const [lane] = lanesOf([planned], [place.machine]);
  if (lane === undefined) throw new Error("a case without a lane");
  const directory = openRunDirectory();
  let left: readonly string[] = [];
  try {
    const outcome = await runLane(lane, {
      directory,
      jobs: 1,
      repeat: 1,
      timeoutMs: spec.timeoutMs ?? TIMEOUT_MS,
      signal: spec.signal ?? new AbortController().signal,
      expectationOf: () => expectation,
      errata: loadErrata(),
      onStart: () => {},
      onEnd: () => {},
    });
    left = outcome.defects;
    const [result] = outcome.results;
    if (result === undefined) throw spec.signal?.reason ?? new Error("the case was interrupted");
    return result;
  } finally {
    left = [...left, ...(await directory.close())];
    if (left.length > 0) console.error(`daxfault: ${left.join("; ")}`);
  }
}
