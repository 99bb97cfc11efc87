/**
 * Recorded cases against the model: is what was observed among the outcomes that the model allows, and is the order of
 * the kernel's tracepoints one that the model has? Or two recorded runs against each other. Pure; `text.ts` makes
 * sentences of it, `cli/compare.ts` prints them.
 *
 * An observation that the model does not allow is a positive difference: model or kernel is wrong, unless the search was
 * cut off by a bound. What the model allows and no case has shown is a negative difference: information.
 */
import {
  guestPersonas,
  type KvmPart,
  type KvmTrace,
  modelledOnly,
  type Outcome,
  type Proposal,
  proposals,
  sameOutcome,
  unknownPart,
} from "../../../language/src/index.ts";
import {
  type Allowed,
  type AllowedEnd,
  allowedEnds,
  isEnd,
  type ModelPath,
  replayText,
} from "../engines/model/allowed.ts";
import { backendOf, hardware, translate } from "../engines/model/translate.ts";
import { type Divergence, divergenceOf } from "./divergence.ts";
import { type Order, orderOf } from "./order.ts";
import {
  type CaseId,
  caseText,
  type Definition,
  type Recorded,
  type RecordedCases,
  RecordingError,
  type Skipped,
} from "./recorded.ts";
import { tracesSptes, windowBaseOf } from "./tracepoints.ts";

export type OutcomeComparison =
  | { readonly kind: "unsupported"; readonly reason: string }
  | {
      /** `bounded`: not among what was found before the search was cut off. */
      readonly kind: "same" | "positive" | "bounded";
      readonly observed: Outcome;
      readonly ends: readonly AllowedEnd[];
      /** Those of the ends that are not what was observed. */
      readonly unseen: readonly AllowedEnd[];
      readonly boundedBy: string | null;
      /** From the nearest end; null if the observation is an end, or the model has none. */
      readonly divergence: Divergence | null;
      /** The command that shows the nearest end. */
      readonly replay: string | null;
    };

export type OrderComparison = {
  readonly trace: KvmTrace;
  readonly order: Order;
  /** The command that shows a path with the same beginning. */
  readonly replay: string | null;
};

export type CaseComparison = {
  readonly id: CaseId;
  /** As `Recorded`. */
  readonly isReal: boolean;
  readonly outcome: OutcomeComparison;
  /** null: no tracepoints were recorded. */
  readonly order: OrderComparison | null;
};

/** A recorded case in the model's terms: its proposal, on the kernel that it was recorded on. */
type Modelled = {
  readonly proposal: Proposal;
  /** What `daxfault explore` calls it; null: no proposal is the same. */
  readonly preset: string | null;
};

function isSamePoint(a: Proposal, b: Proposal): boolean {
  return (
    a.kvm === b.kvm &&
    a.exits === b.exits &&
    a.vmm === b.vmm &&
    a.guest === b.guest &&
    a.server === b.server &&
    a.lapic === b.lapic
  );
}

/**
 * @param kvm the proposal that the recorded kernel has built in; null: a stock kernel, the proposal's own
 * @param recordedKvm what the record says of that
 */
export function modelledOn(kvm: KvmPart | null, named: Proposal, recordedKvm: KvmPart = "today"): Modelled {
  if (kvm === null || (named.kvm !== "today" && named.kvm !== recordedKvm)) {
    const builtIn = proposals.find(({ id }) => id === named.id) ?? named;
    return { proposal: named, preset: isSamePoint(builtIn, named) ? named.id : null };
  }
  const proposal = { ...named, kvm };
  const preset = proposals.find((other) => isSamePoint(other, proposal));
  return { proposal, preset: preset?.id ?? null };
}

function compareOutcome(
  observed: Outcome,
  allowed: Allowed,
  replayOf: (path: ModelPath) => string | null,
): OutcomeComparison {
  if (allowed.kind === "unsupported") return allowed;
  const { ends, boundedBy } = allowed;
  const unseen = ends.filter((end) => !isEnd(end, observed));
  if (unseen.length < ends.length) {
    return { kind: "same", observed, ends, unseen, boundedBy, divergence: null, replay: null };
  }
  const divergence = divergenceOf(observed, ends);
  const kind = boundedBy === null ? "positive" : "bounded";
  const replay = divergence === null ? null : replayOf(divergence.nearest);
  return { kind, observed, ends, unseen, boundedBy, divergence, replay };
}

/**
 * What names the case for `daxfault explore`; null: nothing does any more, because the id that the run used stands for
 * another text today.
 */
function placeFor({ scenario, argument }: Definition, today: ReadonlyMap<string, string>): string | null {
  const [name] = argument.split(" ");
  const isBuiltIn = name === scenario.id && !argument.includes(" --scenarios ");
  return isBuiltIn && today.get(scenario.id) !== scenario.hash ? null : argument;
}

/** The case in the terms of the text and the proposal that were recorded with it. */
export function compareCase(one: Recorded, { today, kvm }: ModelComparisonOptions): CaseComparison {
  const { engine, outcome, traced, isReal, definition } = one;
  const { scenario } = definition;
  const id = { scenario: one.scenario, proposal: one.proposal, engine };
  const unknown = unknownPart(definition.proposal);
  if (unknown !== null) {
    const reason = `${one.proposal} has a part that there is not today: ${unknown}`;
    return { id, isReal, outcome: { kind: "unsupported", reason }, order: null };
  }
  const { guest } = definition.proposal;
  if (one.isLinuxGuest && guestPersonas[guest].pageFaultIsError) {
    const reason = `guest=${guest} understands the VMM's report, and the guest was a Linux, which does not`;
    return { id, isReal, outcome: { kind: "unsupported", reason }, order: null };
  }
  const builtIn = one.kernel.kvm ?? "today";
  const { proposal, preset } = modelledOn(
    kvm ?? (builtIn === "today" ? null : builtIn),
    definition.proposal,
    builtIn,
  );
  const backend = backendOf(one.kvmBackend);
  const place = placeFor(definition, today);
  const replayOf = (path: ModelPath): string | null =>
    preset === null || place === null ? null : replayText(preset, place, path);
  let order: OrderComparison | null = null;
  if (traced !== null) {
    const { attestation, kvmTrace: trace } = traced;
    const found = orderOf(scenario, proposal, backend, trace, {
      tracesSptes: tracesSptes(attestation, scenario),
      windowBase: windowBaseOf(attestation),
    });
    order = { trace, order: found, replay: found.kind === "diverges" ? replayOf(found) : null };
  }
  const allowed = allowedEnds(scenario, proposal, backend);
  return { id, isReal, outcome: compareOutcome(outcome, allowed, replayOf), order };
}

export type ModelComparisonOptions = {
  /** The hashes of today's built-in scenarios, by id. */
  readonly today: ReadonlyMap<string, string>;
  /** The proposal that every recorded kernel has built in; null: what the record says of each. */
  readonly kvm: KvmPart | null;
};

/** Case by case. */
export function* compareCases(
  observed: readonly Recorded[],
  options: ModelComparisonOptions,
): Generator<CaseComparison, void> {
  for (const one of observed) yield compareCase(one, options);
}

export type Summary = {
  readonly counts: {
    /** Observations of real engines. */
    readonly same: number;
    /** The model's own cases, which were recorded with the others. They are no evidence. */
    readonly own: number;
    readonly positive: number;
    readonly bounded: number;
    readonly unsupported: number;
    readonly negative: number;
  };
  readonly orders: {
    readonly followed: number;
    /** Events of those that were followed. */
    readonly events: number;
    readonly different: number;
    /** Why others were not compared. */
    readonly reasons: readonly string[];
  };
  /** Why the model does not take a case that a real engine took. */
  readonly onlyReal: readonly string[];
  /** Cases that the model takes and no real engine took. */
  readonly onlyModel: readonly Skipped[];
  /** The judge's reasons, each once. */
  readonly goneErrata: readonly string[];
};

/** Skipped cases that the model takes. */
function onlyModelOf(skipped: readonly Skipped[]): readonly Skipped[] {
  return skipped.filter(({ definition: { scenario, proposal } }) => {
    if (unknownPart(proposal) !== null) return false;
    return translate(scenario, proposal, { backend: hardware, timer: true }).kind === "yes";
  });
}

function summarizeOrders(comparisons: readonly CaseComparison[]): Summary["orders"] {
  const orders = comparisons.flatMap(({ order }) => (order === null ? [] : [order.order]));
  const followed = orders.filter((order) => order.kind === "followed");
  return {
    followed: followed.length,
    events: followed.reduce((sum, { events }) => sum + events, 0),
    different: orders.filter(({ kind }) => kind === "diverges").length,
    reasons: orders.flatMap((order) => (order.kind === "none" ? [order.reason] : [])),
  };
}

/** @param comparisons all that `compareCases` has found of `recorded` */
export function summarize(comparisons: readonly CaseComparison[], recorded: RecordedCases): Summary {
  const outcomes = comparisons.map(({ outcome }) => outcome);
  const sameOf = (real: boolean): number =>
    comparisons.filter(({ outcome, isReal }) => outcome.kind === "same" && isReal === real).length;
  const count = (kind: OutcomeComparison["kind"]): number =>
    outcomes.filter((outcome) => outcome.kind === kind).length;
  return {
    counts: {
      same: sameOf(true),
      own: sameOf(false),
      positive: count("positive"),
      bounded: count("bounded"),
      unsupported: count("unsupported"),
      negative: comparisons.reduce(
        (sum, { outcome, isReal }) =>
          sum + (outcome.kind === "unsupported" || !isReal ? 0 : outcome.unseen.length),
        0,
      ),
    },
    orders: summarizeOrders(comparisons),
    onlyReal: outcomes.flatMap((outcome) => (outcome.kind === "unsupported" ? [outcome.reason] : [])),
    onlyModel: onlyModelOf(recorded.skipped),
    goneErrata: [...new Set(recorded.observed.flatMap(({ goneErratum }) => goneErratum ?? []))],
  };
}

export type RunComparison = {
  readonly compared: number;
  readonly differences: readonly {
    readonly id: CaseId;
    readonly first: Outcome;
    readonly second: Outcome;
  }[];
};

/**
 * Case by case; cases that only one run has are left out. Throws a RecordingError where the two are of different texts of
 * a scenario.
 */
export function compareRuns(left: readonly Recorded[], right: readonly Recorded[]): RunComparison {
  const others = new Map(right.map((one) => [caseText(one), one]));
  const pairs = left.flatMap((one) => {
    const other = others.get(caseText(one));
    return other === undefined ? [] : [{ one, other }];
  });
  for (const { one, other } of pairs) {
    if (other.scenarioHash !== one.scenarioHash)
      throw new RecordingError(`${caseText(one)}: two texts of one scenario`);
  }
  const differences = pairs.flatMap(({ one, other }) => {
    if (sameOutcome(one.outcome, other.outcome, modelledOnly)) return [];
    const { scenario, proposal, engine } = one;
    return [{ id: { scenario, proposal, engine }, first: one.outcome, second: other.outcome }];
  });
  return { compared: pairs.length, differences };
}
