/**
 * A case's trace as SVG: lanes side by side, time running down, a row an event. Rows are evenly spaced, because what
 * matters happens within a millisecond after a quarter of a second of preparation; the times stand beside them.
 */
import { hex, placeName, type TraceEvent } from "../../../../language/src/index.ts";
import type { CaseResult } from "../../run/result.ts";
import { type Markup, markup } from "../markup.ts";
import { unitOf } from "../story.ts";
import { laneOf, lanes } from "./lanes.ts";

const TIME_PX = 74;
const LANE_PX = 86;
const ROW_PX = 22;
const HEAD_PX = 30;
const TEXT_PX = 640;
const DETAIL_MAX = 104;
/** Of a long trace the beginning shows the cause, the end the outcome. */
const ROWS_MAX = 48;

const lanesEnd: number = TIME_PX + lanes.length * LANE_PX;
const width: number = lanesEnd + TEXT_PX;

type Row =
  | { readonly kind: "event"; readonly event: TraceEvent }
  | { readonly kind: "gap"; readonly count: number };

function rowsOf(trace: readonly TraceEvent[]): readonly Row[] {
  const rows = trace.map((event): Row => ({ kind: "event", event }));
  if (rows.length <= ROWS_MAX) return rows;
  const half = ROWS_MAX / 2;
  return [...rows.slice(0, half), { kind: "gap", count: rows.length - ROWS_MAX }, ...rows.slice(-half)];
}

const laneX = (index: number): number => TIME_PX + LANE_PX * index + LANE_PX / 2;

function timeText(event: TraceEvent, first: TraceEvent, unit: "ms" | "steps"): string {
  return unit === "ms" ? `+${(event.atMs - first.atMs).toFixed(2)} ms` : `step ${event.atMs}`;
}

function cut(text: string): string {
  return text.length > DETAIL_MAX ? `${text.slice(0, DETAIL_MAX)}…` : text;
}

function eventRow(event: TraceEvent, lane: number, y: number, time: string): Markup {
  const gpa = event.gpa === null ? "" : ` gpa ${hex(event.gpa)}`;
  // `truncate to 1 pages` already names the kind of event.
  const kind = event.detail.startsWith(event.kind) ? "" : ` ${event.kind}`;
  const text = `${event.actor}:${kind}${gpa} ${event.detail}`;
  const whole = text === cut(text) ? null : markup`<title>${text}</title>`;
  return markup`<g class="${event.kind}">${whole}<text class="time" x="${TIME_PX - 8}" y="${y + 4}">${time}</text>
<circle cx="${laneX(lane)}" cy="${y}" r="5"/><text x="${lanesEnd + 10}" y="${y + 4}">${cut(text)}</text></g>
`;
}

/** The way of what happens, from lane to lane. */
function pathOf(points: readonly (readonly [number, number])[]): string {
  return points.map(([x, y], index) => `${index === 0 ? "M" : "L"}${x} ${y}`).join("");
}

/** null: nothing was recorded. */
export function timelineSvg(result: CaseResult, id: string): Markup | null {
  if (result.result?.kind !== "evidence") return null;
  const { trace } = result.result.evidence;
  const [first] = trace;
  if (first === undefined) return null;
  const rows = rowsOf(trace);
  const height = HEAD_PX + ROW_PX * rows.length + 8;
  const points: (readonly [number, number])[] = [];
  const drawn = rows.map((row, index) => {
    const y = HEAD_PX + ROW_PX * (index + 0.5);
    if (row.kind === "gap") {
      return markup`<text class="gap" x="${TIME_PX + (lanesEnd - TIME_PX) / 2}" y="${y + 4}">${row.count} more events</text>`;
    }
    const lane = lanes.indexOf(laneOf(row.event, result.planned.scenario));
    points.push([laneX(lane), y]);
    return eventRow(row.event, lane, y, timeText(row.event, first, unitOf(result)));
  });
  const heads = lanes.map(
    (name, index) => markup`<text class="lane" x="${laneX(index)}" y="16">${name}</text>`,
  );
  // One path for all: a whole run has a thousand of these drawings, and most of their bytes were lines.
  const laneLines = lanes.map((_name, index) => `M${laneX(index)} ${HEAD_PX - 6}V${height}`).join("");
  const hairs = points.map(([, y]) => `M${TIME_PX} ${y}H${lanesEnd}`).join("");
  const { scenario, proposal } = result.planned;
  return markup`<svg class="timeline" role="img" aria-labelledby="${id}" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}">
<title id="${id}">What happened in ${scenario.id} with ${proposal.id} on ${placeName(result.planned)}: ${trace.length} events in the lanes ${lanes.join(", ")}</title>
${heads}<path class="lane" d="${laneLines}"/><path class="hair" d="${hairs}"/><path class="way" d="${pathOf(points)}"/>${drawn}</svg>`;
}
