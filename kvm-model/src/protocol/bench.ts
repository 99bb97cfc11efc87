/** Measurements of the explorer: against SPIN on the small protocol, and on the full model. Numbers, no verdict. */
import { explore } from "../explore/explorer.ts";
import { type SmallProtocol, smallProtocol } from "./small.ts";
import { runSpin } from "./spin.ts";

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

/** Interleaved: explorer, SPIN, explorer, SPIN …; medians, because a shared machine is noisy. */
export function benchExplore(
  promela: string,
  protocol: SmallProtocol = benchProtocol,
  rounds = 3,
): ExploreBench {
  const ours: number[] = [];
  const theirs: number[] = [];
  let spin = runSpin(promela, protocol, "safety");
  let graph = explore(smallProtocol(protocol).model);
  for (let round = 0; round < rounds; round++) {
    graph = explore(smallProtocol(protocol).model);
    ours.push(graph.states / graph.seconds);
    if (spin.kind === "missing") continue;
    spin = runSpin(promela, protocol, "safety");
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
