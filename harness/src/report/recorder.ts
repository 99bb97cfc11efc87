/** Records a run while it lasts, and makes its report of what was recorded, by the way that `daxfault report` goes. */

import type { BootConsole } from "../engine.ts";
import type { RunEnd, RunObserver } from "../run/observer.ts";
import type { PlannedCase } from "../run/plan.ts";
import { loadBackground } from "./background.ts";
import { decodeRuns, type RecordedRun } from "./decode.ts";
import {
  caseRecord,
  consoleRecord,
  engineRecord,
  type JsonRecord,
  proposalRecord,
  runRecord,
  scenarioRecord,
  scoreRecord,
  summaryRecord,
} from "./jsonl.ts";
import { makeReport, type Report } from "./report.ts";

export type Recorder = {
  /** All records so far, as they are read back. */
  readonly lines: readonly unknown[];
  readonly observer: Partial<RunObserver>;
  /** Records how the run ended. */
  finish(end: RunEnd): Report;
};

/** Of each boot's console, as many lines from its end go into the record. */
const CONSOLE_LINES_MAX = 400;

/** Boot after boot, of each at most so many lines, its last ones: a panic with what led to it. */
export function bootLines(boots: readonly BootConsole[], maxLines: number): readonly string[] {
  return boots.flatMap(({ bootId, lines }, index) => {
    const excess = lines.length - maxLines;
    const left = excess <= 0 ? lines : [`... ${excess} lines left out ...`, ...lines.slice(excess)];
    return [`==== boot ${index + 1} of ${boots.length}: ${bootId} ====`, ...left];
  });
}

/** The scenarios and proposals of the cases, so that the file can be read without this program's fixtures. */
function definitions(cases: readonly PlannedCase[]): readonly JsonRecord[] {
  const proposals = new Map(cases.map(({ proposal }) => [proposal.id, proposal]));
  const scenarios = new Map(cases.map(({ scenario }) => [scenario.id, scenario]));
  return [...[...proposals.values()].map(proposalRecord), ...[...scenarios.values()].map(scenarioRecord)];
}

/** @param write Where records go at once; null: they are only kept. */
export function makeRecorder(write: ((record: JsonRecord) => void) | null): Recorder {
  const lines: unknown[] = [];
  const record = (one: JsonRecord): void => {
    write?.(one);
    // As it is read back: what a record holds must survive being written.
    lines.push(JSON.parse(JSON.stringify(one)));
  };
  return {
    lines,
    observer: {
      onBegin(info, cases) {
        record(runRecord(info));
        for (const one of definitions(cases)) record(one);
      },
      onBooted: (machine) => record(engineRecord(machine)),
      onCaseEnd: (result) => record(caseRecord(result)),
      onConsoles: ({ name, boots }) =>
        record(consoleRecord({ name, lines: bootLines(boots, CONSOLE_LINES_MAX) })),
    },
    finish(end) {
      const runs = decodeRuns(lines, "this run").map((run): RecordedRun => ({ ...run, end }));
      const report = makeReport(runs, loadBackground());
      for (const cell of report.cells) record(scoreRecord(cell));
      const { counts, exitCode, defects, durationMs } = report;
      const interrupted = end.interruptedBy !== null;
      record(summaryRecord({ counts, exitCode, interrupted, defects, durationMs }));
      return report;
    },
  };
}
