/** One case by itself, for programs: chosen, run in a folder of its own, judged. */

import type { EngineName, Expectation, ExpectedOutcome } from "../../../language/src/index.ts";
import { loadEngine } from "../engines/index.ts";
import { loadErrata } from "../fixtures.ts";
import { CatalogueError, isScenarioFile, loadCatalogue, type Sources } from "./catalogue.ts";
import { openRunDirectory } from "./directory.ts";
import { type PlannedCase, plan } from "./plan.ts";
import type { CaseResult } from "./result.ts";
import { runCases } from "./runner.ts";

export type CaseSpec = {
  /** An id, or a scenario file with a single scenario. */
  readonly scenario: string;
  readonly proposal: string;
  readonly engine: EngineName;
  /** Folders of the user's own, as for `--scenarios` and `--proposals`. */
  readonly sources?: Partial<Pick<Sources, "scenarios" | "proposals">>;
  /** What is expected, in place of what fixtures or the folder's kinds say. What is not listed: value, done. */
  readonly expect?: Partial<ExpectedOutcome>;
  /** Hard limit; 20 s if not given. */
  readonly timeoutMs?: number;
  /** Ends the case. */
  readonly signal?: AbortSignal;
};

const TIMEOUT_MS = 20_000;

/** The case with whether it can run here. Throws what is wrong with the spec. */
export async function openCase(
  spec: CaseSpec,
): Promise<PlannedCase & { readonly expectation: Expectation | null }> {
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
  const engine = await loadEngine(spec.engine);
  const [planned] = plan([named], [proposal], [{ engine, available: await engine.available() }]);
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
  return { ...planned, expectation: expected };
}

/**
 * Runs one case and judges it. A case that cannot run here is a result with the verdict `skip`, and its reason.
 * Rejects for what is wrong with the spec, for an abort, and for what could not be cleaned up.
 */
export async function runCase(spec: CaseSpec): Promise<CaseResult> {
  const { expectation, ...planned } = await openCase(spec);
  const engine = await loadEngine(spec.engine);
  const directory = openRunDirectory();
  let left: readonly string[] = [];
  const canRun = planned.support.kind === "yes";
  try {
    if (canRun)
      await engine.open({
        directory: directory.engineDirectory(),
        signal: spec.signal ?? new AbortController().signal,
      });
    const outcome = await runCases([planned], {
      engines: new Map([[spec.engine, engine]]),
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
    if (canRun) await engine.close();
    left = [...left, ...(await directory.close())];
    if (left.length > 0) console.error(`daxfault: ${left.join("; ")}`);
  }
}
