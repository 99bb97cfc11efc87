/** `daxfault report`: merges recorded runs and renders them again. Nothing is run. */
import { existsSync } from "node:fs";
import {
  DEPTH_MAX,
  InputError,
  isTooDeep,
  jsonError,
  readInput,
  readStandardInput,
} from "../../../language/src/read.ts";
import { errorText } from "../error-text.ts";
import type { GuardRecord } from "../guards/records.ts";
import { loadBackground } from "../report/background.ts";
import { decodeGuards, decodeRuns, RecordError, type RecordedRun } from "../report/decode.ts";
import {
  caseRecord,
  proposalRecord,
  runRecord,
  scenarioRecord,
  scoreRecord,
  summaryRecord,
} from "../report/jsonl.ts";
import { makeReport, type Report } from "../report/report.ts";
import { styleFor } from "../report/style.ts";
import { attestationText, reportText } from "../report/text.ts";
import { lastRunPath } from "./last-run.ts";
import { declareInputs } from "./open-outputs.ts";
import { type JsonOutput, openJson, openReports, type ReportOptions } from "./output.ts";
import { UsageError } from "./usage.ts";

export type ReportCommandOptions = ReportOptions & { readonly json?: string };

/** Some hundred thousand cases; a string of JavaScript's can hold no more than twice as much. */
const RECORD_BYTES_MAX = 256 * 1024 * 1024;
/** Of a line that is quoted. */
const SHOWN_LENGTH = 60;

function parseLine(text: string, place: string): unknown {
  if (isTooDeep(text)) throw new UsageError(`${place}: nested more deeply than the limit ${DEPTH_MAX}`);
  try {
    return JSON.parse(text);
  } catch {
    const { column, message } = jsonError(text);
    throw new UsageError(
      `${place}:${column}: not JSON: ${message}: ${JSON.stringify(text.slice(0, SHOWN_LENGTH))}`,
    );
  }
}

type Recorded = { readonly runs: readonly RecordedRun[]; readonly guards: readonly GuardRecord[] };

/**
 * What a file of JSON lines has recorded. A last line without its end is what a run that was killed leaves: it is left
 * out, and the run counts as broken off. Throws a UsageError that names file and line.
 */
function readRecorded(path: string): Recorded {
  let text: string;
  try {
    text = path === "-" ? readStandardInput(RECORD_BYTES_MAX) : readInput(path, RECORD_BYTES_MAX);
  } catch (error) {
    const line = error instanceof InputError && error.line !== null ? `:${error.line}` : "";
    throw new UsageError(`${path}${line}: ${errorText(error)}`);
  }
  const complete = text.slice(0, text.lastIndexOf("\n") + 1);
  const lines = complete.split("\n").slice(0, -1);
  const values = lines.map((line, index) => parseLine(line, `${path}:${index + 1}`));
  try {
    return { runs: decodeRuns(values, path), guards: decodeGuards(values, path) };
  } catch (error) {
    if (error instanceof RecordError) throw new UsageError(error.message);
    throw error;
  }
}

/** The runs of a file of JSON lines; one at least. Throws a UsageError that names file and line. */
export function readRuns(path: string): readonly RecordedRun[] {
  const { runs } = readRecorded(path);
  if (runs.length === 0) throw new UsageError(`${path}: no run in it`);
  return runs;
}

/** The merged runs as one file: several runs of one case are one line. */
function writeJson(report: Report, runs: readonly RecordedRun[], json: JsonOutput): void {
  const [first] = report.runs;
  if (first === undefined) return;
  const cases = runs.reduce((sum, { info }) => sum + info.cases, 0);
  const shard = report.runs.length === 1 ? first.shard : null;
  json.write(
    runRecord({
      ...first,
      cases: Math.max(report.results.length, report.gaps.length > 0 ? cases : 0),
      shard,
    }),
  );
  const proposals = new Map(report.results.map(({ planned }) => [planned.proposal.id, planned.proposal]));
  for (const proposal of proposals.values()) json.write(proposalRecord(proposal));
  for (const scenario of report.scenarios) json.write(scenarioRecord(scenario));
  for (const result of report.results) json.write(caseRecord(result));
  for (const cell of report.cells) json.write(scoreRecord(cell));
  for (const guard of report.guards) json.write(guard);
  const interrupted = runs.some(({ end }) => end !== null && end.interruptedBy !== null);
  const { counts, exitCode, defects, durationMs } = report;
  json.write(summaryRecord({ counts, exitCode, interrupted, defects, durationMs }));
}

/** The last run's record, where no file is named. Throws a UsageError where there is none. */
function lastRun(): string {
  const path = lastRunPath();
  if (!existsSync(path))
    throw new UsageError(`${path}: no run yet: daxfault run, or name a FILE of run --json`);
  return path;
}

/** Returns the exit code that the runs together deserve. */
export async function reportCommand(
  named: readonly string[],
  options: ReportCommandOptions,
): Promise<number> {
  const files = named.length > 0 ? named : [lastRun()];
  declareInputs(files);
  const recorded = files.map((path) => ({ path, ...readRecorded(path) }));
  for (const { path, runs, guards } of recorded) {
    if (runs.length + guards.length === 0) throw new UsageError(`${path}: no run in it`);
  }
  const runs = recorded.flatMap((one) => one.runs);
  if (runs.length === 0) {
    throw new UsageError("measurements of guards only: give a file of daxfault run --json as well");
  }
  const json = openJson(options.json);
  const reports = openReports(options);
  if (json.isStdout && reports.isStdout) throw new UsageError("only one format can be written to -");
  let report: Report;
  try {
    const guards = recorded.flatMap((one) => one.guards);
    report = makeReport(runs, loadBackground(), guards);
  } catch (error) {
    if (error instanceof RecordError) throw new UsageError(error.message);
    throw error;
  }
  writeJson(report, runs, json);
  if (!json.isStdout && !reports.isStdout) {
    const style = styleFor(process.stdout);
    for (const info of report.runs) console.log(`${attestationText(info, style)}\n`);
    console.log(reportText(report, style));
  }
  await reports.write(report);
  return report.exitCode;
}
