/**
 * The answer of a run, on one screen: what becomes of a lost page today and with each proposal, on real runs; what was
 * found; what is not as expected; where the rest is. `text.ts` has all of it. Makes text only.
 */
import { defects, ENDLESS_LOOP, needsAttention, severity } from "../../../language/src/index.ts";
import { briefQuestions, type ComparedRow } from "../compare/comparison.ts";
import { replayCommand } from "../run/plan.ts";
import type { CaseResult } from "../run/result.ts";
import { isMicro } from "./answers.ts";
import { visibleData } from "./encode.ts";
import { findingsOf } from "./findings.ts";
import { type Grid, renderGrid } from "./grid.ts";
import type { Report } from "./report.ts";
import { contradictionsText } from "./scorecard.ts";
import { columnsOf, paragraph, type Style, wrap } from "./style.ts";
import {
  alikeCases,
  gapsText,
  grouped,
  headText,
  oneLine,
  plural,
  repeatedText,
  skippedText,
  summaryText,
  tableText,
} from "./text.ts";

/** What a run prints fits a screen of so many lines, at 100 columns. */
export const SCREEN_LINES = 60;
/** A table of cases that has no more lines is the answer to what was asked. */
const TABLE_LINES_MAX = 16;

/** Skipped for no more reasons than this, each reason is said. */
const SKIP_REASONS_MAX = 3;

/** Words of a cell: `SIGBUS MCEERR_AR`, `VM loops`; what became of the VM or the guest's kernel is all that counts. */
export function answerWord(words: readonly string[]): string {
  const [access = "", ...grave] = words;
  if (grave.some((word) => word.startsWith("kernel "))) {
    const kernel = grave.find((word) => word.startsWith("kernel ")) ?? "";
    return kernel === "kernel panic" ? "guest panics" : `guest ${kernel.slice("kernel ".length)}`;
  }
  const [vmm] = grave;
  if (vmm !== undefined) {
    if (vmm.startsWith("VMM looping")) return "VM hangs";
    if (vmm.startsWith("VMM stopped")) return "VM stops";
    return vmm;
  }
  const signal = /^(sig[a-z]+)(?:\((?:BUS_|SEGV_)?([A-Z_a-z]+)\))?$/.exec(access);
  if (signal === null) return access === "efault" ? "EFAULT" : access;
  const [, name = "", code = ""] = signal;
  return `${name.toUpperCase()}${code === "" || code === "unobserved" ? "" : ` ${code}`}`;
}

/** The process is told of the loss, and nothing else is harmed. */
export function isContained(words: readonly string[]): boolean {
  return words.length === 1 && /^(?:sigbus|sigsegv|efault)\b/.test(words[0] ?? "");
}

type Length = "full" | "short";

/** `short`: the signal without its code. */
function answerCell(words: readonly string[], length: Length, style: Style): string {
  if (words.length === 0) return "";
  const word = answerWord(words);
  const text = length === "short" ? word.replace(/^(SIG[A-Z]+) .*/, "$1") : word;
  return style.verdict(isContained(words) ? "pass" : "fail", text);
}

function sourceText({ kernels, source, day }: ComparedRow): string {
  return source === "this run" ? `${kernels}, this run` : `${kernels}, recorded ${day}`;
}

/** What stands under a row: what has to change, and where the row is from. What has changed is said once. */
function underRow(row: ComparedRow): string {
  const changes = row.changes.length === 0 ? "nothing changed" : `changes ${row.changes.join(" and ")}`;
  return `${row.proposal}: ${changes}; Linux ${sourceText(row).replaceAll(" with its patch", "")}`;
}

/** Head, rule, and a line a row. A micro-guest's row stands below that of a Linux guest. */
function answerTable(rows: readonly ComparedRow[], length: Length, style: Style): readonly string[] {
  const grid: Grid = {
    head: ["", ...briefQuestions.map((title) => (length === "short" ? title.replace(/ .*/, "") : title))],
    rows: rows.map((row) => {
      const name = isMicro(row) ? "  this run: micro-guest" : row.title;
      return [[name], ...row.cells.map((words) => [answerCell(words, length, style)])];
    }),
  };
  return renderGrid(grid, style).split("\n");
}

/** Below each row of the table, over the whole width, what it is. */
function answerLines(rows: readonly ComparedRow[], length: Length, style: Style): readonly string[] {
  const [head = "", rule = "", ...lines] = answerTable(rows, length, style);
  const under = (row: ComparedRow): readonly string[] =>
    paragraph(underRow(row), style.widthColumns, { first: 2, rest: 4 }).map(style.dim);
  return [
    head,
    rule,
    ...rows.flatMap((row, index) => [lines[index] ?? "", ...(isMicro(row) ? [] : under(row))]),
  ];
}

/** For a narrow terminal: row by row. */
function answerList(rows: readonly ComparedRow[], style: Style): readonly string[] {
  return rows.flatMap((row) => [
    ...paragraph(`${row.title} (${row.proposal}; ${sourceText(row)})`, style.widthColumns, {
      first: 0,
      rest: 2,
    }),
    ...row.cells.flatMap((words, index) =>
      words.length === 0 ? [] : [`  ${briefQuestions[index]}: ${answerCell(words, "full", style)}`],
    ),
  ]);
}

/** Of how many accesses only the process is harmed, by the Linux guests' rows, best first. */
function helpText(rows: readonly ComparedRow[]): string {
  const counted = rows
    .filter((row) => !isMicro(row))
    .map(({ title, cells }) => {
      const asked = cells.filter((words) => words.length > 0);
      const held = asked.filter(isContained).length;
      return { text: `${title} ${held} of ${asked.length}`, held };
    });
  const best = counted.toSorted((a, b) => b.held - a.held).map(({ text }) => text);
  return best.length === 0 ? "" : `Only the process is harmed, best first: ${best.join(", ")} accesses.`;
}

/** How the recorded rows are had again. */
function recordedNote(rows: readonly ComparedRow[]): string | null {
  const recorded = rows.filter(({ source }) => source === "recorded");
  if (recorded.length === 0) return null;
  const hosts = [...new Set(recorded.map(({ host }) => host))].join(", ");
  return (
    `Recorded on KVM of Linux ${hosts} in a VM (fixtures/linux-guest). Again: daxfault run load-after-truncate ` +
    "-e linux -k debian:6.12 -p apf-guest; of what changes KVM: -k debian:6.12+PROPOSAL."
  );
}

export const answersTitle =
  "The host truncates a file; a process of the guest has it mapped, and on a lost page";

/** In the widest form that fits: a table with the signals' codes, without them, a list. */
function answerForm(rows: readonly ComparedRow[], style: Style): readonly string[] {
  const forms = (["full", "short"] as const).map((length) => answerLines(rows, length, style));
  const fits = (lines: readonly string[]): boolean =>
    lines.every((line) => columnsOf(line) <= style.widthColumns);
  return forms.find(fits) ?? answerList(rows, style);
}

/** The table alone, with the sentence that counts it: for a page that shows what a run prints. */
export function answersExcerpt(rows: readonly ComparedRow[], style: Style): string {
  return [
    answersTitle,
    ...answerTable(rows, "full", style),
    ...wrap(helpText(rows), style.widthColumns),
  ].join("\n");
}

/** What becomes of a lost page, row by row. null: there is no row. */
export function answersBrief(rows: readonly ComparedRow[], style: Style): string | null {
  if (rows.length === 0) return null;
  const note = recordedNote(rows);
  const help = helpText(rows);
  return [
    ...wrap(answersTitle, style.widthColumns).map(style.bold),
    ...answerForm(rows, style),
    ...(help === "" ? [] : wrap(help, style.widthColumns)),
    ...(note === null ? [] : wrap(note, style.widthColumns).map(style.dim)),
  ].join("\n");
}

/** Defects of a kernel, as this run saw them; the loop, where nothing real ran, as it is recorded. */
export function findingsBrief(
  { results, compared }: Pick<Report, "results" | "compared">,
  style: Style,
): string | null {
  const seen = findingsOf(results).map(({ id, text, source, cases }) => {
    const [first] = cases;
    const command = first === undefined ? null : replayCommand(first.planned);
    return { title: `${id} (${plural(cases.length, "case")})`, text, source, command };
  });
  const hasKvm = results.some(({ planned, result }) => planned.nature.runsKvm && result !== null);
  const isRecorded =
    !hasKvm &&
    compared.some(({ source, cells }) => source === "recorded" && cells.flat().includes("VMM looping"));
  const loop = defects.find(({ id }) => id === ENDLESS_LOOP);
  const known =
    !isRecorded || loop === undefined
      ? []
      : [
          {
            title: `${loop.id} (recorded, not run here)`,
            text: loop.text,
            source: loop.source,
            command: "daxfault run hang-without-apf --kernel debian:6.12",
          },
        ];
  const findings = [...seen, ...known];
  if (findings.length === 0) return null;
  return [
    style.bold("Findings: defects of KVM"),
    ...findings.flatMap(({ title, text, source, command }) => [
      ...paragraph(`${title}: ${text}`, style.widthColumns, { first: 2, rest: 4 }),
      ...paragraph(source, style.widthColumns, { first: 4, rest: 4 }).map(style.dim),
      ...(command === null ? [] : [style.dim(`    ${command}`)]),
    ]),
  ].join("\n");
}

/** What was skipped: reason by reason where they are few, else how many and the commonest. */
function skippedBrief(results: readonly CaseResult[], style: Style): string | null {
  const skipped = results.filter(({ verdict }) => verdict.kind === "skip");
  const reasons = [...grouped(skipped)].toSorted(([, a], [, b]) => b.length - a.length);
  if (reasons.length <= SKIP_REASONS_MAX) return skippedText(results, style);
  const [[reason, group] = ["", []]] = reasons;
  const support = group[0]?.planned.support;
  const fix = support?.kind === "no" && support.fix !== null ? ` (do: ${support.fix})` : "";
  const text = `${plural(skipped.length, "case")} skipped, for ${reasons.length} reasons; ${group.length} of them: ${reason}${fix}`;
  return paragraph(text, style.widthColumns, { first: 0, rest: 2 }).join("\n");
}

/** A console that is quoted may be long: its end is in the whole report. What to do is in the first lines. */
const REASON_LINES_MAX = 4;

function reasonLines(reason: string, widthColumns: number): readonly string[] {
  const lines = paragraph(reason.replaceAll(/\s+/g, " "), widthColumns, { first: 4, rest: 4 });
  if (lines.length <= REASON_LINES_MAX) return lines;
  const rest = lines.slice(REASON_LINES_MAX - 1).map((line) => line.trim());
  return [
    ...lines.slice(0, REASON_LINES_MAX - 1),
    `    ${oneLine(rest.join(" "), Math.max(20, widthColumns - 4))}`,
  ];
}

/** What needs attention, gravest first; as many as there are lines for, and how many are left. */
function attentionBrief(results: readonly CaseResult[], style: Style, lines: number): string | null {
  const attention = results
    .filter(({ verdict }) => needsAttention(verdict.kind))
    .sort((a, b) => severity(b.verdict.kind) - severity(a.verdict.kind));
  if (attention.length === 0) return null;
  const shown: string[] = [];
  let left = attention.length;
  for (const alike of alikeCases(attention)) {
    const [first] = alike;
    const more = [
      headText(alike, style),
      ...reasonLines(first.verdict.reason, style.widthColumns),
      `    replay: ${alike.length === 1 ? "" : "such as "}${replayCommand(first.planned)}`,
    ];
    if (shown.length > 0 && lineCount([...shown, ...more]) > lines - 2) break;
    shown.push(...more);
    left -= alike.length;
  }
  if (left > 0) shown.push(`and ${plural(left, "more case")}`);
  return [style.bold("Not as expected, or without proof"), ...shown].join("\n");
}

const lineCount = (parts: readonly string[]): number =>
  parts.reduce((sum, part) => sum + part.split("\n").length, 0);

/** The cases themselves where they are few; null: they are many, or nothing of them ran. */
function casesBrief(results: readonly CaseResult[], style: Style): string | null {
  if (!results.some(({ verdict }) => verdict.kind !== "skip")) return "Nothing ran.";
  const table = tableText(results, style);
  return lineCount([table]) <= TABLE_LINES_MAX ? table : null;
}

export type BriefOptions = {
  /** Lines that say where all of it is. */
  readonly whole: readonly string[];
  /** How many lines of the screen are printed already. */
  readonly printedLines: number;
};

/** Everything after the last case, on what is left of one screen. */
export function briefText(recorded: Report, style: Style, { whole, printedLines }: BriefOptions): string {
  const report = visibleData(recorded);
  const { results } = report;
  const known = results.filter(({ verdict }) => verdict.kind === "xfail").length;
  const cases = casesBrief(results, style);
  // Of a few cases those are what was asked.
  const isAsked = cases === null || report.compared.some((row) => row.source === "this run" && !isMicro(row));
  const compared = isAsked ? report.compared : [];
  const above = [
    report.gaps.length === 0 ? null : gapsText(report, style),
    cases,
    answersBrief(compared, style),
    findingsBrief({ results, compared }, style),
    contradictionsText(report.contradictions, style),
  ].filter((part) => part !== null);
  const below = [
    repeatedText(results, style),
    skippedBrief(results, style),
    [
      ...(known === 0 ? [] : [`${plural(known, "known deviation")} (fixtures/errata.json)`]),
      summaryText(report, style),
      ...whole.flatMap((line) => wrap(line, style.widthColumns)).map(style.dim),
    ].join("\n"),
  ].filter((part) => part !== null);
  const blank = above.length + below.length + 1;
  const room = SCREEN_LINES - printedLines - lineCount([...above, ...below]) - blank;
  const attention = attentionBrief(results, style, room);
  return [...above, ...(attention === null ? [] : [attention]), ...below].join("\n\n");
}
