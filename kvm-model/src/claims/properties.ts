/**
 * The properties of the scorecard, each as demands on situations: which facts must not be reachable there and which
 * must. A cell says `yes` if all demands hold in all situations, `no` if none does, `partly` in between; it is never
 * more than `unknown` where a bound was met and nothing was found.
 */
import type { Parts } from "../../../language/src/index.ts";
import type { ExploreOptions } from "../explore/explorer.ts";
import { collectFacts, type Fact, type Facts } from "../model/facts.ts";
import { guestModel } from "../model/model.ts";
import { caseOf, type Situation } from "./cases.ts";

export const propertyNames = [
  "terminates",
  "contained",
  "right-victim",
  "precise-load",
  "precise-store",
  "kernel-access",
  "no-silent-data",
  "host-truncation",
  "host-unharmed",
  "reversible",
  "nmi-safe",
  "nested",
  "any-backing",
  "keeps-apf",
] as const;
export type Property = (typeof propertyNames)[number];

type Demand = {
  readonly situation: Situation;
  readonly never: readonly Fact[];
  readonly sometimes: readonly Fact[];
  /** Wanted only where an access can meet a missing page at all: without it the demand would hold of a mute proposal. */
  readonly ifMet: readonly Fact[];
};

const hangs: readonly Fact[] = ["livelock", "deadlock"];
const dies: readonly Fact[] = ["vm-stopped", "oops", "panic"];
/** Others than the task that touched the page. */
const othersSuffer: readonly Fact[] = [...dies, "starved"];
const suffers: readonly Fact[] = [...hangs, ...othersSuffer];

function demand(
  situation: Situation,
  never: readonly Fact[],
  sometimes: readonly Fact[] = [],
  ifMet: readonly Fact[] = [],
): Demand {
  return { situation, never, sometimes, ifMet };
}

const precise: readonly Fact[] = [...hangs, "imprecise", "silent-data", "exit-elsewhere", "wrong-victim"];

const demands: Readonly<Record<Property, readonly Demand[]>> = {
  terminates: [
    demand("load", hangs),
    demand("store", hangs),
    demand("two-victims", hangs),
    demand("two-vcpus", hangs),
    demand("copy-from-user", hangs),
    demand("interrupts-off", hangs),
  ],
  contained: [
    demand("load", othersSuffer),
    demand("store", othersSuffer),
    demand("two-victims", othersSuffer),
    demand("killed", othersSuffer),
  ],
  "right-victim": [
    demand("two-victims", ["wrong-victim", "lost-report", "exit-elsewhere"], [], ["told"]),
    demand("killed", ["wrong-victim", "lost-report", "exit-elsewhere"], [], ["told"]),
  ],
  "precise-load": [demand("load", precise)],
  "precise-store": [demand("store", precise)],
  "kernel-access": [
    demand("copy-from-user", suffers, ["all-done"]),
    demand("copy-to-user", suffers, ["all-done"]),
  ],
  "no-silent-data": [
    demand("load", ["silent-data", "stale-mapping"]),
    demand("store", ["silent-data", "stale-mapping"]),
    demand("regrown", ["silent-data", "stale-mapping"]),
  ],
  "host-truncation": [
    demand("load", precise),
    demand("through-open-fd", precise),
    demand("through-open-trunc", precise),
  ],
  "host-unharmed": [demand("load", ["host-stuck", "host-delayed", "host-denied", "livelock"])],
  reversible: [demand("regrown", [...hangs, ...dies, "refused-after-regrowth", "silent-data"], ["all-done"])],
  "nmi-safe": [
    demand("nmi-cr2", [...hangs, "wrong-victim", ...dies]),
    demand("nmi-flags", [...hangs, "wrong-victim", ...dies]),
  ],
  nested: [demand("nested", [...suffers, "lost-report"])],
  "any-backing": [demand("tmpfs-full", precise), demand("io-error", precise)],
  "keeps-apf": [
    demand("only-io", [], ["ran-during-io", "all-done"]),
    demand("io-after-kill", ["apf-left-off"], ["ran-during-io"]),
  ],
};

/** A path into a fact that a property forbids; or a fact that it demands and no path reaches (token null). */
export type Violation = {
  readonly situation: Situation;
  readonly fact: Fact;
  readonly token: string | null;
};

export type Cell = {
  readonly property: Property;
  readonly holds: "yes" | "no" | "partly" | "unknown";
  readonly states: number;
  readonly exhaustive: boolean;
  /** The bound that cut the search off, if any. */
  readonly boundedBy: string | null;
  readonly situations: readonly Situation[];
  readonly violations: readonly Violation[];
};

/** The first violation of a demand. */
function violationOf(wanted: Demand, facts: Facts): Violation | null {
  for (const fact of wanted.never) {
    const finding = facts.found[fact];
    if (finding !== null) return { situation: wanted.situation, fact, token: finding.token };
  }
  const met = facts.found["met-gone-page"] !== null;
  for (const fact of [...wanted.sometimes, ...(met ? wanted.ifMet : [])]) {
    if (facts.found[fact] === null) return { situation: wanted.situation, fact, token: null };
  }
  return null;
}

/** All situations of one proposal explored once, however many properties ask for them. */
export function scorecardOf(
  parts: Parts,
  asked: readonly Property[] = propertyNames,
  options: Partial<ExploreOptions> = {},
): Cell[] {
  const explored = new Map<Situation, Facts>();
  const factsIn = (situation: Situation): Facts => {
    const known = explored.get(situation);
    if (known !== undefined) return known;
    const { facts } = collectFacts(guestModel(caseOf(situation, parts)), options);
    explored.set(situation, facts);
    return facts;
  };
  return asked.map((property) => cellOf(property, factsIn));
}

function cellOf(property: Property, factsIn: (situation: Situation) => Facts): Cell {
  const wanted = demands[property];
  const violations: Violation[] = [];
  let states = 0;
  let boundedBy: string | null = null;
  for (const one of wanted) {
    const facts = factsIn(one.situation);
    states += facts.exhaustiveness.states;
    if (facts.exhaustiveness.kind === "bounded") boundedBy = facts.exhaustiveness.by;
    const violation = violationOf(one, facts);
    // Under a bound, "no path reaches it" proves nothing.
    if (violation !== null && (violation.token !== null || boundedBy === null)) violations.push(violation);
  }
  return {
    property,
    holds: holds({ demands: wanted.length, violations: violations.length, boundedBy }),
    states,
    exhaustive: boundedBy === null,
    boundedBy,
    situations: wanted.map((one) => one.situation),
    violations,
  };
}

type Tally = { readonly demands: number; readonly violations: number; readonly boundedBy: string | null };

function holds({ demands, violations, boundedBy }: Tally): Cell["holds"] {
  if (violations === demands) return "no";
  if (violations > 0) return "partly";
  return boundedBy === null ? "yes" : "unknown";
}
