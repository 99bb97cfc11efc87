/** The result of a comparison as text. */
import type { KvmTrace } from "../../../language/src/index.ts";
import { comparedText } from "../engines/model/allowed.ts";
import type {
  CaseComparison,
  OrderComparison,
  OutcomeComparison,
  RunComparison,
  Summary,
} from "./compare.ts";
import type { Divergence, DivergenceRow } from "./divergence.ts";
import type { DivergentOrder } from "./order.ts";
import { reasonLines } from "./reasons.ts";
import { type CaseId, caseText, type Skipped } from "./recorded.ts";

export const linesOf = (trace: KvmTrace): readonly string[] => (trace.kind === "trace" ? trace.lines : []);

/** Observed and allowed side by side, down to the first difference. */
function divergenceText({ rows }: Divergence, endCount: number): string {
  const of = endCount === 1 ? "its only end" : `the nearest of ${endCount} ends`;
  const lines = [{ what: "step", observed: "observed", allowed: `model, ${of}` }, ...rows];
  const wide = (column: (row: DivergenceRow) => string): number =>
    Math.max(...lines.map((row) => column(row).length));
  const [first, second] = [wide(({ what }) => what), wide(({ observed }) => observed)];
  return lines
    .map(({ what, observed, allowed }, index) => {
      const mark = index === lines.length - 1 ? "   <- first difference" : "";
      return `  ${what.padEnd(first)}  ${observed.padEnd(second)}  ${allowed}${mark}`;
    })
    .join("\n");
}

/** Lines before the one that no path of the model has. */
const CONTEXT_LINES = 5;

/** The trace up to the first difference, and what the model shows in its place. */
function orderText(trace: KvmTrace, { line, observed, instead }: DivergentOrder): string {
  const lines = linesOf(trace);
  return [
    ...lines.slice(Math.max(0, line - CONTEXT_LINES), line).map((text) => `    ${text}`),
    `  > ${lines[line] ?? "the end of the trace"}`,
    `  first difference at line ${line + 1}: the kernel passed ${observed};`,
    `  the model, after the same beginning: ${instead.length === 0 ? "nothing any more" : instead.join("; ")}`,
  ].join("\n");
}

function orderTexts(name: string, { trace, order, replay }: OrderComparison): readonly string[] {
  if (order.kind !== "diverges") return [];
  return [`OTHER ORDER   ${name}`, orderText(trace, order), ...(replay === null ? [] : [`  ${replay}`])];
}

export type ComparisonTextOptions = {
  /** Also what the model allows and no case has shown, and what was not compared. */
  readonly all: boolean;
};

function outcomeTexts(
  id: CaseId,
  outcome: OutcomeComparison,
  { all }: ComparisonTextOptions,
): readonly string[] {
  const name = caseText(id);
  if (outcome.kind === "unsupported") {
    return all ? [`only ${id.engine.padEnd(8)} ${name}: ${outcome.reason}`] : [];
  }
  const { kind, ends, unseen, divergence, replay } = outcome;
  const negative = unseen.map((end) => `not seen      ${name}: ${comparedText(end.outcome)}`);
  return [
    ...(all ? negative : []),
    ...(kind === "same" ? [] : [`NOT ALLOWED   ${name}`]),
    ...(divergence === null ? [] : [divergenceText(divergence, ends.length)]),
    ...(replay === null ? [] : [`  ${replay}`]),
  ];
}

/** Empty: the case has no difference to report. */
export function caseTexts(
  { id, order, outcome }: CaseComparison,
  options: ComparisonTextOptions,
): readonly string[] {
  return [...(order === null ? [] : orderTexts(caseText(id), order)), ...outcomeTexts(id, outcome, options)];
}

function ordersTexts({ followed, events, different, reasons }: Summary["orders"]): readonly string[] {
  // Nothing had tracepoints.
  if (followed + different + reasons.length === 0) return [];
  return [
    `${followed} traces of KVM's tracepoints (${events} events) go through the model in their order, ${different} do not.`,
    ...(reasons.length === 0 ? [] : ["Not compared, because", ...reasonLines(reasons)]),
  ];
}

function onlyModelText({ scenario, proposal, engine, reason }: Skipped): string {
  return `only model    ${scenario} x ${proposal} (not ${engine}): ${reason}`;
}

export function summaryTexts(summary: Summary, { all }: ComparisonTextOptions): readonly string[] {
  const { counts, orders, onlyReal, onlyModel, goneErrata } = summary;
  const reasonsOf = (cases: readonly string[], what: string): readonly string[] =>
    cases.length === 0 ? [] : [`${cases.length} cases ${what}:`, ...reasonLines(cases)];
  return [
    ...(all ? onlyModel.map(onlyModelText) : []),
    ...reasonsOf(onlyReal, "not supported by the model"),
    ...reasonsOf(
      onlyModel.map(({ reason }) => reason),
      "that only the model can run",
    ),
    ...ordersTexts(orders),
    ...goneErrata.map((reason) => `ERRATUM GONE  ${reason}`),
    ...(counts.own === 0
      ? []
      : [`${counts.own} of the recorded cases are the model's own: no observations, and not counted below.`]),
    `${counts.same} observations are among what the model allows, ${counts.positive} are not; ` +
      `${counts.bounded} not decided (search bounded), ${counts.unsupported} not for the model; ` +
      `${counts.negative} allowed ends were not seen.`,
  ];
}

export function runTexts({ compared, differences }: RunComparison): readonly string[] {
  return [
    ...differences.map(
      ({ id, first, second }) =>
        `DIFFERENT     ${caseText(id)}\n  first   ${comparedText(first)}\n  second  ${comparedText(second)}`,
    ),
    `${compared} cases compared, ${differences.length} differ.`,
  ];
}
