/** `daxfault run`: the main job. Plans, runs, judges, reports; leaves nothing behind, however it ends. */
import { readFileSync } from "node:fs";
import type { Engine } from "../engine.ts";
import { engineNames, loadEngine } from "../engines/index.ts";
import type { Attestation, EngineName } from "../evidence.ts";
import { type Expectation, loadDocumented, loadErrata, loadKinds } from "../kinds.ts";
import { type Machine, thisMachine } from "../machine.ts";
import { packagePath } from "../paths.ts";
import { type Proposal, proposals as presets } from "../proposal.ts";
import { caseRecord, runRecord, scoreRecord, summaryRecord } from "../report/jsonl.ts";
import { type Style, styleFor } from "../report/style.ts";
import {
  attestationText,
  deviationsText,
  findingsText,
  scorecardText,
  skippedText,
  summaryText,
  tableText,
} from "../report/text.ts";
import { openRunDirectory, type RunDirectory } from "../run/directory.ts";
import {
  type EngineState,
  isAboutProposal,
  type NamedScenario,
  type PlannedCase,
  plan,
} from "../run/plan.ts";
import { type CaseResult, type RunOutcome, runCases } from "../run/runner.ts";
import { loadScenarioFile, loadScenarios } from "../scenario/load.ts";
import { ScenarioError } from "../scenario/problem.ts";
import type { Scenario } from "../scenario/scenario.ts";
import { type ScoredCase, scorecard } from "../scorecard.ts";
import { countVerdicts, exitCodeOf, exitCodes } from "../verdict.ts";
import { type JsonOutput, openJson, openProgress } from "./output.ts";
import { parseCount, select, UsageError } from "./usage.ts";

export type RunCommandOptions = {
  readonly proposal?: readonly string[];
  readonly engine?: readonly string[];
  readonly json?: string;
  readonly timeout: string;
  readonly jobs: string;
};

const TIMEOUT_MAX_S = 3600;
const JOBS_MAX = 64;

type Selection = {
  readonly scenarios: readonly NamedScenario[];
  readonly proposals: readonly Proposal[];
  readonly engines: readonly EngineName[];
  readonly timeoutMs: number;
  readonly jobs: number;
};

function loadNamedFile(path: string): readonly Scenario[] {
  try {
    return loadScenarioFile(path);
  } catch (error) {
    if (error instanceof ScenarioError) throw new UsageError(error.message);
    if (error instanceof Error && "code" in error) throw new UsageError(`${path}: ${error.message}`);
    throw error;
  }
}

/** Ids and patterns from the fixtures, files as they are, in the order given. */
function selectScenarios(names: readonly string[]): readonly NamedScenario[] {
  const files = names.filter((name) => name.endsWith(".json"));
  const patterns = names.filter((name) => !name.endsWith(".json"));
  const fixtures = files.length > 0 && patterns.length === 0 ? [] : loadScenarios();
  const chosen = [
    ...select("scenario", patterns, fixtures).map((scenario) => ({ scenario, argument: scenario.id })),
    ...files.flatMap((file) => loadNamedFile(file).map((scenario) => ({ scenario, argument: file }))),
  ];
  const seen = new Set<string>();
  for (const { scenario } of chosen) {
    const { id } = scenario;
    if (seen.has(id)) throw new UsageError(`two of the scenarios asked for are called ${JSON.stringify(id)}`);
    seen.add(id);
  }
  return chosen;
}

/** Everything that the command line says, checked before anything runs. */
function makeSelection(names: readonly string[], options: RunCommandOptions): Selection {
  const scenarios = selectScenarios(names);
  const proposals = select("proposal", options.proposal ?? [], presets);
  const engines = select(
    "engine",
    options.engine ?? [],
    engineNames.map((id) => ({ id })),
  );
  if (!scenarios.some(({ scenario }) => proposals.some((proposal) => isAboutProposal(scenario, proposal)))) {
    throw new UsageError(
      `none of these scenarios is about ${proposals.map(({ id }) => id).join(" or ")}: ` +
        scenarios
          .map(({ scenario: { id, proposals: about } }) => `${id} is about ${about?.join(", ")}`)
          .join("; "),
    );
  }
  return {
    scenarios,
    proposals,
    engines: engines.map(({ id }) => id),
    timeoutMs: 1000 * parseCount("--timeout", options.timeout, 1, TIMEOUT_MAX_S),
    jobs: parseCount("--jobs", options.jobs, 1, JOBS_MAX),
  };
}

/** A file of the user's may use an id of the fixtures for something else: expectations are for the fixtures only. */
function expectationFinder(): (planned: PlannedCase) => Expectation | null {
  const kinds = loadKinds();
  const hashes = new Map(loadScenarios().map(({ id, hash }) => [id, hash]));
  return ({ scenario, proposal, engine }) => {
    if (hashes.get(scenario.id) !== scenario.hash) return null;
    return kinds.find({ scenario: scenario.id, proposal: proposal.id, engine });
  };
}

async function openEngines(names: readonly EngineName[]): Promise<readonly EngineState[]> {
  return Promise.all(
    names.map(async (name) => {
      const engine = await loadEngine(name);
      return { engine, available: await engine.available() };
    }),
  );
}

type Interruption = { readonly signal: AbortSignal; exitCode(): number | null; release(): void };

/** Ctrl-C and SIGTERM end the run; the second one ends this process at once, and the janitor cleans up. */
function watchSignals(): Interruption {
  const abort = new AbortController();
  let code: number | null = null;
  const handler = (signal: NodeJS.Signals): void => {
    const signalCode = signal === "SIGINT" ? 130 : 143;
    if (code !== null) process.exit(signalCode);
    code = signalCode;
    abort.abort();
  };
  process.on("SIGINT", handler);
  process.on("SIGTERM", handler);
  return {
    signal: abort.signal,
    exitCode: () => code,
    release() {
      process.off("SIGINT", handler);
      process.off("SIGTERM", handler);
    },
  };
}

function version(): string {
  const { version: text } = JSON.parse(readFileSync(packagePath("package.json"), "utf8")) as {
    version: string;
  };
  return text;
}

/** Says who will run the cases, before the first one. */
async function announce(
  machine: Machine,
  engines: readonly EngineState[],
  cases: readonly PlannedCase[],
  selection: Selection,
  directory: RunDirectory,
  output: Output,
): Promise<void> {
  const used = new Set(cases.filter(({ support }) => support.kind === "yes").map(({ engine }) => engine));
  const attestations: Attestation[] = [];
  for (const { engine } of engines) if (used.has(engine.name)) attestations.push(await engine.attest());
  output.json.write(
    runRecord({
      version: version(),
      startedAt: new Date().toISOString(),
      kernel: machine.kernel,
      node: machine.node,
      pageSize: machine.pageSize,
      kvmBackend: machine.kvmBackend,
      runDirectory: directory.path,
      fileSystem: machine.runDirectory.fileSystem,
      cases: cases.length,
      jobs: selection.jobs,
      timeoutMs: selection.timeoutMs,
      attestations,
    }),
  );
  output.print(attestationText(machine, attestations, directory.path, output.style));
  output.print("");
}

type Output = { readonly json: JsonOutput; readonly style: Style; print(text: string | null): void };

function scored(results: readonly CaseResult[]): readonly ScoredCase[] {
  return results.flatMap(({ planned, verdict, result }) =>
    result?.kind === "evidence"
      ? [
          {
            scenario: planned.scenario,
            proposal: planned.proposal.id,
            engine: planned.engine,
            verdict: verdict.kind,
            evidence: result.evidence,
          },
        ]
      : [],
  );
}

/** Everything after the last case. Returns the exit code. */
function finish(
  outcome: RunOutcome,
  leftovers: readonly string[],
  interruptCode: number | null,
  durationMs: number,
  output: Output,
): number {
  const { results } = outcome;
  const defects = [...outcome.defects, ...leftovers];
  const counts = countVerdicts(results.map(({ verdict }) => verdict));
  const exitCode = interruptCode ?? (defects.length > 0 ? exitCodes.defect : exitCodeOf(counts));
  const proposals = [
    ...new Set(results.filter(({ result }) => result !== null).map(({ planned }) => planned.proposal.id)),
  ];
  const cells = scorecard(proposals, scored(results), loadDocumented());
  for (const cell of cells) output.json.write(scoreRecord(cell));
  const interrupted = interruptCode !== null;
  output.json.write(summaryRecord({ counts, exitCode, interrupted, defects, durationMs }));
  const { style } = output;
  if (interrupted) output.print("Interrupted: what follows is part of the run only.\n");
  for (const part of [
    tableText(results, style),
    skippedText(results, style),
    deviationsText(results, style),
    findingsText(results, style),
    scorecardText(cells, style),
  ]) {
    if (part !== null) output.print(`${part}\n`);
  }
  for (const defect of defects) console.error(`daxfault: defect: ${defect}`);
  output.print(summaryText(counts, exitCode, durationMs, style));
  return exitCode;
}

/** Runs the cases in a directory that goes away afterwards. */
async function execute(
  cases: readonly PlannedCase[],
  engines: readonly EngineState[],
  selection: Selection,
  directory: RunDirectory,
  interruption: Interruption,
  output: Output,
): Promise<RunOutcome> {
  const usable = new Map<EngineName, Engine>();
  for (const { engine, available } of engines) if (available.kind === "yes") usable.set(engine.name, engine);
  for (const engine of usable.values()) await engine.open();
  const progress = openProgress();
  let done = 0;
  const outcome = await runCases(cases, {
    engines: usable,
    directory,
    jobs: selection.jobs,
    timeoutMs: selection.timeoutMs,
    signal: interruption.signal,
    expectationOf: expectationFinder(),
    errata: loadErrata(),
    onStart: ({ scenario, proposal, engine }) =>
      progress.show(`[${done}/${cases.length}] ${scenario.id} x ${proposal.id} x ${engine}`),
    onEnd: (result) => {
      done += 1;
      output.json.write(caseRecord(result));
    },
  });
  progress.clear();
  for (const engine of usable.values()) await engine.close();
  return outcome;
}

/** Returns the exit code. Throws a UsageError before anything has run. */
export async function run(names: readonly string[], options: RunCommandOptions): Promise<number> {
  const startMs = performance.now();
  const selection = makeSelection(names, options);
  const json = openJson(options.json);
  const output: Output = {
    json,
    style: styleFor(process.stdout),
    print: (text) => {
      if (text !== null && !json.isStdout) console.log(text);
    },
  };
  const engines = await openEngines(selection.engines);
  const cases = plan(selection.scenarios, selection.proposals, engines);
  const interruption = watchSignals();
  const directory = openRunDirectory();
  let outcome: RunOutcome;
  let leftovers: readonly string[] = [];
  try {
    await announce(thisMachine(), engines, cases, selection, directory, output);
    outcome = await execute(cases, engines, selection, directory, interruption, output);
  } finally {
    leftovers = await directory.close();
    interruption.release();
  }
  const exitCode = finish(outcome, leftovers, interruption.exitCode(), performance.now() - startMs, output);
  json.close();
  return exitCode;
}
