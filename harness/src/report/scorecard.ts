/**
 * The scorecard as text: proposals are rows, properties columns under slanted heads, so that it fits a terminal in one
 * piece. A cell that the model alone decided looks different from a real one. Makes text only.
 */
import { stripVTControlCharacters } from "node:util";
import {
  type DecidedBy,
  type Holds,
  needsOf,
  needsText,
  type PropertyId,
  type Proposal,
  propertyRows,
  type ScoreCell,
  unknownPart,
} from "../../../language/src/index.ts";
import { visibleData } from "./encode.ts";
import type { ContradictionOf } from "./report.ts";
import { paragraph, type Style, wrap } from "./style.ts";

const holdsSigns: Readonly<Record<Holds, string>> = { yes: "✓", no: "✗", partly: "±", unknown: "·" };
/** Behind the sign: what decided it. Nothing for a real run, which is the strongest. */
const deciderSigns: Readonly<Record<DecidedBy, string>> = { real: " ", model: "m", both: "+", document: "d" };
/** A real run and the model contradict each other. */
const CONTRADICTION = "≠";

const CELL_COLUMNS = 3;

/** `✓ `, `✗m`, `≠ `: two characters. */
export function scoreSign({ holds, by, contradictions }: ScoreCell): string {
  if (contradictions.length > 0) return `${CONTRADICTION} `;
  return `${holdsSigns[holds]}${by === null ? " " : deciderSigns[by]}`;
}

/** `yes (12 real)`, `partly (real yes in 2, model no in 14)`, `no, documented`: in words, with the number of cases. */
export function scoreText({ holds, by, real, model, contradictions }: ScoreCell): string {
  const shares = [
    ...(real === null ? [] : [`real ${real.holds} in ${real.cases}`]),
    ...(model === null ? [] : [`model ${model.holds} in ${model.cases}`]),
  ].join(", ");
  if (contradictions.length > 0) return `contradiction (${shares})`;
  switch (by) {
    case null:
      return "·";
    case "document":
      return `${holds}, documented`;
    case "real":
    case "model":
    case "both":
      return `${holds} (${shares})`;
  }
}

/** What the model alone decided is pale: the colours are for what was real. */
function colour(cell: ScoreCell, text: string, style: Style): string {
  if (cell.by === "model") return style.dim(text);
  if (cell.contradictions.length > 0) return style.verdict("fail", text);
  switch (cell.holds) {
    case "yes":
      return style.verdict("pass", text);
    case "no":
      return style.verdict("fail", text);
    case "partly":
      return style.verdict("xfail", text);
    case "unknown":
      return style.dim(text);
  }
}

/** Each name on a line of its own, above its column, with a stem down to it. */
function headLines(ids: readonly string[], indent: number): readonly string[] {
  return ids.map(
    (id, index) => `${" ".repeat(indent)}${`│${" ".repeat(CELL_COLUMNS - 1)}`.repeat(index)}${id}`,
  );
}

/** Characters of the widest line. */
function widthOf(ids: readonly string[], indent: number): number {
  return Math.max(...ids.map((id, index) => indent + CELL_COLUMNS * index + id.length));
}

/** For a terminal too narrow for the table: proposal by proposal, properties grouped by word. */
function listText(cells: readonly ScoreCell[], rows: readonly string[], style: Style): string {
  return rows
    .flatMap((proposal) => {
      const own = cells.filter((cell) => cell.proposal === proposal && cell.holds !== "unknown");
      const groups = (["yes", "no", "partly"] as const).flatMap((word) => {
        const names = own
          .filter(({ holds }) => holds === word)
          .map((cell) => `${cell.property}${scoreSign(cell).slice(1).trim()}`);
        if (names.length === 0) return [];
        return wrap(`${word}: ${names.join(", ")}`, style.widthColumns - 2).map((line) => `  ${line}`);
      });
      return [style.bold(proposal), ...groups];
    })
    .join("\n");
}

/** What the proposal needs; empty for one that was recorded in words that this version does not know. */
export function needsLine(proposal: Proposal): string {
  return unknownPart(proposal) === null ? needsText(needsOf(proposal)) : "";
}

/** What the rows are and need, beside them where there is room for all of it. */
function withNeeds(
  lines: readonly string[],
  { rows, proposals, width }: { rows: readonly string[]; proposals: readonly Proposal[]; width: number },
  style: Style,
): readonly string[] {
  const texts = rows.map((id) => {
    const proposal = proposals.find((one) => one.id === id);
    return proposal === undefined ? "" : needsLine(proposal);
  });
  if (width + 2 + Math.max(...texts.map((text) => text.length)) > style.widthColumns) return lines;
  return lines.map((line, index) => {
    const gap = " ".repeat(Math.max(0, width - stripVTControlCharacters(line).length) + 2);
    return texts[index] === "" ? line : `${line}${gap}${style.dim(texts[index] ?? "")}`;
  });
}

function tableText({ cells, proposals }: Scored, ids: readonly PropertyId[], style: Style): string {
  const rows = [...new Set(cells.map(({ proposal }) => proposal))];
  const indent = Math.max(...rows.map((id) => id.length)) + 2;
  if (widthOf(ids, indent) > style.widthColumns) return listText(cells, rows, style);
  const byKey = new Map(cells.map((cell) => [`${cell.proposal} ${cell.property}`, cell]));
  const lines = rows.map((proposal) => {
    const signs = ids.map((id) => {
      const cell = byKey.get(`${proposal} ${id}`);
      return cell === undefined ? "  " : colour(cell, scoreSign(cell), style);
    });
    return `${proposal.padEnd(indent)}${signs.join(" ")}`.trimEnd();
  });
  const width = indent + CELL_COLUMNS * ids.length;
  return [
    ...headLines(ids, indent).map(style.bold),
    ...withNeeds(lines, { rows, proposals, width }, style),
  ].join("\n");
}

/** What a figure of the property is. */
const figureTitles: Readonly<Partial<Record<string, string>>> = {
  "host-unharmed": "the longest call of a process of the host",
  prevented: "races",
};

/** The measured values behind the words, a paragraph a property. */
function figuresText(cells: readonly ScoreCell[], style: Style): readonly string[] {
  return propertyRows.flatMap(({ id }) => {
    const measured = cells.flatMap(({ proposal, property, figure }) =>
      property === id && figure !== null ? [`${proposal} ${figure}`] : [],
    );
    if (measured.length === 0) return [];
    return wrap(`${id}, ${figureTitles[id] ?? "measured"}: ${measured.join(", ")}.`, style.widthColumns);
  });
}

/** What ran the real cases. */
function placesText(cells: readonly ScoreCell[]): string {
  const places = [...new Set(cells.flatMap(({ real }) => real?.places ?? []))].sort();
  return places.length === 0 ? "Nothing real ran." : `Real: ${places.join("; ")}.`;
}

/** The cells, and the proposals that they are of. */
export type Scored = { readonly cells: readonly ScoreCell[]; readonly proposals: readonly Proposal[] };

/** null where nothing is decided. Properties that nothing here decides have no column. */
export function scorecardText(scored: Scored, style: Style): string | null {
  const { cells, proposals } = visibleData(scored);
  const decided = propertyRows.filter(({ id }) =>
    cells.some(({ property, holds }) => property === id && holds !== "unknown"),
  );
  if (decided.length === 0) return null;
  const ids = decided.map(({ id }) => id);
  const legend = [
    "✓ yes  ✗ no  ± partly  · not decided; behind it: nothing: by real runs  m: by the model alone  +: by both, the model's cases change it  d: by a document  ≠: real run and model contradict each other",
    placesText(cells),
    ...(decided.length === propertyRows.length
      ? []
      : [`Left out: ${propertyRows.length - decided.length} properties that nothing that ran decides.`]),
  ].flatMap((line) => wrap(line, style.widthColumns));
  const figures = figuresText(cells, style);
  return [
    style.bold("Scorecard: does the property hold?"),
    tableText({ cells, proposals }, ids, style),
    style.dim(legend.join("\n")),
    ...figures.map(style.dim),
  ].join("\n");
}

/** Real runs that the model excludes, one line each; null: there are none. */
export function contradictionsText(list: readonly ContradictionOf[], style: Style): string | null {
  if (list.length === 0) return null;
  const lines = list.flatMap(({ proposal, property, scenario, place, real, model }) =>
    paragraph(
      `${property} of ${proposal}, ${scenario}: ${real} on ${place}, ${model} in every interleaving of the model`,
      style.widthColumns,
      { first: 2, rest: 2 },
    ),
  );
  const title = "Real runs and the model contradict each other: one of the two is wrong";
  const head = paragraph(title, style.widthColumns, { first: 0, rest: 2 });
  return [...head.map((line) => style.verdict("fail", line)), ...lines].join("\n");
}
