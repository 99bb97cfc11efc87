/** `daxfault run`: the main job. Plans, runs, judges, reports; leaves nothing behind, however it ends. */
import { setFlagsFromString } from "node:v8";
import { exitCodes } from "../../../language/src/index.ts";
import { BUSY_MAX } from "../engines/busy.ts";
import { loadErrata } from "../fixtures.ts";
import { thisMachine } from "../machine.ts";
import { loadPlaces } from "../machines/places.ts";
import { briefText } from "../report/brief.ts";
import { visible } from "../report/encode.ts";
import { plannedRecord } from "../report/jsonl.ts";
import { makeRecorder, type Recorder } from "../report/recorder.ts";
import { paragraph, type Style, styleFor } from "../report/style.ts";
import { attestationLines, attestationText, caseTitle, engineLines, reportText } from "../report/text.ts";
import type { RunObserver } from "../run/observer.ts";
import { type Place, type PlannedCase, plan, shardOf, shellWord } from "../run/plan.ts";
import type { Limits } from "../run/run-plan.ts";
import { printDefects } from "./defects.ts";
import { keepLastRun } from "./last-run.ts";
import { discardOutputs } from "./open-outputs.ts";
import { openJson, openReports, progressObserver, type ReportOptions } from "./output.ts";
import { readyKernels } from "./ready-kernels.ts";
import { makeSelection, parseShard, type Selection, type SelectionOptions } from "./selection.ts";
import { parseCount, UsageError } from "./usage.ts";

export type RunCommandOptions = SelectionOptions &
  ReportOptions & {
    readonly json?: string;
    readonly list?: boolean;
    readonly verbose?: boolean;
    readonly shard?: string;
    readonly repeat: string;
    readonly busy: string;
    readonly timeout: string;
    readonly jobs: string;
  };

export const TIMEOUT_MAX_S = 3600;
const JOBS_MAX = 64;
const REPEAT_MAX = 10_000;

function makeLimits(options: RunCommandOptions): Limits {
  return {
    shard: parseShard(options.shard),
    repeat: parseCount("--repeat", options.repeat, 1, REPEAT_MAX),
    busy: parseCount("--busy", options.busy, 0, BUSY_MAX),
    timeoutMs: 1000 * parseCount("--timeout", options.timeout, 1, TIMEOUT_MAX_S),
    jobs: parseCount("--jobs", options.jobs, 1, JOBS_MAX),
  };
}

/** Why no case runs on this machine's KVM: said before the first case, for it decides what the answer is made of. */
function noKvmText({ engines, kernels }: Selection, style: Style): string {
  const { kvm } = thisMachine().features;
  if (kvm.kind === "present" || kernels.length > 0 || !engines.includes("kvm")) return "";
  const text = `no KVM    ${kvm.reason}. What the answer has of KVM is recorded (daxfault doctor)`;
  return `\n${paragraph(text, style.widthColumns, { first: 2, rest: 12 }).join("\n")}`;
}

/** Says what runs the cases: before the first one, and of each kernel when it is up. */
function attestationPrinter(
  print: (text: string) => void,
  selection: Selection,
  style: Style,
): Partial<RunObserver> {
  return {
    onBegin: (info) => print(`${attestationText(info, style)}${noKvmText(selection, style)}\n`),
    onBooted({ attestation, openedMs }) {
      if (attestation === null) return;
      const up = `${engineLines(attestation).join("\n")}, up in ${(openedMs / 1000).toFixed(1)} s`;
      print(`${attestationLines(up.split("\n"), style).join("\n")}\n`);
    },
  };
}

/** `--list`: what would run, and what would not and why. */
function listCases(cases: readonly PlannedCase[], jsonTarget: string | undefined): number {
  const json = openJson(jsonTarget);
  for (const planned of cases) {
    json.write(plannedRecord(planned));
    if (json.isStdout) continue;
    const skip = planned.support.kind === "no" ? `  (skipped: ${visible(planned.support.reason)})` : "";
    console.log(`${caseTitle({ planned })}${skip}`);
  }
  return cases.some(({ support }) => support.kind === "yes") ? exitCodes.ok : exitCodes.nothingRan;
}

/** What is to run, and where. Throws a UsageError where a shard has no case. */
async function planned(
  selection: Selection,
  options: RunCommandOptions,
  limits: Limits,
): Promise<{ readonly places: readonly Place[]; readonly cases: readonly PlannedCase[] }> {
  const places = await loadPlaces(selection);
  const all = plan(selection.scenarios, selection.proposals, places);
  const cases = shardOf(all, limits.shard);
  if (cases.length > 0) return { places, cases };
  throw new UsageError(`--shard ${options.shard}: there are ${all.length} cases, so this shard is empty`);
}

/**
 * The young generation stays as small as it is: left alone it grows to 32 MiB in a run, most of it empty, a tenth of
 * what the run and its processes have in memory at once (scripts/check-flakes prints that).
 */
function keepHeapSmall(): void {
  setFlagsFromString("--semi-space-growth-factor=1");
}

/** Keeps the record of the run, and says where all of it is. */
function wholeLines({ lines }: Recorder, path: string | undefined): readonly string[] {
  const kept = keepLastRun(lines);
  const file = path === undefined || path === "-" ? kept : path;
  if (file === null)
    return ["All cases and the scorecard: daxfault run --verbose; to keep them: --json FILE."];
  const name = file === kept ? "" : ` ${shellWord(file)}`;
  return [
    `All cases and the scorecard: daxfault report${name}; for a browser: --html FILE.`,
    `Recorded in ${file}.`,
  ];
}

/** Returns the exit code. Throws a UsageError before anything has run. */
export async function run(names: readonly string[], options: RunCommandOptions): Promise<number> {
  keepHeapSmall();
  // In the order of their price: words, files, what the machine can do, kernels that may have to be built.
  const limits = makeLimits(options);
  const selection = makeSelection(names, options);
  if (options.list === true)
    return listCases((await planned(selection, options, limits)).cases, options.json);
  const json = openJson(options.json);
  const reports = openReports(options);
  if (json.isStdout && reports.isStdout) throw new UsageError("only one format can be written to -");
  const { places, cases } = await planned(selection, options, limits);
  const interrupted = await readyKernels(selection);
  if (interrupted !== null) {
    discardOutputs();
    return interrupted;
  }
  // What drives the machine, which a refused command line does not need.
  const { runPlan } = await import("../run/run-plan.ts");
  const isQuiet = json.isStdout || reports.isStdout;
  const style = styleFor(process.stdout);
  let printedLines = 0;
  const print = (text: string): void => {
    printedLines += text.split("\n").length;
    if (!isQuiet) console.log(text);
  };
  const recorder = makeRecorder(json.write);
  if (selection.isHeadlines) {
    const all = selection.kernels.length > 0 ? "--kernel ..." : "--engine ...";
    print(`The headline scenarios (${cases.length} cases): daxfault run '*' ${all} runs all.\n`);
  }
  const { expectationOf } = selection.catalogue;
  const end = await runPlan(
    { cases, places, limits, expectationOf, errata: loadErrata(), consoles: "needed" },
    [recorder.observer, attestationPrinter(print, selection, style), progressObserver(cases.length)],
  );
  const report = recorder.finish(end);
  printDefects("daxfault", report.defects);
  if (!isQuiet) {
    const isWhole = options.verbose === true;
    print(
      isWhole
        ? reportText(report, style)
        : briefText(report, style, { whole: wholeLines(recorder, options.json), printedLines }),
    );
  }
  await reports.write(report);
  return report.exitCode;
}
