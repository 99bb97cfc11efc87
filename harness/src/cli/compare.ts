/**
 * `daxfault compare`: is what was observed among what the model allows? Or: do two recorded runs agree?
 * Where a kernel's tracepoints were recorded: is their order one that the model has? Fails on a positive difference.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { exitCodes, type KvmPart, kvmParts } from "../../../language/src/index.ts";
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
import { loadScenarios } from "../fixtures.ts";
import { builtPath } from "../paths.ts";
import type { Style } from "../report/style.ts";
import type { CompareLine } from "./lines.ts";
import { type JsonOutput, openJson } from "./output.ts";
import { declareInputs } from "./output-file.ts";
import { readRuns } from "./report.ts";
import type { SourceOptions } from "./selection.ts";
import { UsageError } from "./usage.ts";

export type CompareCommandOptions = SourceOptions & {
  readonly engines: string;
  readonly json?: string;
  readonly all?: boolean;
  /** The proposal that the recorded kernel has built in; left out: it is a stock kernel. */
  readonly kvm?: string;
};

/** The cases of a run's JSON lines: those with observations, and those that were skipped. */
export function readRecorded(path: string): RecordedCases {
  return recordedCases(readRuns(path).flatMap((run) => run.results));
}

/** Runs the real engines now, in a process of its own, and reads what it recorded. */
function recordNow(
  engines: readonly string[],
  { scenarios = [], proposals = [] }: SourceOptions,
): RecordedCases {
  const directory = mkdtempSync(join(tmpdir(), "daxfault-compare-"));
  try {
    const file = join(directory, "run.jsonl");
    const main = builtPath("harness/src/cli/main.ts");
    const sources = [
      ...scenarios.flatMap((folder) => ["--scenarios", folder]),
      ...proposals.flatMap((path) => ["--proposals", path]),
    ];
    const args = [main, "run", "--engine", ...engines, "--json", file, ...sources];
    const done = spawnSync(process.execPath, args, { stdio: ["ignore", "ignore", "inherit"] });
    if (done.status === null || done.status >= exitCodes.usage) {
      throw new UsageError(
        `daxfault run --engine ${engines.join(" ")} ended with ${done.status ?? done.signal}`,
      );
    }
    return readRecorded(file);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
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
    write(output, caseLines(comparison), caseTexts(comparison, output));
    comparisons.push(comparison);
  }
  const summary = summarize(comparisons, recorded);
  write(output, [summaryLine(summary)], summaryTexts(summary, output));
  const { counts, orders, goneErrata } = summary;
  if (counts.positive > 0 || orders.different > 0 || goneErrata.length > 0) return exitCodes.unexpected;
  if (counts.bounded > 0) return exitCodes.inconclusive;
  return counts.same === 0 ? exitCodes.nothingRan : exitCodes.ok;
}

function withEachOther([first, second]: readonly [string, string], output: Output): number {
  const found = compareRuns(readRecorded(first).observed, readRecorded(second).observed);
  write(output, runLines(found), runTexts(found));
  if (found.differences.length > 0) return exitCodes.unexpected;
  return found.compared === 0 ? exitCodes.nothingRan : exitCodes.ok;
}

type Wanted = { readonly files: readonly string[]; readonly kvm: KvmPart | null };

function compare({ files, kvm }: Wanted, recordAll: () => RecordedCases, output: Output): number {
  const [first, second] = files;
  if (first !== undefined && second !== undefined) return withEachOther([first, second], output);
  return withModel(first === undefined ? recordAll() : readRecorded(first), kvm, output);
}

export function compareCommand(
  files: readonly string[],
  options: CompareCommandOptions,
  _style: Style,
): number {
  const named = options.engines.split(",");
  const engines = named.filter((name) => !modelNames.includes(name));
  if (engines.length === named.length || engines.some((name) => !realNames.includes(name))) {
    const amount = realNames.length === 2 ? "both" : "more";
    throw new UsageError(
      `--engines ${options.engines}: ${modelNames.join(" or ")}, and one or ${amount} of ${realNames.join(" and ")}`,
    );
  }
  const kvm = kvmParts.find((part) => part === options.kvm) ?? null;
  if (options.kvm !== undefined && kvm === null) {
    throw new UsageError(`--kvm ${options.kvm}: one of ${kvmParts.join(", ")}`);
  }
  if (files.length > 2)
    throw new UsageError("compare takes no file (runs now), one (with the model) or two (with each other)");
  declareInputs(files);
  const json = openJson<CompareLine>(options.json);
  try {
    const output = { json, all: options.all === true };
    return compare({ files, kvm }, () => recordNow(engines, options), output);
  } catch (error) {
    if (error instanceof RecordingError) throw new UsageError(error.message);
    throw error;
  } finally {
  }
}
