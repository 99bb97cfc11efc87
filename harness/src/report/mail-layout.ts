/** The lines of a mail to a list: 72 columns, what does not fit is continued two columns further in. */
import { wrap } from "./style.ts";

export const COLUMNS = 72;

export function indented(text: string, indent: number): readonly string[] {
  const [first = "", ...rest] = wrap(text, COLUMNS - indent - 2);
  const margin = " ".repeat(indent);
  return [`${margin}${first}`, ...rest.map((line) => `${margin}  ${line}`)];
}

export function section(title: string, lines: readonly string[]): readonly string[] {
  return lines.length === 0 ? [] : ["", title, ...lines.flatMap((line) => indented(line, 2))];
}
