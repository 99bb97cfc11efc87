/**
 * The report as text: attestation, table scenario x proposal, what was skipped and why, what was not as expected,
 * findings, the answers on Linux guests, scorecard, counts. Makes text only; the caller prints it.
 */
import {
  type Attestation,
  exitCodes,
  exitCodeText,
  needsAttention,
  type Proposal,
  placeName,
  type Scenario,
  severity,
  signalOfExitCode,
  type Verdict,
  type VerdictKind,
} from "../../../language/src/index.ts";
import type { RunInfo } from "../run/observer.ts";
import { replayCommand } from "../run/plan.ts";
import { type CaseResult, runsOf } from "../run/result.ts";
import { answersText } from "./answers.ts";
import { builtText } from "./built.ts";
import { cellLines, glyphs } from "./cells.ts";
import { visible, visibleData } from "./encode.ts";
import { findingsOf, findingsTitle } from "./findings.ts";
import { cutGrid, type Grid, gridWidth, renderGrid } from "./grid.ts";
import { engineNamer, proposalsOf, type Report, scenariosOf } from "./report.ts";
import { contradictionsText, scorecardText } from "./scorecard.ts";
import { isNarrow, paragraph, type Style, wrap } from "./style.ts";

/** Of KVM's hundred capabilities, those that decide which way a fault goes. */
const capabilitiesThatMatter: readonly string[] = [
  "KVM_CAP_ASYNC_PF",
  "KVM_CAP_ASYNC_PF_INT",
  "KVM_CAP_MEMORY_FAULT_INFO",
  "KVM_CAP_X86_DISABLE_EXITS",
  "KVM_CAP_MCE",
];

export function capabilityText(attestation: Attestation): string {
  const known = capabilitiesThatMatter.filter((name) => name in attestation.capabilities);
  return known
    .map((name) => `${name.replace("KVM_CAP_", "")}=${attestation.capabilities[name] ?? 0}`)
    .join(" ");
}

/** The attestations of the run: each engine, and its machine. */
export function attestationText(recorded: RunInfo, style: Style): string {
  const info = visibleData(recorded);
  const lines = [
    `${style.bold("daxfault")} on Linux ${info.kernel}, Node ${info.node}, page size ${info.pageSize}`,
    `  files     ${info.runDirectory} on ${info.fileSystem}`,
    ...(info.busy === 0 ? [] : [`  beside    ${plural(info.busy, "CPU hog")} (--busy)`]),
    ...info.attestations.flatMap(engineLines),
  ];
  return attestationLines(lines, style).join("\n");
}

/** Lines as those of `engineLines`, in the terminal's width. */
export function attestationLines(lines: readonly string[], { widthColumns }: Style): readonly string[] {
  return lines.flatMap((line) => {
    const text = line.trimStart();
    const first = line.length - text.length;
    return paragraph(text, widthColumns, { first, rest: Math.min(12, first + 4) });
  });
}

/** Which of KVM's parameters decide how a fault is taken. */
const parametersThatMatter = ["kvm_amd.npt", "kvm_intel.ept"];

/** One engine, or one booted kernel. */
export function engineLines(attestation: Attestation): readonly string[] {
  const { engine, kernel, kvmBackend, kvmParameters, vm } = visibleData(attestation);
  const paging = parametersThatMatter
    .filter((name) => name in kvmParameters)
    .map((name) => `${name.split(".")[1]}=${kvmParameters[name]} `);
  const kvm =
    kvmBackend === null ? "no VM" : `${kvmBackend} ${paging.join("")}${capabilityText(attestation)}`;
  if (vm === null) return [`  ${engine.padEnd(9)} ${kvm}`];
  const built = builtText(vm);
  const machine = `QEMU ${vm.qemu} with ${vm.accelerator}, ${vm.cpus} CPUs, ${vm.memoryMiB} MiB`;
  return [
    `  kernel    ${vm.kernel}: Linux ${kernel} (${vm.origin})`,
    ...(built === null ? [] : [`            ${built}`]),
    `            ${kvm}`,
    `            in ${machine}`,
  ];
}

/** The results of one scenario and proposal, usually one: another for each engine. */
function resultsAt(
  results: readonly CaseResult[],
  scenario: Scenario,
  proposal: Proposal,
): readonly CaseResult[] {
  return results.filter(
    ({ planned }) => planned.scenario.id === scenario.id && planned.proposal.id === proposal.id,
  );
}

type Namer = (result: CaseResult) => string;

function cellOf(results: readonly CaseResult[], nameOf: Namer, style: Style): readonly string[] {
  return results.flatMap((result) =>
    cellLines(result, results.length > 1 ? nameOf(result) : null).map((line) =>
      style.verdict(result.verdict.kind, line),
    ),
  );
}

/** Results that ran: skipped ones are listed by their reasons. */
function ran(results: readonly CaseResult[]): readonly CaseResult[] {
  return results.filter(({ verdict }) => verdict.kind !== "skip");
}

function tableGrid(results: readonly CaseResult[], style: Style): Grid {
  const columns = proposalsOf(results);
  const nameOf = engineNamer(results);
  return {
    head: ["scenario", ...columns.map(({ id }) => id)].map(style.bold),
    rows: scenariosOf(results).map((scenario) => [
      [scenario.id],
      ...columns.map((proposal) => cellOf(resultsAt(results, scenario, proposal), nameOf, style)),
    ]),
  };
}

/** The ids, in lines of at most `width` characters: broken behind `/` and `-`, where an id may be broken for reading. */
function withNarrowIds({ head, rows }: Grid, width: number): Grid {
  return { head, rows: rows.map(([id, ...cells]) => [wrapId(id?.[0] ?? "", width), ...cells]) };
}

function wrapId(id: string, width: number): readonly string[] {
  const lines: string[] = [];
  let line = "";
  for (const piece of id.split(/(?<=[-/])/)) {
    if (line !== "" && line.length + piece.length > width) {
      lines.push(line);
      line = "";
    }
    line += piece;
  }
  return [...lines, line];
}

function listText(results: readonly CaseResult[], style: Style): string {
  const nameOf = engineNamer(results);
  const lines: string[] = [];
  for (const scenario of scenariosOf(results)) {
    lines.push(style.bold(scenario.id));
    for (const proposal of proposalsOf(results)) {
      const [first, ...rest] = cellOf(resultsAt(results, scenario, proposal), nameOf, style);
      if (first === undefined) continue;
      if (isNarrow(style))
        lines.push(`  ${proposal.id}`, `    ${first}`, ...rest.map((line) => `    ${line}`));
      else {
        lines.push(`  ${proposal.id.padEnd(13)} ${first}`);
        for (const line of rest) lines.push(`  ${" ".repeat(13)} ${line}`);
      }
    }
  }
  return lines.join("\n");
}

/** Narrower than this, ids are no longer readable. */
const ID_COLUMNS_MIN = 20;
/** What ids get where the table has to be cut anyway. */
const ID_COLUMNS_CUT = 28;

/** As one table, with ids in several lines if need be; else cut into several; else, on a narrow terminal, as a list. */
function layOut(results: readonly CaseResult[], style: Style): string {
  const grid = tableGrid(results, style);
  const excess = gridWidth(grid) - style.widthColumns;
  if (excess <= 0) return renderGrid(grid, style);
  const idColumns = Math.max(...results.map(({ planned }) => planned.scenario.id.length)) - excess;
  if (idColumns >= ID_COLUMNS_MIN) return renderGrid(withNarrowIds(grid, idColumns), style);
  const pieces = cutGrid(withNarrowIds(grid, ID_COLUMNS_CUT), style.widthColumns);
  // A first piece with one proposal only compares nothing: a list has the same content in less room.
  if ((pieces[0]?.head.length ?? 0) <= 2) return listText(results, style);
  return pieces.map((piece) => renderGrid(piece, style)).join("\n\n");
}

/** The main table, or a list by scenario where the terminal is too narrow for it. */
export function tableText(results: readonly CaseResult[], style: Style): string {
  const shown = ran(results);
  if (shown.length === 0) return "Nothing ran.";
  const legend = Object.entries(glyphs)
    .filter(([kind]) => kind !== "skip")
    .map(([kind, glyph]) => `${glyph} ${kind}`)
    .join("  ");
  return `${layOut(shown, style)}\n\n${style.dim(wrap(legend, style.widthColumns).join("\n"))}`;
}

export function grouped(results: readonly CaseResult[]): ReadonlyMap<string, readonly CaseResult[]> {
  const groups = new Map<string, CaseResult[]>();
  for (const result of results) {
    const group = groups.get(result.verdict.reason) ?? [];
    group.push(result);
    groups.set(result.verdict.reason, group);
  }
  return groups;
}

/** Skipped cases by reason. */
export function skippedText(results: readonly CaseResult[], style: Style): string | null {
  const skipped = results.filter(({ verdict }) => verdict.kind === "skip");
  if (skipped.length === 0) return null;
  const lines = [style.bold(`${plural(skipped.length, "case")} skipped`)];
  for (const [reason, group] of grouped(skipped)) {
    const head = String(group.length).padStart(3);
    lines.push(...paragraph(`${head}  ${reason}`, style.widthColumns, { first: 2, rest: 7 }));
    const first = group[0]?.planned;
    if (first?.support.kind === "no" && first.support.fix !== null)
      lines.push(...paragraph(`fix: ${first.support.fix}`, style.widthColumns, { first: 7, rest: 9 }));
    if (first !== undefined)
      lines.push(style.dim(`       ${group.length > 1 ? "such as: " : ""}${replayCommand(first)}`));
  }
  return lines.join("\n");
}

/** `1 case`, `2 cases`. */
export function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

export function caseTitle({ planned }: Pick<CaseResult, "planned">): string {
  return visible(`${planned.scenario.id} x ${planned.proposal.id} x ${placeName(planned)}`);
}

function kindText(verdict: Verdict): string {
  return verdict.kind === "inconclusive" ? `inconclusive (${verdict.cause})` : verdict.kind;
}

/** Cases of one engine with the same text. */
export type Alike = readonly [CaseResult, ...CaseResult[]];

export function headText([result, ...others]: Alike, style: Style): string {
  const { verdict, planned } = result;
  const title =
    others.length === 0 ? caseTitle(result) : `${plural(others.length + 1, "case")} on ${placeName(planned)}`;
  const text = `${glyphs[verdict.kind]} ${kindText(verdict)}: ${title}`;
  return paragraph(text, style.widthColumns, { first: 0, rest: 2 })
    .map((line) => style.verdict(verdict.kind, line))
    .join("\n");
}

function detailText(alike: Alike, style: Style): string {
  const [{ verdict, planned }, ...others] = alike;
  const reason = paragraph(verdict.reason, style.widthColumns, { first: 4, rest: 4 });
  const replay = `    replay: ${others.length === 0 ? "" : "such as "}${replayCommand(planned)}`;
  return [headText(alike, style), ...reason, replay].join("\n");
}

/** An engine that could run none of its cases for one reason is listed once. */
export function alikeCases(results: readonly CaseResult[]): readonly Alike[] {
  const groups = new Map<string, [CaseResult, ...CaseResult[]]>();
  for (const [index, result] of results.entries()) {
    const { verdict, planned } = result;
    const isEngines = verdict.kind === "inconclusive" && verdict.cause === "engine-error";
    const key = isEngines ? `${placeName(planned)} ${verdict.reason}` : String(index);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [result]);
    else group.push(result);
  }
  return [...groups.values()];
}

/** Cases that need attention, one by one; known deviations by erratum. */
export function deviationsText(results: readonly CaseResult[], style: Style): string | null {
  const parts: string[] = [];
  const attention = results.filter(({ verdict }) => needsAttention(verdict.kind));
  if (attention.length > 0) {
    const details = alikeCases(attention).map((alike) => detailText(alike, style));
    parts.push([style.bold("Not as expected, or without proof"), ...details].join("\n"));
  }
  const known = results.filter(({ verdict }) => verdict.kind === "xfail");
  if (known.length > 0) {
    const lines = [style.bold(`${plural(known.length, "known deviation")} (fixtures/errata.json)`)];
    for (const [reason, group] of grouped(known)) {
      lines.push(...paragraph(reason, style.widthColumns, { first: 2, rest: 2 }));
      for (const result of group) {
        lines.push(style.verdict("xfail", `  ${glyphs.xfail} ${replayCommand(result.planned)}`));
      }
    }
    parts.push(lines.join("\n"));
  }
  return parts.length > 0 ? parts.join("\n\n") : null;
}

/** Defects of the kernel that were seen, a sentence each. */
export function findingsText(results: readonly CaseResult[], style: Style): string | null {
  const findings = findingsOf(results);
  if (findings.length === 0) return null;
  const lines = [style.bold(`Findings: ${findingsTitle(findings).replace(/^D/, "d")}`)];
  for (const { id, text, source, cases } of findings) {
    const sentence = `${id} (${plural(cases.length, "case")}): ${text}`;
    lines.push(...paragraph(sentence, style.widthColumns, { first: 2, rest: 2 }));
    lines.push(...paragraph(source, style.widthColumns, { first: 4, rest: 4 }).map(style.dim));
    const first = cases[0]?.planned;
    if (first !== undefined) lines.push(style.dim(`    ${replayCommand(first)}`));
  }
  return lines.join("\n");
}

/** How often each outcome was seen, for cases that were run several times. */
export function repeatedText(results: readonly CaseResult[], style: Style): string | null {
  const repeated = results.filter((result) => runsOf(result) > 1);
  if (repeated.length === 0) return null;
  const differing = repeated.filter(({ outcomes }) => outcomes.length > 1);
  const runs = repeated.reduce((sum, result) => sum + runsOf(result), 0);
  const lines = [
    `${style.bold(`${plural(repeated.length, "case")} run several times (${runs} runs):`)} ` +
      (differing.length === 0
        ? "each came out the same every time"
        : `${differing.length} came out differently`),
  ];
  for (const result of differing) {
    lines.push(`  ${caseTitle(result)}`);
    for (const { count, verdict, text } of result.outcomes) {
      const [first, ...rest] = wrap(text, Math.max(20, style.widthColumns - 14));
      lines.push(
        style.verdict(verdict, `    ${String(count).padStart(6)}  ${glyphs[verdict]} ${first ?? ""}`),
      );
      for (const line of rest) lines.push(`${" ".repeat(14)}${line}`);
    }
  }
  return lines.join("\n");
}

/** A log's tail has to fit a screen, with the counts below: the whole list stands above, before the scorecard. */
const CASES_NAMED_AGAIN_MAX = 8;

/** `text`, cut to one line of at most `width` characters. */
export function oneLine(text: string, width: number): string {
  const line = text.replaceAll(/\s+/g, " ");
  return line.length <= width ? line : `${line.slice(0, width - 1)}…`;
}

/** The cases that need attention, gravest first, once more in brief: people and CI see the tail of a log only. */
export function tailText(results: readonly CaseResult[], style: Style): string | null {
  const attention = results
    .filter(({ verdict }) => needsAttention(verdict.kind))
    .sort((a, b) => severity(b.verdict.kind) - severity(a.verdict.kind));
  if (attention.length === 0) return null;
  const groups = alikeCases(attention);
  const lines = groups
    .slice(0, CASES_NAMED_AGAIN_MAX)
    .flatMap((alike) => [
      headText(alike, style),
      `    ${oneLine(alike[0].verdict.reason, Math.max(20, style.widthColumns - 4))}`,
      `    ${replayCommand(alike[0].planned)}`,
    ]);
  const more = groups.slice(CASES_NAMED_AGAIN_MAX).flat().length;
  if (more > 0) lines.push(`and ${plural(more, "more case")}, listed above the scorecard`);
  return lines.join("\n");
}

/** The last lines: counts of all kinds, and the meaning of the exit code. */
export function summaryText({ counts, exitCode, durationMs, gaps }: Report, style: Style): string {
  const parts = (Object.entries(counts) as [VerdictKind, number][])
    .filter(([, count]) => count > 0)
    .map(([kind, count]) => style.verdict(kind, `${count} ${kind}`));
  const total = parts.length === 0 ? "no cases" : parts.join(", ");
  const isIncomplete = exitCode === exitCodes.inconclusive && counts.inconclusive === 0 && gaps.length > 0;
  const meaning = isIncomplete ? "nothing unexpected, but part of it is missing" : exitCodeText(exitCode);
  const text = `${total} in ${(durationMs / 1000).toFixed(1)} s. Exit code ${exitCode}: ${meaning}.`;
  return paragraph(text, style.widthColumns, { first: 0, rest: 2 }).join("\n");
}

function gapTitle({ exitCode }: Report): string {
  return signalOfExitCode(exitCode) !== null
    ? "Interrupted, this is part of the run only"
    : "This is part of the run only";
}

export function gapsText(report: Report, style: Style): string {
  const text = `${style.bold(`${gapTitle(report)}:`)} ${report.gaps.join("; ")}.`;
  return paragraph(text, style.widthColumns, { first: 0, rest: 2 }).join("\n");
}

/** Everything after the last case. */
export function reportText(recorded: Report, style: Style): string {
  const report = visibleData(recorded);
  const { results, gaps } = report;
  const parts = [
    gaps.length === 0 ? null : gapsText(report, style),
    tableText(results, style),
    skippedText(results, style),
    deviationsText(results, style),
    repeatedText(results, style),
    findingsText(results, style),
    answersText(report.compared, style),
    scorecardText({ cells: report.cells, proposals: report.rows }, style),
    contradictionsText(report.contradictions, style),
    tailText(results, style),
    summaryText(report, style),
  ];
  return parts.filter((part) => part !== null).join("\n\n");
}
