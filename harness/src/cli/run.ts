/** `daxfault run`: the main job. Plans, runs, judges, reports; leaves nothing behind, however it ends. */
import { setFlagsFromString } from "node:v8";
import {
  type Attestation,
  type EngineName,
  exitCodes,
  isKernelEngine,
  needsAttention,
  type TraceEvent,
} from "../../../language/src/index.ts";
import type { Engine } from "../engine.ts";
import { loadEngine, loadKernelEngine } from "../engines/index.ts";
import { loadDocumented, loadErrata } from "../fixtures.ts";
import { bootLines } from "../kernel/console.ts";
import { thisMachine } from "../machine.ts";
import { version } from "../paths.ts";
import { decodeRuns, type RecordedRun, type RunEnd } from "../report/decode.ts";
import {
  caseRecord,
  consoleRecord,
  engineRecord,
  type JsonRecord,
  plannedRecord,
  proposalRecord,
  runRecord,
  scenarioRecord,
  scoreRecord,
  summaryRecord,
} from "../report/jsonl.ts";
import type { RunInfo } from "../report/records.ts";
import { makeReport, type Report } from "../report/report.ts";
import { type Style, styleFor } from "../report/style.ts";
import { attestationText, caseTitle, engineLines, reportText } from "../report/text.ts";
import { openRunDirectory, type RunDirectory } from "../run/directory.ts";
import { jobsOf, type Lane, lanesOf } from "../run/lanes.ts";
import { type EngineState, type PlannedCase, plan, type Shard, shardOf } from "../run/plan.ts";
import type { CaseResult } from "../run/result.ts";
import { type RunOutcome, runCases } from "../run/runner.ts";
import { type JsonOutput, openJson, openProgress, openReports, type ReportOptions } from "./output.ts";
import { makeSelection, parseShard, type Selection, type SelectionOptions } from "./selection.ts";
import { parseCount, UsageError } from "./usage.ts";

export type RunCommandOptions = SelectionOptions &
  ReportOptions & {
    readonly json?: string;
    readonly list?: boolean;
    readonly shard?: string;
    readonly repeat: string;
    readonly timeout: string;
    readonly jobs: string;
  };

export const TIMEOUT_MAX_S = 3600;
const JOBS_MAX = 64;
const REPEAT_MAX = 10_000;

type Limits = {
  readonly shard: Shard | null;
  readonly repeat: number;
  readonly timeoutMs: number;
  readonly jobs: number;
};

function makeLimits(options: RunCommandOptions): Limits {
  return {
    shard: parseShard(options.shard),
    repeat: parseCount("--repeat", options.repeat, 1, REPEAT_MAX),
    timeoutMs: 1000 * parseCount("--timeout", options.timeout, 1, TIMEOUT_MAX_S),
    jobs: parseCount("--jobs", options.jobs, 1, JOBS_MAX),
  };
}

export async function loadEngines({
  engines,
  kernels,
  modulesDirectory,
}: Selection): Promise<readonly EngineState[]> {
  const own = engines.map((name) => loadEngine(name));
  const booted = kernels.map((spec) =>
    loadKernelEngine({ spec, modulesDirectory: spec.kind === "file" ? modulesDirectory : null }),
  );
  return Promise.all(
    [...own, ...booted].map(async (loading) => {
      const engine = await loading;
      return { engine, available: await engine.available() };
    }),
  );
}

type Interruption = {
  readonly signal: AbortSignal;
  by(): "SIGINT" | "SIGTERM" | null;
  release(): void;
};

/** Ctrl-C and SIGTERM end the run; the second one ends this process at once, and the janitor cleans up. */
export function watchSignals(): Interruption {
  const abort = new AbortController();
  let by: "SIGINT" | "SIGTERM" | null = null;
  const handler = (signal: "SIGINT" | "SIGTERM"): void => {
    if (by !== null) process.exit(signal === "SIGINT" ? exitCodes.interrupted : exitCodes.terminated);
    by = signal;
    abort.abort();
  };
  process.on("SIGINT", handler);
  process.on("SIGTERM", handler);
  return {
    signal: abort.signal,
    by: () => by,
    release() {
      process.off("SIGINT", handler);
      process.off("SIGTERM", handler);
    },
  };
}

/** What is recorded goes to the JSON file at once, and into the report at the end. */
export type Recorder = { readonly lines: unknown[]; write(record: JsonRecord): void };

/** @param json Where lines go at once; null: they are only kept. */
export function makeRecorder(json: JsonOutput | null): Recorder {
  const lines: unknown[] = [];
  return {
    lines,
    write(record) {
      json?.write(record);
      // As it is read back: what a record holds must survive being written.
      lines.push(JSON.parse(JSON.stringify(record)));
    },
  };
}

async function infoOf(
  engines: readonly EngineState[],
  cases: readonly PlannedCase[],
  limits: Limits,
  directory: RunDirectory,
): Promise<RunInfo> {
  const used = new Set(cases.filter(({ support }) => support.kind === "yes").map(({ engine }) => engine));
  const attestations: Attestation[] = [];
  for (const { engine } of engines) {
    // A kernel is attested when it is up.
    if (!used.has(engine.name) || isKernelEngine(engine.name)) continue;
    const attestation = await engine.attest();
    if (attestation !== null) attestations.push(attestation);
  }
  const machine = thisMachine();
  return {
    version: version(),
    startedAt: new Date().toISOString(),
    kernel: machine.kernel,
    node: machine.node,
    pageSize: machine.pageSize,
    kvmBackend: machine.kvmBackend,
    runDirectory: directory.path,
    fileSystem: machine.runDirectory.fileSystem,
    cases: cases.length,
    ...limits,
    attestations,
  };
}

/** Records what the cases refer to, so that the file can be read without this program's fixtures. */
function recordDefinitions(cases: readonly PlannedCase[], recorder: Recorder): void {
  const proposals = new Map(cases.map(({ proposal }) => [proposal.id, proposal]));
  for (const proposal of proposals.values()) recorder.write(proposalRecord(proposal));
  const scenarios = new Map(cases.map(({ scenario }) => [scenario.id, scenario]));
  for (const scenario of scenarios.values()) recorder.write(scenarioRecord(scenario));
}

export type RunPlan = {
  readonly cases: readonly PlannedCase[];
  readonly engines: readonly EngineState[];
  readonly selection: Selection;
  readonly limits: Limits;
};

/** Opens the engines of a lane; says and records which kernel has come up. */
async function openLane(
  { engines }: Lane,
  directory: RunDirectory,
  signal: AbortSignal,
  { recorder, print }: RunOutput,
): Promise<void> {
  for (const engine of engines) {
    const beganMs = performance.now();
    await engine.open({ directory: directory.engineDirectory(), signal });
    if (!isKernelEngine(engine.name)) continue;
    const attestation = await engine.attest();
    const openedMs = performance.now() - beganMs;
    recorder.write(engineRecord({ name: engine.name, attestation, openedMs }));
    if (attestation === null) continue;
    print(`${engineLines(attestation).join("\n")}, up in ${(openedMs / 1000).toFixed(1)} s\n`);
  }
}

/** Of each boot's console, as many lines from its end go into the record. */
const CONSOLE_LINES_MAX = 400;

/** Keeps what the kernel said where something on it was not as expected, or proved nothing. */
function recordConsoles({ engines }: Lane, results: readonly CaseResult[], recorder: Recorder): void {
  for (const engine of engines) {
    const isWanted = results.some(
      ({ planned, verdict }) => planned.engine === engine.name && needsAttention(verdict.kind),
    );
    const boots = engine.consoles?.() ?? [];
    if (!isWanted || boots.every(({ lines }) => lines.length === 0)) continue;
    recorder.write(consoleRecord({ name: engine.name, lines: bootLines(boots, CONSOLE_LINES_MAX) }));
  }
}

/** Runs the cases in a directory that goes away afterwards, lane by lane. */
async function execute(
  { cases, engines, selection, limits }: RunPlan,
  directory: RunDirectory,
  signal: AbortSignal,
  output: RunOutput,
): Promise<RunOutcome> {
  const progress = openProgress(cases.length);
  const results: CaseResult[] = [];
  const defects: string[] = [];
  for (const lane of lanesOf(cases, engines)) {
    if (signal.aborted) break;
    try {
      await openLane(lane, directory, signal, output);
      const outcome = await runCases(lane.cases, {
        engines: new Map(lane.engines.map((engine): [EngineName, Engine] => [engine.name, engine])),
        directory,
        jobs: jobsOf(lane, limits.jobs),
        timeoutMs: limits.timeoutMs,
        repeat: limits.repeat,
        firstIndex: results.length,
        signal,
        expectationOf: (planned) => selection.catalogue.expectationOf(planned),
        errata: loadErrata(),
        ...(output.onEvent === undefined ? {} : { onEvent: output.onEvent }),
        onStart: (planned) => progress.start(caseTitle({ planned })),
        onEnd: (result) => {
          output.recorder.write(caseRecord(result));
          progress.end(caseTitle(result));
        },
      });
      results.push(...outcome.results);
      defects.push(...outcome.defects);
      recordConsoles(lane, outcome.results, output.recorder);
    } finally {
      progress.clear();
      for (const engine of lane.engines) await engine.close();
    }
  }
  return { results, defects, interrupted: signal.aborted };
}

/** The report of what was recorded, by the way that `daxfault report` goes. */
function reportOf(recorder: Recorder, end: RunEnd): Report {
  const runs = decodeRuns(recorder.lines, "this run").map((run): RecordedRun => ({ ...run, end }));
  return makeReport(runs, loadDocumented());
}

function recordEnd(report: Report, end: RunEnd, recorder: Recorder): void {
  for (const cell of report.cells) recorder.write(scoreRecord(cell));
  const { counts, exitCode, defects, durationMs } = report;
  const interrupted = end.interruptedBy !== null;
  recorder.write(summaryRecord({ counts, exitCode, interrupted, defects, durationMs }));
}

export type RunOutput = {
  readonly recorder: Recorder;
  readonly style: Style;
  print(text: string): void;
  /** Each event while it happens, as far as the engine sees it then. */
  onEvent?(event: TraceEvent): void;
  /** The run has its folder, no case has begun. */
  onBegin?(directory: string): void;
  /** The last case has ended, the folder is still there. */
  onEnd?(): void;
};

/** Runs a plan from its folder to its report. */
export async function runPlan(runPlan: RunPlan, output: RunOutput): Promise<Report> {
  const startMs = performance.now();
  const { recorder, style, print } = output;
  const interruption = watchSignals();
  const directory = openRunDirectory();
  let outcome: RunOutcome;
  let leftovers: readonly string[] = [];
  try {
    const info = await infoOf(runPlan.engines, runPlan.cases, runPlan.limits, directory);
    recorder.write(runRecord(info));
    recordDefinitions(runPlan.cases, recorder);
    print(`${attestationText(info, style)}\n`);
    output.onBegin?.(directory.path);
    outcome = await execute(runPlan, directory, interruption.signal, output);
  } finally {
    output.onEnd?.();
    leftovers = await directory.close();
    interruption.release();
  }
  const end: RunEnd = {
    interruptedBy: interruption.by(),
    defects: [...outcome.defects, ...leftovers],
    durationMs: performance.now() - startMs,
  };
  const report = reportOf(recorder, end);
  recordEnd(report, end, recorder);
  return report;
}

/** `--list`: what would run, and what would not and why. */
function listCases(cases: readonly PlannedCase[], jsonTarget: string | undefined): number {
  const json = openJson(jsonTarget);
  for (const planned of cases) {
    json.write(plannedRecord(planned));
    if (json.isStdout) continue;
    const skip = planned.support.kind === "no" ? `  (skipped: ${planned.support.reason})` : "";
    console.log(`${caseTitle({ planned })}${skip}`);
  }
  json.close();
  return cases.some(({ support }) => support.kind === "yes") ? exitCodes.ok : exitCodes.nothingRan;
}

/**
 * The young generation stays as small as it is: left alone it grows to 32 MiB in a run, most of it empty, a tenth of
 * what the run and its processes have in memory at once (scripts/check-flakes prints that).
 */
function keepHeapSmall(): void {
  setFlagsFromString("--semi-space-growth-factor=1");
}

/** Returns the exit code. Throws a UsageError before anything has run. */
export async function run(names: readonly string[], options: RunCommandOptions): Promise<number> {
  keepHeapSmall();
  const selection = makeSelection(names, options);
  const limits = makeLimits(options);
  const engines = await loadEngines(selection);
  const all = plan(selection.scenarios, selection.proposals, engines);
  const cases = shardOf(all, limits.shard);
  if (cases.length === 0) {
    throw new UsageError(`--shard ${options.shard}: there are ${all.length} cases, so this shard is empty`);
  }
  if (options.list === true) return listCases(cases, options.json);
  const json = openJson(options.json);
  const reports = openReports(options);
  if (json.isStdout && reports.isStdout) throw new UsageError("only one format can be written to -");
  const isQuiet = json.isStdout || reports.isStdout;
  const style = styleFor(process.stdout);
  const print = (text: string): void => {
    if (!isQuiet) console.log(text);
  };
  const recorder = makeRecorder(json);
  if (selection.isHeadlines) {
    print(`The headline scenarios (${cases.length} cases): daxfault run '*' --kernel ... runs all.\n`);
  }
  const report = await runPlan({ cases, engines, selection, limits }, { recorder, style, print });
  for (const defect of report.defects) console.error(`daxfault: defect: ${defect}`);
  print(reportText(report, style));
  await reports.write(report);
  reports.close();
  json.close();
  return report.exitCode;
}
