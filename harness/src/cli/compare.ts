/**
 * `daxfault compare`: is what was observed among what the model allows? Or: do two recorded runs agree?
 * Where a kernel's tracepoints were recorded: is their order one that the model has? Fails on a positive difference.
 */
import { exitCodeOfSignal, exitCodes, type KvmPart } from "../../../language/src/index.ts";
import {
  type CaseComparison,
  compareCases,
  compareRuns,
  type RunComparison,
  type Summary,
  summarize,
} from "../compare/compare.ts";
import { type RecordedCases, RecordingError, recordedCases } from "../compare/recorded.ts";
import { caseTexts, linesOf, runTexts, summaryTexts } from "../compare/text.ts";
import { comparedText } from "../engines/model/allowed.ts";
import { modelNames, realNames } from "../engines/registry.ts";
import { loadErrata, loadScenarios } from "../fixtures.ts";
import { loadPlaces } from "../machines/places.ts";
import { decodeRuns } from "../report/decode.ts";
import { visibleData } from "../report/encode.ts";
import { makeRecorder } from "../report/recorder.ts";
import type { Style } from "../report/style.ts";
import type { RunEnd } from "../run/observer.ts";
import { plan } from "../run/plan.ts";
import { runPlan } from "../run/run-plan.ts";
import { printDefects } from "./defects.ts";
import type { CompareLine } from "./lines/compare.ts";
import { declareInputs } from "./open-outputs.ts";
import { type JsonOutput, openJson, progressObserver } from "./output.ts";
import { readRuns } from "./report.ts";
import { makeSelection, type SourceOptions } from "./selection.ts";
import { checkedKvm, UsageError } from "./usage.ts";

export type CompareCommandOptions = SourceOptions & {
  readonly engines: string;
  readonly json?: string;
  readonly all?: boolean;
  /** The proposal that the recorded kernel has built in; left out: what the record says of each kernel. */
  readonly kvm?: string;
};

/** The cases of a run's JSON lines: those with observations, and those that were skipped. */
export function readRecorded(path: string): RecordedCases {
  return recordedCases(readRuns(path).flatMap((run) => run.results));
}

const LIMITS = { shard: null, repeat: 1, timeoutMs: 20_000, jobs: 2 } as const;

type RecordedNow = { readonly recorded: RecordedCases; readonly interruptedBy: RunEnd["interruptedBy"] };

/** Runs the real engines now, and reads what was recorded as if it came from a file. */
async function recordNow(engines: readonly string[], sources: SourceOptions): Promise<RecordedNow> {
  const selection = makeSelection([], { ...sources, engine: engines });
  const places = await loadPlaces(selection);
  const cases = plan(selection.scenarios, selection.proposals, places);
  const recorder = makeRecorder(null);
  const { expectationOf } = selection.catalogue;
  const end = await runPlan(
    { cases, places, limits: LIMITS, expectationOf, errata: loadErrata(), consoles: "needed" },
    [recorder.observer, progressObserver(cases.length)],
  );
  printDefects("daxfault compare", end.defects);
  const runs = decodeRuns(recorder.lines, "this run");
  return {
    recorded: recordedCases(runs.flatMap(({ results }) => results)),
    interruptedBy: end.interruptedBy,
  };
}

function caseLines({ id, outcome, order }: CaseComparison): readonly CompareLine[] {
  const lines: CompareLine[] = [];
  if (order?.order.kind === "diverges") {
    const { line, observed, instead } = order.order;
    const text = linesOf(order.trace)[line] ?? null;
    lines.push({ type: "order", ...id, line: text, observed, instead, replay: order.replay });
  }
  if (outcome.kind === "unsupported") return lines;
  const { boundedBy, divergence, replay } = outcome;
  for (const end of outcome.unseen) {
    const allowed = [comparedText(end.outcome)];
    const unseen = { observed: null, allowed, boundedBy, first: null, replay: null };
    lines.push({ type: "difference", sign: "negative", ...id, ...unseen });
  }
  if (outcome.kind === "same") return lines;
  const observed = comparedText(outcome.observed);
  const allowed = outcome.ends.map((end) => comparedText(end.outcome));
  const first = divergence?.rows.at(-1) ?? null;
  lines.push({ type: "difference", sign: "positive", ...id, observed, allowed, boundedBy, first, replay });
  return lines;
}

function summaryLine({ counts, onlyModel, goneErrata, orders }: Summary): CompareLine {
  return {
    type: "comparison",
    ...counts,
    onlyModel: onlyModel.length,
    goneErrata,
    ordersFollowed: orders.followed,
    ordersDifferent: orders.different,
  };
}

function runLines({ differences }: RunComparison): readonly CompareLine[] {
  return differences.map(({ id, first, second }) => ({
    type: "difference",
    sign: "positive",
    ...id,
    observed: comparedText(first),
    allowed: [comparedText(second)],
    boundedBy: null,
    first: null,
    replay: null,
  }));
}

type Output = { readonly json: JsonOutput<CompareLine>; readonly all: boolean };

function write({ json }: Output, lines: readonly CompareLine[], texts: readonly string[]): void {
  for (const line of lines) json.write(line);
  if (!json.isStdout) for (const text of texts) console.log(text);
}

function withModel(recorded: RecordedCases, kvm: KvmPart | null, output: Output): number {
  const today = new Map(loadScenarios().map(({ id, hash }) => [id, hash]));
  const comparisons: CaseComparison[] = [];
  for (const comparison of compareCases(recorded.observed, { today, kvm })) {
    write(output, caseLines(comparison), caseTexts(visibleData(comparison), output));
    comparisons.push(comparison);
  }
  const summary = summarize(comparisons, recorded);
  write(output, [summaryLine(summary)], summaryTexts(visibleData(summary), output));
  const { counts, orders, goneErrata } = summary;
  if (counts.positive > 0 || orders.different > 0 || goneErrata.length > 0) return exitCodes.unexpected;
  if (counts.bounded > 0) return exitCodes.inconclusive;
  return counts.same === 0 ? exitCodes.nothingRan : exitCodes.ok;
}

function withEachOther([first, second]: readonly [string, string], output: Output): number {
  const found = compareRuns(readRecorded(first).observed, readRecorded(second).observed);
  write(output, runLines(found), runTexts(visibleData(found)));
  if (found.differences.length > 0) return exitCodes.unexpected;
  return found.compared === 0 ? exitCodes.nothingRan : exitCodes.ok;
}

type Wanted = { readonly files: readonly string[]; readonly kvm: KvmPart | null };

async function compare(
  { files, kvm }: Wanted,
  recordAll: () => Promise<RecordedNow>,
  output: Output,
): Promise<number> {
  const [first, second] = files;
  if (first !== undefined && second !== undefined) return withEachOther([first, second], output);
  if (first !== undefined) return withModel(readRecorded(first), kvm, output);
  const { recorded, interruptedBy } = await recordAll();
  const code = withModel(recorded, kvm, output);
  return interruptedBy === null ? code : exitCodeOfSignal(interruptedBy);
}

export async function compareCommand(
  files: readonly string[],
  options: CompareCommandOptions,
  _style: Style,
): Promise<number> {
  const named = options.engines.split(",");
  const engines = named.filter((name) => !modelNames.includes(name));
  if (engines.length === named.length || engines.some((name) => !realNames.includes(name))) {
    const amount = realNames.length === 2 ? "both" : "more";
    throw new UsageError(
      `--engines ${options.engines}: ${modelNames.join(" or ")}, and one or ${amount} of ${realNames.join(" and ")}`,
    );
  }
  const kvm = options.kvm === undefined ? null : checkedKvm(options.kvm);
  if (files.length > 2)
    throw new UsageError("compare takes no file (runs now), one (with the model) or two (with each other)");
  declareInputs(files);
  const json = openJson<CompareLine>(options.json);
  try {
    const output = { json, all: options.all === true };
    return await compare({ files, kvm }, () => recordNow(engines, options), output);
  } catch (error) {
    if (error instanceof RecordingError) throw new UsageError(error.message);
    throw error;
  }
}
