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

/** These columns only, and the first one; rows that are empty in all of them are left out. */
function columnsOf({ head, rows }: Grid, columns: readonly number[]): Grid {
  return {
    head: [0, ...columns].map((column) => head[column] ?? ""),
    rows: rows
      .filter((row) => columns.some((column) => (row[column] ?? []).length > 0))
      .map((row) => [0, ...columns].map((column) => row[column] ?? [])),
  };
}

/**
 * The grid in pieces of at most `width` characters, side by side columns that fit, each piece with the first column.
 * A piece has at least one other column, whether it fits or not.
 */
export function cutGrid(grid: Grid, width: number): readonly Grid[] {
  const [first = 0, ...others] = columnWidths(grid);
  const groups: number[][] = [];
  let used = 0;
  for (const [index, columnWidth] of others.entries()) {
    const needed = GAP_COLUMNS + columnWidth;
    const group = groups.at(-1);
    if (group === undefined || used + needed > width) {
      groups.push([index + 1]);
      used = first + needed;
    } else {
      group.push(index + 1);
      used += needed;
    }
  }
  return groups.map((group) => columnsOf(grid, group));
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
