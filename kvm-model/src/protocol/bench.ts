/** Measurements of the explorer: against SPIN on the small protocol, and on the full model. Numbers, no verdict. */
import { explore } from "../explore/explorer.ts";
import type { ModelCase } from "../model/case.ts";
import { modelCase } from "../model/case.ts";
import { type SmallProtocol, smallProtocol } from "./small.ts";
import { runSpin, type SpinPlace } from "./spin.ts";

export type ExploreBench = {
  readonly protocol: SmallProtocol;
  readonly states: number;
  readonly transitions: number;
  readonly statesPerSecond: number;
  readonly stateBytes: number;
  readonly overheadBytesPerState: number;
  readonly peakRssBytes: number;
  readonly spin:
    | {
        readonly kind: "ran";
        readonly states: number;
        readonly statesPerSecond: number;
        readonly ratio: number;
      }
    | { readonly kind: "missing"; readonly reason: string };
};

export const benchProtocol: SmallProtocol = { pages: 2, tasks: 2, steps: 4, hops: 4, fix: 1 };

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}

/** Interleaved: explorer, SPIN, explorer, SPIN ...; medians, because a shared machine is noisy. */
export function benchExplore(
  promela: string,
  place: SpinPlace,
  protocol: SmallProtocol = benchProtocol,
  rounds = 3,
): ExploreBench {
  const ours: number[] = [];
  const theirs: number[] = [];
  let spin = runSpin(promela, protocol, "safety", place);
  let graph = explore(smallProtocol(protocol).model);
  for (let round = 0; round < rounds; round++) {
    graph = explore(smallProtocol(protocol).model);
    ours.push(graph.states / graph.seconds);
    if (spin.kind === "missing") continue;
    spin = runSpin(promela, protocol, "safety", place);
    if (spin.kind === "ran") theirs.push(spin.run.states / spin.run.seconds);
  }
  const statesPerSecond = median(ours);
  return {
    protocol,
    states: graph.states,
    transitions: graph.transitions,
    statesPerSecond,
    stateBytes: graph.model.stateBytes,
    overheadBytesPerState: graph.overheadBytesPerState,
    peakRssBytes: process.resourceUsage().maxRSS * 1024,
    spin:
      spin.kind === "missing"
        ? spin
        : {
            kind: "ran",
            states: spin.run.states,
            statesPerSecond: median(theirs),
            ratio: statesPerSecond / median(theirs),
          },
  };
}

/** The largest case of the full model that is run regularly: four tasks, two pages, truncation and growth. */
export const largestCase: ModelCase = modelCase({
  name: "crowd",
  pages: ["resident", "resident"],
  tasks: [
    task("first", [
      { op: "load", page: 0 },
      { op: "store", page: 0 },
    ]),
    task("second", [
      { op: "load", page: 1 },
      { op: "store", page: 1 },
    ]),
    task("third", [{ op: "load", page: 0 }]),
    task("bystander", [{ op: "count" }]),
  ],
  host: [
    { op: "truncate", pages: 0 },
    { op: "extend", pages: 2 },
  ],
  kvm: "uniform-efault",
  vmm: "inject-ve",
  guest: "ve",
  preempt: true,
});

function task(name: string, steps: ModelCase["tasks"][number]["steps"]): ModelCase["tasks"][number] {
  return { name, vcpu: 0, steps };
}
