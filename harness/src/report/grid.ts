/** A table of cells with several lines each. A thin rule stands only beside rows that need more than one line. */
import { stripVTControlCharacters } from "node:util";
import type { Style } from "./style.ts";

export type Grid = {
  readonly head: readonly string[];
  /** Row, column, line. */
  readonly rows: readonly (readonly (readonly string[])[])[];
};

const GAP_COLUMNS = 2;

/** Escape sequences of colours take no room. */
function widthOf(text: string): number {
  return stripVTControlCharacters(text).length;
}

function columnWidths({ head, rows }: Grid): readonly number[] {
  return head.map((title, column) =>
    Math.max(widthOf(title), ...rows.flatMap((row) => row[column] ?? []).map(widthOf)),
  );
}

/** Characters that the widest line takes. */
export function gridWidth(grid: Grid): number {
  const widths = columnWidths(grid);
  return widths.reduce((sum, width) => sum + width, 0) + GAP_COLUMNS * (widths.length - 1);
}

function renderLine(cells: readonly string[], widths: readonly number[]): string {
  return cells
    .map((cell, column) => cell + " ".repeat(Math.max(0, (widths[column] ?? 0) - widthOf(cell))))
    .join(" ".repeat(GAP_COLUMNS))
    .trimEnd();
}

function heightOf(row: readonly (readonly string[])[] | undefined): number {
  return Math.max(1, ...(row ?? []).map((cell) => cell.length));
}

export function renderGrid(grid: Grid, style: Style): string {
  const widths = columnWidths(grid);
  const rule = style.dim("─".repeat(gridWidth(grid)));
  const lines = [renderLine(grid.head, widths), rule];
  for (const [index, row] of grid.rows.entries()) {
    const height = heightOf(row);
    if (index > 0 && (height > 1 || heightOf(grid.rows[index - 1]) > 1)) lines.push(rule);
    for (let line = 0; line < height; line += 1) {
      const cells = row.map((cell) => cell[line] ?? "");
      lines.push(renderLine(cells, widths));
    }
  }
  return lines.join("\n");
}
