/** The answers on Linux guests, the scorecard, of which every cell opens to the cases behind it, and the matrix scenario x proposal x engine. */
import {
  decisionsOn,
  type Finding,
  properties,
  type ScoreCell,
  type ScoredCase,
} from "../../../../language/src/index.ts";
import { type ComparedRow, comparedQuestions } from "../../compare/comparison.ts";
import type { CaseResult } from "../../run/result.ts";
import { comparedNote, isMicro } from "../answers.ts";
import { answerWord, isContained } from "../brief.ts";
import { cellLines, glyphs } from "../cells.ts";
import { type Markup, markup } from "../markup.ts";
import { engineNamer, type Report, scoredCase } from "../report.ts";
import { needsLine, scoreSign, scoreText } from "../scorecard.ts";
import { plural } from "../text.ts";
import { type CaseIds, caseLinks, countText, filterData } from "./cases.ts";

/** The case's outcome, in one line. */
export function shortText(result: CaseResult): string {
  return cellLines(result)
    .map((line) => line.trim())
    .join(" ")
    .replace(/^\S+ /, "");
}

type Behind = { readonly finding: Finding; readonly result: CaseResult };

/** The cases that decided a cell, with each one's answer. */
function casesBehind(cell: ScoreCell, scored: ReadonlyMap<ScoredCase, CaseResult>): readonly Behind[] {
  const candidates = [...scored.keys()].filter(({ proposal }) => proposal.id === cell.proposal);
  return decisionsOn(cell.property, candidates).flatMap(({ finding, scored: one }) => {
    const result = scored.get(one);
    return result === undefined ? [] : [{ finding, result }];
  });
}

function popoverOf(cell: ScoreCell, id: string, behind: readonly Behind[], ids: CaseIds): Markup {
  const title = properties.find((property) => property.id === cell.property)?.title ?? "";
  const groups = (["no", "yes"] as const).map((word) => {
    const results = behind.filter(({ finding }) => finding === word).map(({ result }) => result);
    if (results.length === 0) return markup``;
    return markup`<h3>${word}: ${countText(results)}</h3>${caseLinks(results, ids)}`;
  });
  const source =
    cell.source === null ? null : markup`<p>Not decided by a case. Documented: ${cell.source}</p>`;
  const real =
    cell.real === null
      ? null
      : markup`<p>Real: ${cell.real.holds} in ${plural(cell.real.cases, "case")}, on ${cell.real.places.join("; ")}.${cell.figure === null ? "" : ` Measured: ${cell.figure}.`}</p>`;
  const model =
    cell.model === null
      ? null
      : markup`<p>Model: ${cell.model.holds} in ${plural(cell.model.cases, "case")}${cell.model.exhaustive ? ", every interleaving" : ", cut off by a bound"}.</p>`;
  const contradictions = cell.contradictions.map(
    ({ scenario, place, real: seen, model: allowed }) =>
      markup`<p><b>Contradiction</b> in ${scenario}: ${seen} on ${place}, ${allowed} in every interleaving of the model.</p>`,
  );
  return markup`<div popover id="${id}"><b>${cell.property} x ${cell.proposal}</b><p>${title}</p>${contradictions}${real}${model}${groups}${source}</div>`;
}

/** `here`, or when it was recorded. */
function sourceMarkup({ source, day }: ComparedRow): Markup {
  return source === "this run"
    ? markup`<span class="chip own">this run</span>`
    : markup`<span class="chip documented">recorded ${day ?? ""}</span>`;
}

/** The ways out on real guests: of these runs, or recorded. A row says who would have to change. */
export function answersMarkup({ compared }: Report): Markup | null {
  if (compared.length === 0) return null;
  const head = [...comparedQuestions, "Linux"].map((title) => markup`<th scope="col">${title}</th>`);
  const rows = compared.map((row) => {
    const { title, proposal, kernels, changes, cells } = row;
    const who = changes.length === 0 ? "nothing changed" : `changes ${changes.join(" and ")}`;
    const name = isMicro(row) ? markup`<span class="soft">${title}</span>` : markup`<b>${title}</b>`;
    return markup`<tr><th scope="row">${name}<br><span class="soft">${proposal}: ${who}</span></th>${cells.map(
      (words) =>
        words.length === 0
          ? markup`<td></td>`
          : markup`<td><span class="answer ${isContained(words) ? "yes" : "no"}">${answerWord(words)}</span><br><span class="soft">${words.join(", ")}</span></td>`,
    )}<td>${kernels}<br>${sourceMarkup(row)}</td></tr>`;
  });
  return markup`<div class="scroll" tabindex="0" role="region" aria-label="Answers"><table class="narrow"><thead><tr><th scope="col">what answers</th>${head}</tr></thead><tbody>${rows}</tbody></table></div>
<p class="soft">Green: the process alone is told of the loss. Red: more is harmed. ${comparedNote(compared)}</p>`;
}

export function scorecardMarkup(report: Report, ids: CaseIds): Markup | null {
  const { cells, rows: proposals } = report;
  const known = new Set(cells.filter(({ holds }) => holds !== "unknown").map(({ property }) => property));
  if (known.size === 0) return null;
  const scored = new Map(
    report.results.flatMap((result) => {
      const one = scoredCase(result);
      return one === null ? [] : [[one, result] as const];
    }),
  );
  const popovers: Markup[] = [];
  const cellMarkup = (proposal: string, property: string): Markup => {
    const cell = cells.find((one) => one.proposal === proposal && one.property === property);
    if (cell === undefined || cell.holds === "unknown") return markup`<td class="soft">·</td>`;
    const id = `score-${popovers.length + 1}`;
    popovers.push(popoverOf(cell, id, casesBehind(cell, scored), ids));
    return markup`<td><button type="button" class="${cell.holds} by-${cell.by ?? "nothing"}" title="${scoreText(cell)}" popovertarget="${id}">${cell.holds} ${scoreSign(cell).slice(1)}</button></td>`;
  };
  const columns = properties.filter(({ id }) => known.has(id));
  const rows = proposals.map(
    (proposal) =>
      markup`<tr><th scope="row" title="${proposal.title} Needs ${needsLine(proposal)}.">${proposal.id}</th>${columns.map((property) => cellMarkup(proposal.id, property.id))}</tr>`,
  );
  const head = columns.map(({ id, title }) => markup`<th scope="col" title="${title}">${id}</th>`);
  const undecided = properties.filter(({ id }) => !known.has(id)).map(({ id }) => id);
  return markup`<div class="scroll tall" tabindex="0" role="region" aria-label="Scorecard"><table><thead><tr><th scope="col">proposal</th>${head}</tr></thead><tbody>${rows}</tbody></table></div>
<p class="soft">A dashed frame and m: the model alone decided, no real run; +: real runs and the model, whose cases change the word; d: a document; ≠: they contradict each other. Press a cell to see the cases. · nothing that ran decides it.${undecided.length === 0 ? "" : ` Decided for no proposal: ${undecided.join(", ")}.`}</p>${popovers}`;
}

export function matrixMarkup(report: Report, ids: CaseIds): Markup | null {
  const ran = report.results.filter(({ verdict }) => verdict.kind !== "skip");
  if (ran.length === 0) return null;
  const nameOf = engineNamer(report.results);
  const byPlace = new Map<string, CaseResult[]>();
  for (const result of ran) {
    const key = `${result.planned.scenario.id}\n${result.planned.proposal.id}`;
    byPlace.set(key, [...(byPlace.get(key) ?? []), result]);
  }
  const entry = (result: CaseResult): Markup => {
    const { kind } = result.verdict;
    const ground = result.planned.nature.isReal ? "real" : "model";
    return markup`<a class="cell ${kind} ${ground}" ${filterData(result, shortText(result))} href="#${ids.get(result) ?? ""}"><span aria-label="${kind}">${glyphs[kind]}</span> <b>${nameOf(result)}</b> ${shortText(result)}</a>`;
  };
  const rows = report.scenarios
    .filter(({ id }) => ran.some(({ planned }) => planned.scenario.id === id))
    .map(({ id, purpose }) => {
      const cells = report.proposals.map(
        (proposal) => markup`<td>${(byPlace.get(`${id}\n${proposal.id}`) ?? []).map(entry)}</td>`,
      );
      return markup`<tr><th scope="row" title="${purpose}">${id}</th>${cells}</tr>
`;
    });
  const head = report.proposals.map(({ id, title }) => markup`<th scope="col" title="${title}">${id}</th>`);
  return markup`<div class="scroll tall" tabindex="0" role="region" aria-label="Matrix of scenarios and proposals"><table class="wide" id="matrix-table"><thead><tr><th scope="col">scenario</th>${head}</tr></thead><tbody>${rows}</tbody></table></div>`;
}
