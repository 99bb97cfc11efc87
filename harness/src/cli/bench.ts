/** `daxfault bench explore`: how fast the explorer is, beside SPIN on the same steps where SPIN is installed. */
import {
  benchExplore,
  caseOf,
  explore,
  guestModel,
  presetOf,
  type Situation,
} from "../../../kvm-model/src/index.ts";
import { packagePath } from "../paths.ts";
import { exitCodes } from "../verdict.ts";
import { openJson } from "./output.ts";

/** The largest case of the full model's scorecard. */
const LARGEST: { readonly preset: string; readonly situation: Situation } = {
  preset: "uniform-efault",
  situation: "two-victims",
};

const perSecond = (value: number): string => `${(value / 1e6).toFixed(2)} M states/s`;

export function benchExploreCommand(options: { readonly json?: string }): number {
  const small = benchExplore(packagePath("fixtures/spin/apf.pml"));
  const preset = presetOf(LARGEST.preset);
  if (preset === null) throw new Error(`no preset ${LARGEST.preset}`);
  const graph = explore(guestModel(caseOf(LARGEST.situation, preset)).model, { edges: true });
  const full = {
    case: `${LARGEST.situation} × ${LARGEST.preset}`,
    states: graph.states,
    statesPerSecond: graph.states / graph.seconds,
    stateBytes: graph.model.stateBytes,
    overheadBytesPerState: graph.overheadBytesPerState,
  };
  const json = openJson(options.json);
  json.write({ type: "bench", name: "explore", small, full });
  json.close();
  if (json.isStdout) return exitCodes.ok;
  const { pages, tasks, steps, hops } = small.protocol;
  console.log(`small protocol (${pages} pages, ${tasks} tasks, ${steps} steps, ${hops} hops)`);
  console.log(
    `  explorer  ${small.states} states, ${small.transitions} transitions, ${perSecond(small.statesPerSecond)}`,
  );
  console.log(
    `            ${small.stateBytes} bytes a state + ${small.overheadBytesPerState.toFixed(1)}, ` +
      `peak ${Math.round(small.peakRssBytes / 2 ** 20)} MiB`,
  );
  if (small.spin.kind === "missing") console.log(`  SPIN      not compared: ${small.spin.reason}`);
  else {
    const same =
      small.spin.states === small.states ? "the same states" : `${small.spin.states} STATES: NOT THE SAME`;
    console.log(
      `  SPIN -O2  ${same}, ${perSecond(small.spin.statesPerSecond)}; ratio ${small.spin.ratio.toFixed(2)}`,
    );
  }
  console.log(`full model, ${full.case}, with edges`);
  console.log(
    `  explorer  ${full.states} states, ${perSecond(full.statesPerSecond)}, ` +
      `${full.stateBytes} bytes a state + ${full.overheadBytesPerState.toFixed(1)}`,
  );
  return exitCodes.ok;
}
