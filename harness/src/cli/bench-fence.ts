/** `daxfault bench fence`: how long the fence takes, and what happens without it. */

import { exitCodes } from "../../../language/src/index.ts";
import { benchFence, type FenceResult, type FenceRow, type Spread } from "../bench/fence.ts";
import { supportOf, thisMachine } from "../machine.ts";
import { renderGrid } from "../report/grid.ts";
import type { Style } from "../report/style.ts";
import { liveInFolder } from "./life.ts";
import type { BenchFenceLine } from "./lines/bench.ts";
import { openJson, openStatusLine } from "./output.ts";
import { parseCount } from "./usage.ts";

export type BenchFenceOptions = { readonly json?: string; readonly rounds: string; readonly races: string };

const ROUNDS_MAX = 1_000_000;

function spread({ median, p99, max }: Spread): readonly string[] {
  return [`${median.toFixed(2)} / ${p99.toFixed(2)} / ${max.toFixed(2)}`];
}

function line({ vcpus, rounds, exitMs, toldMs, cpuMs, losses }: FenceRow): readonly (readonly string[])[] {
  return [
    [String(vcpus)],
    [String(rounds)],
    spread(exitMs),
    spread(toldMs),
    spread(cpuMs),
    [String(losses.length)],
  ];
}

export function fenceText({ rows, unfenced }: FenceResult, style: Style): string {
  const { watchedMs, isLooping, wasTold, faultsPerSecond, processCpu, machineCpu } = unfenced;
  const seconds = (watchedMs / 1000).toFixed(1);
  const ending = wasTold
    ? "the task was told all the same"
    : isLooping
      ? `still looping after ${seconds} s, the task never told: ${Math.round(faultsPerSecond).toLocaleString("en")} faults/s, ` +
        `${processCpu.toFixed(2)} CPUs burnt by the VM process, ${machineCpu.toFixed(2)} in all`
      : `the task was not told within ${seconds} s, and no loop was proven`;
  return [
    "The fence, from the return of truncate(2): milliseconds, median / p99 / max",
    "",
    renderGrid(
      {
        head: ["vCPUs", "rounds", "out of KVM_RUN", "task told", "CPU a round", "VMs lost"],
        rows: rows.map(line),
      },
      style,
    ),
    ...rows.flatMap(({ losses }) => losses.map((loss) => `lost: ${loss}`)),
    "",
    `without it: ${ending}`,
  ].join("\n");
}

/** Exit code 1 if a VM was lost: the fence is there to keep them. */
export async function benchFenceCommand(options: BenchFenceOptions, style: Style): Promise<number> {
  const rounds = parseCount("--rounds", options.rounds, 1, ROUNDS_MAX);
  const races = parseCount("--races", options.races, 1, ROUNDS_MAX);
  const support = supportOf(thisMachine(), ["kvm", "micro-guest"]);
  if (support.kind === "no") {
    console.error(`daxfault bench fence: ${support.reason}`);
    return exitCodes.nothingRan;
  }
  const json = openJson<BenchFenceLine>(options.json);
  const status = openStatusLine();
  return liveInFolder({ command: "daxfault bench fence" }, async ({ directory, signal }) => {
    try {
      const progress = (text: string): void => status.show(text);
      const result = await benchFence({ rounds, races, directory, signal, progress });
      status.clear();
      json.write({ type: "bench", name: "fence", ...result });
      if (!json.isStdout) console.log(fenceText(result, style));
      return result.rows.some(({ losses }) => losses.length > 0) ? exitCodes.unexpected : exitCodes.ok;
    } finally {
      status.clear();
    }
  });
}
