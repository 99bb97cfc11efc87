/** `daxfault bench explore`: how fast the explorer is, beside SPIN on the same steps where SPIN is installed. */
import {
  benchExplore,
  type ExploreBench,
  explore,
  guestModel,
  largestCase,
} from "../../../kvm-model/src/index.ts";
import { exitCodes } from "../../../language/src/index.ts";
import { packagePath } from "../paths.ts";
import { toolEnvironment } from "../run/tag.ts";
import { liveInFolder } from "./life.ts";
import type { BenchExploreLine } from "./lines/bench.ts";
import { openJson } from "./output.ts";

const perSecond = (value: number): string => `${(value / 1e6).toFixed(2)} M states/s`;

type Full = BenchExploreLine["full"];

function benchFull(): Full {
  const graph = explore(guestModel(largestCase).model);
  return {
    case: largestCase.name,
    peakRssBytes: process.resourceUsage().maxRSS * 1024,
    states: graph.states,
    statesPerSecond: graph.states / graph.seconds,
    stateBytes: graph.model.stateBytes,
    overheadBytesPerState: graph.overheadBytesPerState,
  };
}

export async function benchExploreCommand(options: { readonly json?: string }): Promise<number> {
  const json = openJson<BenchExploreLine>(options.json);
  return liveInFolder({ command: "daxfault bench explore", signals: "kernel" }, ({ directory }) => {
    const place = { directory: directory.path, environment: toolEnvironment(directory.path) };
    const small = benchExplore(packagePath("fixtures/spin/apf.pml"), place);
    const full = benchFull();
    json.write({ type: "bench", name: "explore", small, full });
    if (!json.isStdout) print(small, full);
    return exitCodes.ok;
  });
}

function print(small: ExploreBench, full: Full): void {
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
  console.log(`full model, case ${full.case}`);
  console.log(
    `  explorer  ${full.states} states, ${perSecond(full.statesPerSecond)}, ` +
      `${full.stateBytes} bytes a state + ${full.overheadBytesPerState.toFixed(1)}, ` +
      `peak ${Math.round(full.peakRssBytes / 2 ** 20)} MiB`,
  );
}
