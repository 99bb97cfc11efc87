/** Runs races, each in a VM process of its own, and puts their figures into words. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { ServerPart } from "../../../kvm-model/src/index.ts";
import { exitText, startChild, within } from "../engines/child.ts";
import type { RunDirectory } from "../run/directory.ts";
import { type Quantiles, quantiles, type RaceGuest, type RaceOptions, type RaceResult } from "./race.ts";

export const racedGuards: readonly ServerPart[] = [
  "none",
  "fuse-lease",
  "kernel-lease",
  "pre-content",
  "notify",
];
export const raceGuests: readonly RaceGuest[] = ["one-vcpu", "two-vcpus"];

/** Far above what a round takes (some 2 ms, 30 on a busy machine). */
const ROUND_BOUND_MS = 100;
const START_BOUND_MS = 20_000;

/** Rejects with what the VM process said if it ends without a result or does not end in time. */
export async function runRace(
  options: RaceOptions,
  directory: RunDirectory,
  signal: AbortSignal,
): Promise<RaceResult> {
  const folder = directory.caseDirectory(`race-${options.guard}-${options.guest}`);
  const source = join(folder, "source");
  mkdirSync(source);
  let result: RaceResult | null = null;
  const child = startChild<object, { readonly type: "result"; readonly result: RaceResult }>({
    entry: "harness/src/guards/race-vm-main.ts",
    directory: folder,
    onMessage: (message) => {
      result = message.result;
    },
  });
  const abort = (): void => void child.kill();
  signal.addEventListener("abort", abort);
  child.send({ options, source });
  const boundMs = START_BOUND_MS + options.rounds * ROUND_BOUND_MS;
  const ended = await within(child.exited, boundMs);
  if (!ended) await child.kill();
  signal.removeEventListener("abort", abort);
  const name = `race of ${options.guard}, ${options.guest}`;
  if (result !== null) return result;
  throw new Error(
    ended ? `${name}: ${exitText(await child.exited)}` : `${name}: no end within ${boundMs} ms`,
  );
}

const us = (value: number): string => `${Math.round(value).toLocaleString("en")} us`;

export function quantilesText(values: Quantiles | null): string {
  return values === null ? "none" : `p50 ${us(values.p50)}, p99 ${us(values.p99)}, max ${us(values.max)}`;
}

const BAR_COLUMNS = 40;
/** Upper ends of the histogram's bins, in microseconds. */
const BINS_US = [50, 100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200];

/** Counts by bin; the last one has no upper end. */
export function histogram(
  values: readonly number[],
): readonly { readonly upToUs: number; readonly count: number }[] {
  const ends = [...BINS_US, Number.POSITIVE_INFINITY];
  return ends.map((upToUs, index) => {
    const from = index === 0 ? Number.NEGATIVE_INFINITY : (ends[index - 1] ?? 0);
    return { upToUs, count: values.filter((value) => value > from && value <= upToUs).length };
  });
}

export function histogramText(values: readonly number[]): string {
  const bins = histogram(values);
  const most = Math.max(1, ...bins.map(({ count }) => count));
  return bins
    .filter(({ count }) => count > 0)
    .map(({ upToUs, count }) => {
      const end = Number.isFinite(upToUs) ? `<= ${us(upToUs)}` : "more";
      return `  ${end.padStart(14)} ${"#".repeat(Math.ceil((BAR_COLUMNS * count) / most)).padEnd(BAR_COLUMNS)} ${count}`;
    })
    .join("\n");
}

/** One race in a paragraph. */
export function raceText(race: RaceResult): string {
  const { guard, guest, done, lost, staleLoads, changedAfterAcknowledgement, dirtyAfterRegrow } = race;
  const head = `${guard === "none" ? "no guard" : guard}, ${guest}: ${done} of ${race.rounds} rounds in ${race.seconds.toFixed(1)} s`;
  if (race.refusal !== null) return `${head}\n  not armed: ${race.refusal}`;
  const lines = [
    `lost: ${lost} (rounds in which a vCPU met a lost page unannounced)${race.stuck ? "; the guest got stuck" : ""}`,
    `wrong bytes: ${staleLoads} stale loads of ${race.loads}; ${changedAfterAcknowledgement} stores after the ` +
      `acknowledgement, ${dirtyAfterRegrow} into the new file, of ${race.stores}; ${race.sigbus} SIGBUS`,
    `host, open to the end of ftruncate: ${quantilesText(quantiles(race.hostUs))}`,
    ...(guard === "notify"
      ? [`window, ftruncate called to mapping gone: ${quantilesText(quantiles(race.windowUs))}`]
      : []),
  ];
  return [head, ...lines.map((line) => `  ${line}`)].join("\n");
}
