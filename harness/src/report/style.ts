/** Colour for people, where they want it: a terminal, and NO_COLOR not set. Width of the terminal. */
import { stripVTControlCharacters } from "node:util";
import pc from "picocolors";
import type { VerdictKind } from "../../../language/src/index.ts";

export type Style = {
  readonly widthColumns: number;
  bold(text: string): string;
  dim(text: string): string;
  verdict(kind: VerdictKind, text: string): string;
};

/** Width of output that is not a terminal: a file, or a log that people read in a browser. */
const PIPE_COLUMNS = 160;

/** How to print to `stream`. COLUMNS overrides the width. */
export function styleFor(stream: NodeJS.WriteStream): Style {
  const isTerminal = stream.isTTY === true;
  const colors = pc.createColors(
    isTerminal && (process.env.NO_COLOR ?? "") === "" && process.env.TERM !== "dumb",
  );
  const asked = Number(process.env.COLUMNS);
  const widthColumns = Number.isInteger(asked) && asked > 0 ? asked : (stream.columns ?? PIPE_COLUMNS);
  return {
    widthColumns,
    bold: colors.bold,
    dim: colors.dim,
    verdict(kind, text) {
      switch (kind) {
        case "pass":
          return colors.green(text);
        case "fail":
        case "xpass":
          return colors.red(text);
        case "xfail":
        case "inconclusive":
          return colors.yellow(text);
        case "skip":
          return colors.dim(text);
      }
    },
  };
}

/** Characters on a terminal: our own colours take no room. */
export function columnsOf(text: string): number {
  return stripVTControlCharacters(text).length;
}

/** Words in lines of at most `width` characters; a longer word stands alone. */
export function wrap(text: string, width: number): readonly string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && columnsOf(line) + 1 + columnsOf(word) > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === "" ? word : `${line} ${word}`;
    }
  }
  if (line !== "") lines.push(line);
  return lines;
}

/** Narrower than this, prose is no longer readable: its lines are longer than a terminal of fewer columns. */
const PROSE_COLUMNS_MIN = 20;

/** Margins in columns: of the first line, and of those that continue it. */
export type Margins = { readonly first: number; readonly rest: number };

/** Prose in lines of at most `width` characters, margins included; a longer word stands alone. */
export function paragraph(text: string, width: number, { first, rest }: Margins): readonly string[] {
  if (first + columnsOf(text) <= width) return [" ".repeat(first) + text];
  const [line = "", ...more] = wrap(text, Math.max(PROSE_COLUMNS_MIN, width - Math.max(first, rest)));
  return [" ".repeat(first) + line, ...more.map((one) => " ".repeat(rest) + one)];
}

/** Narrower than this, columns of names and texts side by side become lists. */
const SIDE_BY_SIDE_COLUMNS_MIN = 60;

export function isNarrow({ widthColumns }: Style): boolean {
  return widthColumns < SIDE_BY_SIDE_COLUMNS_MIN;
}
