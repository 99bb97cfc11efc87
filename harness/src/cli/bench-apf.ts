/** `daxfault bench apf`: what asynchronous page faults are worth, mode by mode. */

import { exitCodes } from "../../../language/src/index.ts";
import { type ApfResult, type ApfRow, benchApf, published } from "../bench/apf.ts";
import { kvmEngine } from "../engines/kvm/engine.ts";
import { renderGrid } from "../report/grid.ts";
import type { Style } from "../report/style.ts";
import { liveInFolder } from "./life.ts";
import type { BenchApfLine } from "./lines/bench.ts";
import { openJson, openStatusLine } from "./output.ts";
import { parseCount } from "./usage.ts";

export type BenchApfOptions = { readonly json?: string; readonly delay: string; readonly rounds: string };

const DELAY_MS_MAX = 50;
const ROUNDS_MAX = 20;

const signed = (share: number): string => `${share < 0 ? "-" : "+"}${Math.abs(100 * share).toFixed(0)} %`;

function line({ proposal, what, figures }: ApfRow, result: ApfResult): readonly (readonly string[])[] {
  const synchronous = result.rows[0]?.figures.workPerSecond ?? Number.NaN;
  const { workPerSecond, pagesPerSecond, medianMs, p99Ms } = figures;
  return [
    [proposal],
    [`${(workPerSecond / 1e6).toFixed(2)} M`],
    [`${((100 * workPerSecond) / result.aloneWorkPerSecond).toFixed(0)} %`],
    [signed(workPerSecond / synchronous - 1)],
    [pagesPerSecond.toFixed(0)],
    [medianMs.toFixed(1)],
    [p99Ms.toFixed(1)],
    [what],
  ];
}

export function apfText(result: ApfResult, style: Style): string {
  const grid = renderGrid(
    {
      head: ["proposal", "work/s", "of alone", "against sync", "pages/s", "p50 ms", "p99 ms", "what happens"],
      rows: result.rows.map((row) => line(row, result)),
    },
    style,
  );
  return [
    `4 tasks touch ${result.pages} pages whose READ takes ${result.delayMs} ms, 4 tasks work beside them; one vCPU, medians of ${result.rounds} rounds`,
    `the working tasks alone: ${(result.aloneWorkPerSecond / 1e6).toFixed(2)} M/s`,
    "",
    grid,
    "",
    `published: halt only ${signed(published.halt)}, paravirtual ${signed(published.paravirtual)} (${published.source})`,
  ].join("\n");
}

export async function benchApfCommand(options: BenchApfOptions, style: Style): Promise<number> {
  const delayMs = parseCount("--delay", options.delay, 1, DELAY_MS_MAX);
  const rounds = parseCount("--rounds", options.rounds, 1, ROUNDS_MAX);
  const available = await kvmEngine.available();
  if (available.kind === "no") {
    console.error(`daxfault bench apf: ${available.reason}`);
    return exitCodes.nothingRan;
  }
  const json = openJson<BenchApfLine>(options.json);
  const progress = openStatusLine();
  return liveInFolder({ command: "daxfault bench apf" }, async ({ directory, signal }) => {
    try {
      const result = await benchApf({
        delayMs,
        rounds,
        directory,
        engine: kvmEngine,
        signal,
        progress: (text) => progress.show(text),
      });
      progress.clear();
      json.write({ type: "bench", name: "apf", ...result, published });
      if (!json.isStdout) console.log(apfText(result, style));
      return exitCodes.ok;
    } finally {
      progress.clear();
    }
  });
}
