/** The report as Markdown: what a pull request shows of a run (`$GITHUB_STEP_SUMMARY`). */

import { needsAttention, propertyRows, verdictKinds } from "../../../language/src/index.ts";
import { comparedQuestions } from "../compare/comparison.ts";
import { replayCommand } from "../run/plan.ts";
import type { CaseResult } from "../run/result.ts";
import { comparedNote, comparedTitle } from "./answers.ts";
import { cellLines, glyphs } from "./cells.ts";
import { visibleData } from "./encode.ts";
import { endText, findingsOf } from "./findings.ts";
import { engineNamer, type Report } from "./report.ts";
import { scoreText } from "./scorecard.ts";
import { caseTitle, plural } from "./text.ts";

/** GitHub shows a step's summary up to 1 MiB; a list of more cases than this is of no use. */
const CASES_LISTED_MAX = 50;

/** Text that stays text: no markup, no cell or row of a table ends in it. */
export function markdownEscape(text: string): string {
  return text.replaceAll(/[\\`*_{}[\]<>#|~!&]/g, "\\$&").replaceAll(/\s+/g, " ");
}

/** Code: between backticks; where a character of it could end that or begin an element, as HTML, by numeric entities. */
export function markdownCode(text: string): string {
  const line = text.replaceAll(/\s+/g, " ");
  if (!/[`|<>&]/.test(line)) return `\`${line}\``;
  const encoded = line.replaceAll(/[\\`*_{}[\]()#|~!:@<>&"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
  return `<code>${encoded}</code>`;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): readonly string[] {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)];
}

function caseLines(result: CaseResult): readonly string[] {
  const { verdict } = result;
  return [
    `- ${glyphs[verdict.kind]} **${markdownEscape(caseTitle(result))}**: ${verdict.kind}: ${markdownEscape(verdict.reason)}`,
    `  ${markdownCode(replayCommand(result.planned))}`,
  ];
}

function answersLines({ compared }: Report): readonly string[] {
  if (compared.length === 0) return [];
  return [
    "",
    `### ${comparedTitle}`,
    "",
    ...table(
      ["what answers", "Linux", ...comparedQuestions],
      compared.map(({ title, proposal, kernels, cells }) => [
        `${markdownEscape(title)} (${markdownCode(proposal)})`,
        markdownEscape(kernels),
        ...cells.map((words) => markdownEscape(words.join(", "))),
      ]),
    ),
    "",
    markdownEscape(comparedNote(compared)),
  ];
}

function scorecardLines({ cells, rows: proposals, contradictions }: Report): readonly string[] {
  const columns = propertyRows.filter(({ id }) =>
    cells.some(({ property, holds }) => property === id && holds !== "unknown"),
  );
  if (columns.length === 0) return [];
  const cellText = (proposal: string, property: string): string => {
    const cell = cells.find((one) => one.proposal === proposal && one.property === property);
    return cell === undefined ? "" : markdownEscape(scoreText(cell));
  };
  return [
    "",
    "### Scorecard: does the property hold?",
    "",
    ...table(
      ["proposal", ...columns.map(({ id }) => markdownEscape(id))],
      proposals.map(({ id }) => [markdownEscape(id), ...columns.map((column) => cellText(id, column.id))]),
    ),
    "",
    "In brackets: what the real cases say, what those of the model say, and how many they are.",
    ...contradictions.map(
      ({ proposal, property, scenario, place, real, model }) =>
        `- **contradiction**: ${markdownEscape(`${property} of ${proposal}, ${scenario}: ${real} on ${place}, ${model} in the model`)}`,
    ),
  ];
}

function matrixLines(report: Report): readonly string[] {
  const nameOf = engineNamer(report.results);
  const ran = report.results.filter(({ verdict }) => verdict.kind !== "skip");
  if (ran.length === 0) return [];
  const rows = ran.map((result) => [
    markdownEscape(result.planned.scenario.id),
    markdownEscape(result.planned.proposal.id),
    markdownEscape(nameOf(result)),
    markdownEscape(
      cellLines(result)
        .map((line) => line.trim())
        .join(" "),
    ),
  ]);
  return [
    "",
    `<details><summary>All ${plural(ran.length, "case")}</summary>`,
    "",
    ...table(["scenario", "proposal", "engine", "seen"], rows),
    "",
    "</details>",
  ];
}

export function markdownText(recorded: Report): string {
  const report = visibleData(recorded);
  const { counts, gaps, runs } = report;
  const counted = verdictKinds.filter((kind) => counts[kind] > 0).map((kind) => `${counts[kind]} ${kind}`);
  const attention = report.results.filter(({ verdict }) => needsAttention(verdict.kind));
  const findings = findingsOf(report.results);
  const more = attention.length - CASES_LISTED_MAX;
  const lines = [
    `## daxfault: ${endText(report)}`,
    "",
    `${counted.join(", ")}.`,
    ...runs.map(
      ({ kernel, kvmBackend, node }) =>
        `Linux ${markdownEscape(kernel)}, ${markdownEscape(kvmBackend ?? "no KVM")}, Node ${markdownEscape(node)}.`,
    ),
    ...(gaps.length === 0 ? [] : ["", `**Part of the run only:** ${markdownEscape(gaps.join("; "))}.`]),
    ...(attention.length === 0 ? [] : ["", "### Not as expected, or without proof", ""]),
    ...attention.slice(0, CASES_LISTED_MAX).flatMap(caseLines),
    ...(more > 0 ? [`- and ${plural(more, "more case")}`] : []),
    ...(findings.length === 0 ? [] : ["", "### Defects of this kernel that were seen", ""]),
    ...findings.map(({ id, text, source, cases }) => {
      return `- **${markdownEscape(id)}** (${plural(cases.length, "case")}): ${markdownEscape(text)} (${markdownEscape(source)})`;
    }),
    ...answersLines(report),
    ...scorecardLines(report),
    ...matrixLines(report),
  ];
  return `${lines.join("\n")}\n`;
}
