/**
 * Why there are asynchronous page faults, measured: tasks that touch pages whose READ our file server answers slowly,
 * beside tasks that only work, all on one vCPU. A fix of the endless loop that loses this is no fix.
 *
 * Runs ordinary cases of the engine `kvm`: the window over a file on our own mount, `read delay` for every READ, a page
 * in every 256 KiB touched once, so that no READ brings in another one's page (the client reads ahead 64 KiB to either
 * side of a fault). The window is made of 16 mappings, each with an open file of its own: after a hundred misses on one
 * the kernel stops reading ahead (MMAP_LOTSAMISS, mm/filemap.c) and would read synchronously.
 */

import {
  type Evidence,
  FILE_BYTES_MAX,
  type Proposal,
  proposals,
  type Scenario,
} from "../../../language/src/index.ts";
import { parseScenarios } from "../../../language/src/read.ts";
import { LostChildError } from "../../../sys/src/index.ts";
import type { Engine } from "../engine.ts";
import type { RunDirectory } from "../run/directory.ts";
import { median, quantile } from "./quantile.ts";

const FAULTING_TASKS = 4;
const WORKING_TASKS = 4;
const PAGES_EACH = 60;
const PAGE_DISTANCE_BYTES = 256 * 1024;
const MAPPINGS = 16;
const CASE_TIMEOUT_MS = 20_000;
/** One page that takes this long: what the working tasks do while no other task faults. */
const ALONE_MS = 1000;

export type ApfMode = {
  readonly proposal: string;
  /** The vCPU's state meanwhile. */
  readonly what: string;
};

/** In the order of the table; the first is what the others are held against. */
export const apfModes: readonly ApfMode[] = [
  { proposal: "no-hlt-exits-no-apf", what: "synchronous: the vCPU waits in KVM_RUN" },
  { proposal: "efault-exit", what: "synchronous, and a guest without a timer" },
  { proposal: "apf-loop", what: "halt only: the guest is not notified, its timer ends the halt" },
  { proposal: "pf-injection-no-apf", what: "halt only, with the fence's watch on the file" },
  { proposal: "apf-guest", what: "paravirtual: the guest is notified and runs another task" },
  { proposal: "pf-injection", what: "paravirtual, with the fence's watch on the file" },
];

/** The measure of async page faults' author: work done by the working threads, against a kernel without. */
export const published = {
  source:
    "Natapov, lkml.org/lkml/2010/10/14/115: 4 vCPUs, 2 GiB of guest in 512 MiB, 4 faulting and 4 working threads, swap",
  halt: 0.13,
  paravirtual: 0.91,
} as const;

export type ApfOptions = {
  readonly delayMs: number;
  readonly rounds: number;
  readonly directory: RunDirectory;
  readonly engine: Engine;
  readonly signal: AbortSignal;
  readonly progress: (text: string) => void;
};

export type ApfFigures = {
  /** Count of the working tasks per second, while the others were at their pages. */
  readonly workPerSecond: number;
  readonly pagesPerSecond: number;
  /** How long a page took its task. */
  readonly medianMs: number;
  readonly p99Ms: number;
  /** Page-not-present events that the guest got. */
  readonly notPresent: number;
};

export type ApfRow = ApfMode & { readonly figures: ApfFigures };
export type ApfResult = {
  readonly delayMs: number;
  readonly rounds: number;
  readonly pages: number;
  readonly aloneWorkPerSecond: number;
  readonly rows: readonly ApfRow[];
};

const hexOffset = (index: number): string => `0x${(index * PAGE_DISTANCE_BYTES).toString(16)}`;

function scenarioOf(id: string, faulting: readonly (readonly string[])[], delayMs: number): Scenario {
  const working = Array.from({ length: WORKING_TASKS }, (_, task) => [
    `worker-${task}`,
    { in: "guest-task", steps: ["count"] },
  ]);
  const length = Number(FILE_BYTES_MAX) / MAPPINGS;
  const json = {
    id,
    purpose: `Tasks fault on pages whose READ takes ${delayMs} ms, beside tasks that work.`,
    backing: { size: String(FILE_BYTES_MAX), mount: { faults: [`read delay ${delayMs}`] } },
    window: Array.from({ length: MAPPINGS }, (_, at) => ({ file: at * length, at: at * length, length })),
    actors: Object.fromEntries([
      ...faulting.map((steps, task) => [`faulting-${task}`, { in: "guest-task", steps }]),
      ...working,
    ]),
    witness: [],
    properties: [],
  };
  const [scenario] = parseScenarios(JSON.stringify(json), id);
  if (scenario === undefined) throw new Error("no scenario");
  return scenario;
}

/** Each task has a part of the file to itself. */
function faultingScenario(delayMs: number): Scenario {
  const tasks = Array.from({ length: FAULTING_TASKS }, (_, task) =>
    Array.from({ length: PAGES_EACH }, (_, page) => `load ${hexOffset(task * (PAGES_EACH + 4) + page)} 8`),
  );
  return scenarioOf("bench-apf", tasks, delayMs);
}

/** From one case's evidence. Throws if not every page came. */
export function apfFigures({ accessMs, counters, counts }: Evidence, pages: number): ApfFigures {
  const took = Object.values(accessMs)
    .flatMap((labels) => Object.values(labels))
    .sort((a, b) => a - b);
  if (took.length !== pages) throw new Error(`${took.length} of ${pages} accesses were timed`);
  const seconds = Number(counters.guest_access_span_us ?? 0n) / 1e6;
  return {
    workPerSecond: Number(counters.guest_counted ?? 0n) / seconds,
    pagesPerSecond: pages / seconds,
    medianMs: quantile(took, 0.5),
    p99Ms: quantile(took, 0.99),
    notPresent: counts["apf-not-present"] ?? 0,
  };
}

class Runs {
  readonly #options: ApfOptions;
  #count = 0;

  constructor(options: ApfOptions) {
    this.#options = options;
  }

  async run(scenario: Scenario, proposalId: string, pages: number): Promise<ApfFigures> {
    const { engine, directory, signal } = this.#options;
    const proposal = proposals.find(({ id }) => id === proposalId) as Proposal;
    const support = engine.supports(scenario, proposal);
    if (support.kind === "no") throw new Error(`${proposalId}: ${support.reason}`);
    this.#count += 1;
    const result = await engine.run(scenario, proposal, {
      directory: directory.caseDirectory(`case-${this.#count}`),
      timeoutMs: CASE_TIMEOUT_MS,
      slowness: 1,
      signal,
    });
    if (result.kind !== "evidence") throw new LostChildError(`${proposalId}: no figures: ${result.message}`);
    return apfFigures(result.evidence, pages);
  }
}

/** Each mode once a round, in turn, so that what disturbs the machine disturbs all alike; medians over the rounds. */
export async function benchApf(options: ApfOptions): Promise<ApfResult> {
  const { delayMs, rounds, progress, signal } = options;
  const runs = new Runs(options);
  const pages = FAULTING_TASKS * PAGES_EACH;
  const scenario = faultingScenario(delayMs);
  const alone = scenarioOf("bench-apf-alone", [["load 0 8"]], ALONE_MS);
  const aloneWork: number[] = [];
  const seen = new Map<string, ApfFigures[]>();
  for (let round = 1; round <= rounds && !signal.aborted; round++) {
    progress(`round ${round} of ${rounds}: alone`);
    aloneWork.push((await runs.run(alone, "apf-guest", 1)).workPerSecond);
    for (const { proposal } of apfModes) {
      progress(`round ${round} of ${rounds}: ${proposal}`);
      const figures = await runs.run(scenario, proposal, pages);
      seen.set(proposal, [...(seen.get(proposal) ?? []), figures]);
    }
  }
  const middle = (proposal: string, name: keyof ApfFigures): number =>
    median((seen.get(proposal) ?? []).map((figures) => figures[name]));
  return {
    delayMs,
    rounds,
    pages,
    aloneWorkPerSecond: median(aloneWork),
    rows: apfModes.map((mode) => ({
      ...mode,
      figures: {
        workPerSecond: middle(mode.proposal, "workPerSecond"),
        pagesPerSecond: middle(mode.proposal, "pagesPerSecond"),
        medianMs: middle(mode.proposal, "medianMs"),
        p99Ms: middle(mode.proposal, "p99Ms"),
        notPresent: middle(mode.proposal, "notPresent"),
      },
    })),
  };
}
