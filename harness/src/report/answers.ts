/**
 * The ways out on real guests, as text: one table that fits a terminal of 100 columns. What became of VMM or kernel
 * stands for the access itself; the page and README have both.
 */
import { briefQuestions, type ComparedRow } from "../compare/comparison.ts";
import { MICRO_GUEST } from "../compare/linux-runs.ts";
import { cutGrid, renderGrid } from "./grid.ts";
import { type Style, wrap } from "./style.ts";

/** `VMM stopped(efault)`, in two lines: `VMM stopped`, `(efault)`. */
function briefLines(words: readonly string[]): readonly string[] {
  const grave = words.length > 1 ? words.slice(1) : words;
  return grave.flatMap((word) => word.split(/(?=\()/)).filter((line) => line !== "(unobserved)");
}

export const comparedTitle = "The answers, on real KVM: a process of the guest whose page is lost";

/** A row of the micro-guest, which stands below that of a Linux guest. */
export const isMicro = ({ kernels }: ComparedRow): boolean => kernels.startsWith(MICRO_GUEST);

/** Which rows are of the runs, and which of the package's recordings. */
export function comparedNote(rows: readonly ComparedRow[]): string {
  const own = rows.filter(({ source }) => source === "this run").map(({ proposal }) => proposal);
  const recorded = "recorded with this version (fixtures/linux-guest; docs/kernels.md has the commands)";
  if (own.length === 0) return `Nothing of it ran here: ${recorded}.`;
  if (own.length === rows.length) return "All of it ran here.";
  return `Of this run: ${own.join(", ")}; the other rows are ${recorded}.`;
}

/** null where there is no row. */
export function answersText(rows: readonly ComparedRow[], style: Style): string | null {
  if (rows.length === 0) return null;
  const grid = {
    head: ["", ...briefQuestions],
    rows: rows.map((row) => [
      isMicro(row) ? [`  ${row.proposal}`, `  ${row.kernels}`] : [row.title, `  ${row.proposal}`],
      ...row.cells.map(briefLines),
    ]),
  };
  return [
    style.bold(comparedTitle),
    cutGrid(grid, style.widthColumns)
      .map((piece) => renderGrid(piece, style))
      .join("\n\n"),
    style.dim(wrap(comparedNote(rows), style.widthColumns).join("\n")),
  ].join("\n");
}
