/** `daxfault bench kvm`: what an exit costs, beside the same loop in C. */

import { exitCodes } from "../../../language/src/index.ts";
import { benchExits, type ExitBenchRow } from "../../../vmm/src/index.ts";
import { median } from "../bench/quantile.ts";
import { supportOf, thisMachine } from "../machine.ts";
import { packagePath } from "../paths.ts";
import { toolEnvironment } from "../run/tag.ts";
import { liveInFolder } from "./life.ts";
import type { BenchKvmLine } from "./lines/bench.ts";
import { type JsonOutput, openJson, openStatusLine } from "./output.ts";
import { parseCount } from "./usage.ts";

const ROUNDS_MAX = 1000;
const ROUND_MS = 500;

const titles: Readonly<Record<ExitBenchRow["cycle"], string>> = {
  port: "port access and back",
  fault: "-EFAULT, #PF injected, KVM_RUN again",
  "fault-ioctl": "the same without KVM_CAP_SYNC_REGS",
};

const perSecond = (value: number): string => `${(value / 1000).toFixed(1)} k/s`;

function printRow({ cycle, ours, peer }: ExitBenchRow, json: JsonOutput<BenchKvmLine>): void {
  const [mine, theirs] = [median(ours), peer === null ? null : median(peer)];
  const ratio = theirs === null ? null : mine / theirs;
  json.write({
    type: "bench",
    name: "kvm",
    cycle,
    perSecond: mine,
    peerPerSecond: theirs,
    ratio,
    turns: { ours, peer },
  });
  if (json.isStdout) return;
  const beside =
    theirs === null || ratio === null
      ? "no C compiler: not compared"
      : `C ${perSecond(theirs)}; ratio ${ratio.toFixed(3)}`;
  console.log(`${titles[cycle].padEnd(38)} ${perSecond(mine)}, ${beside}`);
}

export async function benchKvmCommand(options: {
  readonly json?: string;
  readonly rounds: string;
}): Promise<number> {
  const rounds = parseCount("--rounds", options.rounds, 1, ROUNDS_MAX);
  const support = supportOf(thisMachine(), ["kvm"]);
  if (support.kind === "no") {
    console.error(`daxfault bench kvm: ${support.reason}`);
    return exitCodes.nothingRan;
  }
  const json = openJson<BenchKvmLine>(options.json);
  const progress = openStatusLine();
  return liveInFolder({ command: "daxfault bench kvm", signals: "kernel" }, ({ directory }) => {
    try {
      const rows = benchExits({
        peerSource: packagePath("vmm/bench/exits.c"),
        turns: rounds,
        turnMs: ROUND_MS,
        directory: directory.path,
        environment: toolEnvironment(directory.path),
        progress: (text) => progress.show(text),
      });
      progress.clear();
      for (const row of rows) printRow(row, json);
      return exitCodes.ok;
    } finally {
      progress.clear();
    }
  });
}
