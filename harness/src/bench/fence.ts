/**
 * How fast the fence is: from the return of the host's truncate(2) until the vCPU is out of KVM's loop and its task gets
 * SIGBUS; over many rounds of one VM, with one vCPU and with two that race; and what happens without it.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { onAbort } from "../abort.ts";
import { startChild } from "../engines/child.ts";
import { errorOfExit, helperEnd } from "../engines/helper.ts";
import type { RunDirectory } from "../run/directory.ts";
import type { FencePlan, FenceReport, FromFenceVm, ToFenceVm } from "./fence-messages.ts";
import { quantile } from "./quantile.ts";

const FILE_BYTES = 2 * 2 ** 20;
const WATCH_MS = 3000;
/** A round takes some ten milliseconds where the machine is slow and busy. */
const ROUND_ALLOWANCE_MS = 200;

export type FenceBenchOptions = {
  readonly rounds: number;
  /** With two vCPUs. */
  readonly races: number;
  readonly directory: RunDirectory;
  readonly signal: AbortSignal;
  readonly progress: (text: string) => void;
};

export type Spread = { readonly median: number; readonly p99: number; readonly max: number };

export type FenceRow = {
  readonly vcpus: number;
  readonly rounds: number;
  readonly exitMs: Spread;
  readonly toldMs: Spread;
  readonly cpuMs: Spread;
  readonly losses: readonly string[];
};

export type FenceResult = {
  readonly rows: readonly FenceRow[];
  readonly unfenced: NonNullable<FenceReport["unfenced"]>;
};

export function spreadOf(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  return { median: quantile(sorted, 0.5), p99: quantile(sorted, 0.99), max: quantile(sorted, 1) };
}

async function runPlan(plan: FencePlan, name: string, options: FenceBenchOptions): Promise<FenceReport> {
  let report: FenceReport | null = null;
  const child = startChild<ToFenceVm, FromFenceVm>({
    entry: "harness/src/bench/fence-main.ts",
    directory: options.directory.path,
    onMessage: (message) => {
      if (message.type === "report") report = message.report;
      else options.progress(`${name}: ${message.done} of ${plan.rounds} rounds`);
    },
  });
  const stopListening = onAbort(options.signal, () => void child.kill());
  try {
    child.send({ type: "start", plan });
    const boundMs = 30_000 + plan.watchMs + ROUND_ALLOWANCE_MS * plan.rounds;
    const exit = await helperEnd(child, { name, directory: options.directory.path, boundMs });
    if (report === null) throw errorOfExit(exit, name);
    return report;
  } finally {
    stopListening();
    await child.kill();
  }
}

export async function benchFence(options: FenceBenchOptions): Promise<FenceResult> {
  const rows: FenceRow[] = [];
  const planOf = (name: string, changes: Partial<FencePlan>): FencePlan => {
    const path = join(options.directory.caseDirectory(name), "file");
    writeFileSync(path, Buffer.alloc(FILE_BYTES, 0x5a));
    return {
      path,
      fileBytes: FILE_BYTES,
      vcpus: 1,
      rounds: 1,
      hasFence: true,
      watchMs: WATCH_MS,
      ...changes,
    };
  };
  for (const [vcpus, rounds] of [
    [1, options.rounds],
    [2, options.races],
  ] as const) {
    const name = `${vcpus}-vcpus`;
    const report = await runPlan(planOf(name, { vcpus, rounds }), name, options);
    rows.push({
      vcpus,
      rounds: report.rounds,
      exitMs: spreadOf(report.samples.map(({ exitMs }) => exitMs)),
      toldMs: spreadOf(report.samples.map(({ toldMs }) => toldMs)),
      cpuMs: spreadOf(report.cpuMs),
      losses: report.losses,
    });
  }
  options.progress("without the fence");
  const { unfenced, losses } = await runPlan(planOf("unfenced", { hasFence: false }), "unfenced", options);
  if (unfenced === null) throw new Error(`without the fence: ${losses.join("; ")}`);
  return { rows, unfenced };
}
