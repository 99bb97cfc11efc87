/** `daxfault repro ID`: runs one case, prints its events as they happen, and leaves a folder that can be sent to others. */
import { join } from "node:path";
import { placeName, proposals as presets, type TraceEvent } from "../../../language/src/index.ts";
import { engineNames } from "../engines/registry.ts";
import { loadErrata } from "../fixtures.ts";
import { loadPlaces } from "../machines/places.ts";
import { version } from "../paths.ts";
import { visible, visibleData } from "../report/encode.ts";
import { defectOf } from "../report/findings.ts";
import { htmlPage } from "../report/html/page.ts";
import { makeRecorder } from "../report/recorder.ts";
import type { Report } from "../report/report.ts";
import { counterLines, eventLine, expectedLines, seenLines, setupLines, unitOf } from "../report/story.ts";
import { paragraph, type Style, styleFor } from "../report/style.ts";
import { caseTitle, summaryText } from "../report/text.ts";
import { bundleFiles } from "../repro/bundle.ts";
import { readEnvironment } from "../repro/environment.ts";
import { BundleError, BundleFolder } from "../repro/folder.ts";
import { generateReproducer } from "../repro/reproducer.ts";
import { type Place, type PlannedCase, plan, shellWord } from "../run/plan.ts";
import type { CaseResult } from "../run/result.ts";
import { runPlan } from "../run/run-plan.ts";
import { everything, openTrace, type TraceSession, type TraceText } from "../tracing/tracefs.ts";
import { printDefects } from "./defects.ts";
import { progressObserver } from "./output.ts";
import { readyKernels } from "./ready-kernels.ts";
import { TIMEOUT_MAX_S } from "./run.ts";
import { makeSelection, type Selection, type SelectionOptions } from "./selection.ts";
import { parseCount, UsageError } from "./usage.ts";

export type ReproCommandOptions = SelectionOptions & {
  readonly out?: string;
  readonly timeout: string;
};

/** The nearer to reality, the better a reproduction; the model is for proposals that no kernel has. */
const placePreference: readonly string[] = engineNames.toReversed();

type Choice = {
  readonly planned: PlannedCase;
  readonly others: number;
  /** Why it is on no engine nearer to reality; null: it is on the nearest there is for it. */
  readonly regret: string | null;
};

/**
 * The one case that an id stands for: what can run here, on the most real engine, and of the proposals one whose
 * expectation names a defect of the kernel, since that is what one wants to reproduce.
 */
function chooseCase(cases: readonly PlannedCase[], { catalogue }: Selection): Choice {
  const able = cases.filter(({ support }) => support.kind === "yes");
  const placeOf = (planned: PlannedCase): number => {
    const place = placePreference.indexOf(placeName(planned));
    return place < 0 ? placePreference.length : place;
  };
  const rank = (planned: PlannedCase): number => {
    return 2 * placeOf(planned) + (catalogue.expectationOf(planned)?.defect == null ? 1 : 0);
  };
  const [best] = [...able].sort((a, b) => rank(a) - rank(b));
  if (best !== undefined) {
    const missed = cases.find((one) => one.support.kind === "no" && placeOf(one) < placeOf(best));
    const support = missed?.support;
    const fix = support?.kind === "no" && support.fix !== null ? ` (mended by: ${support.fix})` : "";
    const regret =
      support?.kind === "no" ? `Nothing nearer to reality can run here: ${support.reason}${fix}` : null;
    return { planned: best, others: able.length - 1, regret };
  }
  const reasons = new Set(
    cases.map((planned) => {
      const { support } = planned;
      return support.kind === "no" ? `${placeName(planned)}: ${support.reason}` : placeName(planned);
    }),
  );
  throw new UsageError(`no case of it can run here: ${[...reasons].join("; ")} (daxfault doctor)`);
}

function printSection(title: string, lines: readonly string[], style: Style): void {
  console.log(style.bold(title));
  for (const line of lines) {
    for (const one of paragraph(line, style.widthColumns, { first: 2, rest: 4 })) console.log(one);
  }
  console.log("");
}

/** Tells events as they come; the guest's own come with its report. */
class EventPrinter {
  readonly #printed = new Set<string>();
  readonly #unit: "ms" | "steps";
  readonly #columns: number;

  constructor(unit: "ms" | "steps", { widthColumns }: Style) {
    this.#unit = unit;
    this.#columns = widthColumns;
  }

  #printLine(event: TraceEvent): void {
    const text = visible(eventLine(event, this.#unit));
    const first = 2 + text.length - text.trimStart().length;
    for (const line of paragraph(text.trimStart(), this.#columns, { first, rest: 15 })) console.log(line);
  }

  print(event: TraceEvent): void {
    this.#printed.add(`${event.kind} ${event.actor} ${event.atMs}`);
    this.#printLine(event);
  }

  /** Prints the events not printed yet. At most `most`: a loop has thousands. */
  printRest(events: readonly TraceEvent[], most = 40): void {
    const rest = events.filter(({ kind, actor, atMs }) => !this.#printed.has(`${kind} ${actor} ${atMs}`));
    if (rest.length > 0 && this.#printed.size > 0) console.log("  and as the guest and the VMM saw it:");
    for (const event of rest.slice(0, most)) this.#printLine(event);
    if (rest.length > most) console.log(`  ${rest.length - most} more are in the bundle`);
  }
}

function printResult(recorded: CaseResult, style: Style): void {
  const result = visibleData(recorded);
  const { planned, verdict, expectation } = result;
  if (result.result?.kind === "evidence") {
    const { evidence } = result.result;
    printSection("Seen", seenLines(planned.scenario, evidence), style);
    const counters = counterLines(evidence);
    if (counters.length > 0) printSection("KVM's counters", [counters.slice(0, 8).join(" ")], style);
  }
  printSection("Expected", expectedLines(expectation), style);
  const defect = defectOf(result);
  const finding = defect === null ? [] : [`${defect.id}: ${defect.text} (${defect.source})`];
  printSection(
    "Verdict",
    [`${style.verdict(verdict.kind, verdict.kind)}: ${verdict.reason}`, ...finding],
    style,
  );
}

/** Opens or fills the folder of `--out`; a place that is refused is a usage error. */
function withFolder<Value>(body: () => Value): Value {
  try {
    return body();
  } catch (error) {
    if (error instanceof BundleError) throw new UsageError(`--out ${error.message}`);
    throw error;
  }
}

function intro(chosen: Choice, style: Style): void {
  const { planned, others, regret } = visibleData(chosen);
  const { scenario, proposal } = planned;
  const flat = (text: string): readonly string[] =>
    paragraph(text, style.widthColumns, { first: 0, rest: 2 });
  for (const line of flat(caseTitle({ planned }))) console.log(style.bold(line));
  for (const line of [scenario.purpose, `${proposal.id}: ${proposal.title}`].flatMap(flat)) console.log(line);
  for (const line of regret === null ? [] : flat(regret)) console.log(style.verdict("inconclusive", line));
  if (others > 0) {
    const choice = `(one of ${others + 1} cases that can run here; choose with --proposal and --engine)`;
    for (const line of flat(choice)) console.log(style.dim(line));
  }
  console.log("");
  printSection("Set-up", setupLines(scenario), style);
}

type Work = {
  readonly choice: Choice;
  readonly selection: Selection;
  readonly places: readonly Place[];
  readonly timeoutMs: number;
};

type Ran = {
  readonly report: Report;
  readonly lines: readonly unknown[];
  readonly trace: TraceText;
  readonly printer: EventPrinter;
};

/** Runs the case, and prints its events as they come. */
async function runCase({ choice, selection, places, timeoutMs }: Work, style: Style): Promise<Ran> {
  const recorder = makeRecorder(null);
  const printer = new EventPrinter(unitOf({ planned: choice.planned }), style);
  let session: TraceSession | null = null;
  let trace: TraceText = { kind: "none", reason: "the case did not begin" };
  const limits = { shard: null, repeat: 1, jobs: 1, timeoutMs };
  const { expectationOf } = selection.catalogue;
  const { planned } = choice;
  // A booted kernel's tracepoints are in its evidence.
  const isTraced = planned.nature.runsKvm && planned.machine === "here";
  const end = await runPlan(
    { cases: [planned], places, limits, expectationOf, errata: loadErrata(), consoles: "all" },
    [
      recorder.observer,
      progressObserver(1),
      {
        onEvent: (event) => printer.print(event),
        onBegin({ runDirectory }) {
          session = isTraced ? openTrace(runDirectory, everything) : null;
        },
        onEnd() {
          trace = session?.finish() ?? { kind: "none", reason: `engine ${placeName(planned)} runs no KVM` };
        },
      },
    ],
  );
  return { report: recorder.finish(end), lines: recorder.lines, trace, printer };
}

type Output = { readonly folder: BundleFolder; readonly name: string; readonly style: Style };

/** Runs the case, prints it and fills the folder. Returns the exit code of the run. */
async function reproduce(work: Work, { folder, name, style }: Output): Promise<number> {
  intro(work.choice, style);
  console.log(style.bold("What happens"));
  const { report, lines, trace, printer } = await runCase(work, style);
  const [result] = report.results;
  if (result === undefined) {
    console.log(summaryText(report, style));
    return report.exitCode;
  }
  if (result.result?.kind === "evidence") printer.printRest(result.result.evidence.trace);
  console.log("");
  printResult(result, style);
  const reproducer = generateReproducer(result, version());
  const html = await htmlPage(report);
  const environment = readEnvironment();
  const { timeoutMs } = work;
  const bundle = { report, result, lines, trace, environment, reproducer, timeoutMs, html };
  const files = bundleFiles(
    bundle,
    presets.map((preset) => preset.id),
  );
  withFolder(() => folder.commit(files));
  printSection(visible(`Bundle in ${name}`), [files.map((file) => file.name).join("  ")], style);
  if (reproducer.kind === "none") {
    const why = visible(`No reproducer.c: ${reproducer.reason}.`);
    for (const line of paragraph(why, style.widthColumns, { first: 0, rest: 2 })) console.log(line);
  } else {
    const source = visible(shellWord(join(name, "reproducer.c")));
    console.log(`Without daxfault: gcc -O2 -Wall -Wextra -o reproducer ${source} && ./reproducer`);
  }
  printDefects("daxfault", report.defects);
  console.log(summaryText(report, style));
  return report.exitCode;
}

/** Returns the exit code of the run. */
export async function reproCommand(id: string, options: ReproCommandOptions): Promise<number> {
  const selection = makeSelection([id], options);
  const [first, second] = selection.scenarios;
  if (first === undefined || second !== undefined) {
    const names = selection.scenarios.slice(0, 6).map(({ scenario }) => scenario.id);
    throw new UsageError(
      `${JSON.stringify(id)} is ${selection.scenarios.length} scenarios (${names.join(", ")} ..): name one`,
    );
  }
  const timeoutMs = 1000 * parseCount("--timeout", options.timeout, 1, TIMEOUT_MAX_S);
  const interrupted = await readyKernels(selection);
  if (interrupted !== null) return interrupted;
  const places = await loadPlaces(selection);
  const choice = chooseCase(plan(selection.scenarios, selection.proposals, places), selection);
  const name = options.out ?? `daxfault-repro-${first.scenario.id.replaceAll("/", "-")}`;
  const folder = withFolder(() => new BundleFolder(name));
  try {
    return await reproduce(
      { choice, selection, places, timeoutMs },
      { folder, name, style: styleFor(process.stdout) },
    );
  } finally {
    folder.discard();
  }
}
