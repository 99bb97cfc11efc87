/**
 * Holds the order of a kernel's tracepoints against the model's steps: is there a path of the model that passes exactly
 * these, in this order? Where there is none, the first line that no path has is named, with what the model would show.
 * Pure.
 */
import {
  type Followed,
  follow,
  guestModel,
  isMapping,
  lateFaults,
  type ModelCase,
  modelCase,
  tracepointsOf,
} from "../../../kvm-model/src/index.ts";
import type { KvmTrace, Proposal, Scenario } from "../../../language/src/index.ts";
import type { ModelPath } from "../engines/model/allowed.ts";
import { type Backend, translate } from "../engines/model/translate.ts";
import { TraceError } from "../tracing/kvm-trace.ts";
import { type ComparedEvent, comparedEvents, type TracepointOptions } from "./tracepoints.ts";

/** The path has the same beginning. */
export type DivergentOrder = ModelPath & {
  readonly kind: "diverges";
  readonly events: number;
  /** Index of the line in the trace. */
  readonly line: number;
  /** The event of that line in the words that model and kernel share. */
  readonly observed: string;
  /** The model's next lines after the same beginning; empty: none. */
  readonly instead: readonly string[];
};

export type Order =
  | (ModelPath & {
      readonly kind: "followed";
      /** How many of the kernel's events were compared. */
      readonly events: number;
    })
  | DivergentOrder
  | { readonly kind: "none"; readonly reason: string };

export type OrderOptions = TracepointOptions & {
  readonly maxPairs?: number;
  /** Changes to the case: mutations. */
  readonly more?: Partial<ModelCase>;
};

const PAIRS_MAX = 2_000_000;

type Attempt = { readonly followed: Followed; readonly timer: boolean };

const furthest = ({ followed }: Attempt): number => (followed.kind === "followed" ? Infinity : followed.at);

/** Guests with and without a timer are both allowed, as in `allowed.ts`. */
export function orderOf(
  scenario: Scenario,
  proposal: Proposal,
  backend: Backend,
  trace: KvmTrace,
  options: OrderOptions,
): Order {
  if (trace.kind === "none") return { kind: "none", reason: `no tracepoints: ${trace.reason}` };
  const translation = translate(scenario, proposal, { backend, timer: true });
  if (translation.kind === "no") return { kind: "none", reason: translation.reason };
  const { filePages } = translation.plan;
  let events: readonly ComparedEvent[];
  try {
    events = comparedEvents(scenario, filePages, trace.lines, options);
  } catch (error) {
    if (error instanceof TraceError) return { kind: "none", reason: error.message };
    throw error;
  }
  // Every guest touches its window: a trace without a word of that was not taken.
  if (events.length === 0) return { kind: "none", reason: "no tracepoint says anything of the window" };
  const attempts: Attempt[] = [];
  for (const timer of [true, false]) {
    const given = { ...translation.case, preempt: timer, interference: true, ...options.more };
    const { model, ctx } = guestModel(modelCase(given));
    const followed = follow(model, events, {
      visibleOf: (before, after, said) => {
        const tracepoints = tracepointsOf(ctx, before, after, said);
        return options.tracesSptes ? tracepoints : tracepoints.filter((event) => !isMapping(event));
      },
      maxPairs: options.maxPairs ?? PAIRS_MAX,
      ...(ctx.vcpus > 1 ? { late: lateFaults } : {}),
    });
    if (followed.kind === "followed") {
      return { kind: "followed", events: events.length, token: followed.token, timer };
    }
    attempts.push({ followed, timer });
  }
  const [best] = attempts.sort((a, b) => furthest(b) - furthest(a));
  if (best?.followed.kind !== "diverges" || attempts.some(({ followed }) => followed.kind === "bounded"))
    return { kind: "none", reason: "the search was cut off by its bound" };
  const { at, instead, token } = best.followed;
  const divergent = events[at];
  return {
    kind: "diverges",
    events: events.length,
    line: divergent?.line ?? trace.lines.length,
    observed: divergent?.event ?? "-",
    instead,
    token,
    timer: best.timer,
  };
}
