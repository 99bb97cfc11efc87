/**
 * A path as a sequence diagram, in text for terminals and mailing lists and as Mermaid source for reports.
 * Lifelines are the `from` and `to` of the events; a step without events is a note over its actor.
 */
import type { Step } from "./path.ts";

type Line = { readonly from: string; readonly to: string; readonly text: string };

function linesOf(steps: readonly Step[]): Line[] {
  return steps.flatMap((step): Line[] =>
    step.events.length === 0
      ? [{ from: step.actor, to: step.actor, text: step.name }]
      : step.events.map((event) => ({ from: event.from, to: event.to, text: event.detail })),
  );
}

function lifelinesOf(lines: readonly Line[]): string[] {
  return [...new Set(lines.flatMap((line) => [line.from, line.to]))];
}

const MIN_COLUMN = 12;

/** One line an event: the step's number, a column a lifeline, an arrow, the words. */
export function textDiagram(steps: readonly Step[], cycleAt: number | null = null): string {
  const all = linesOf(steps);
  const lifelines = lifelinesOf(all);
  const width = Math.max(MIN_COLUMN, ...lifelines.map((name) => name.length + 2));
  const rows = [`      ${lifelines.map((name) => name.padEnd(width)).join("")}`.trimEnd()];
  for (const [index, step] of steps.entries()) {
    if (index === cycleAt) rows.push("  +-- from here on, round and round --");
    for (const [at, line] of linesOf([step]).entries()) {
      const number = at === 0 ? String(index + 1).padStart(4) : "    ";
      rows.push(`${number}  ${arrow(lifelines, width, line)}  ${line.text}`);
    }
  }
  if (cycleAt !== null) rows.push("  +-- back to the mark --");
  return rows.join("\n");
}

function arrow(lifelines: readonly string[], width: number, line: Line): string {
  const cells: string[] = Array.from({ length: lifelines.length * width }, (_, at) =>
    at % width === 0 ? "|" : " ",
  );
  const from = lifelines.indexOf(line.from) * width;
  const to = lifelines.indexOf(line.to) * width;
  if (from === to) {
    cells[from] = "o";
  } else {
    const [low, high] = from < to ? [from, to] : [to, from];
    for (let at = low + 1; at < high; at++) cells[at] = "-";
    cells[from] = "o";
    cells[to] = from < to ? ">" : "<";
  }
  return cells
    .join("")
    .trimEnd()
    .padEnd(lifelines.length * width);
}

export function mermaidDiagram(steps: readonly Step[], cycleAt: number | null = null): string {
  const lifelines = lifelinesOf(linesOf(steps));
  const id = (name: string): string => `L${lifelines.indexOf(name)}`;
  const rows = ["sequenceDiagram", ...lifelines.map((name) => `  participant ${id(name)} as ${name}`)];
  for (const [index, step] of steps.entries()) {
    if (index === cycleAt) rows.push("  loop for ever");
    for (const line of linesOf([step])) {
      const text = line.text.replaceAll(/[;#]/g, (sign) => `#${sign.charCodeAt(0)};`);
      rows.push(
        line.from === line.to
          ? `  Note over ${id(line.from)}: ${text}`
          : `  ${id(line.from)}->>${id(line.to)}: ${text}`,
      );
    }
  }
  if (cycleAt !== null) rows.push("  end");
  return rows.join("\n");
}
