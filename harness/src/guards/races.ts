/** Runs races, each in a VM process of its own, and puts their figures into words. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { startChild } from "../engines/child.ts";
import { errorOfExit, helperEnd } from "../engines/helper.ts";
import type { RunDirectory } from "../run/directory.ts";
import { histogram } from "./histogram.ts";
import { type Quantiles, quantiles, type RaceGuest, type RaceOptions, type RaceResult } from "./race.ts";

/** Of the micro-guest. */
export const raceGuests: readonly Exclude<RaceGuest, "linux">[] = ["one-vcpu", "two-vcpus"];

/** Far above what a round takes (some 2 ms, 30 on a busy machine). */
const ROUND_BOUND_MS = 100;
const START_BOUND_MS = 20_000;

/** Rejects with a LostChildError where a process of the race was ended or stopped from outside. */
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
  const name = `race of ${options.guard}, ${options.guest}`;
  try {
    const exit = await helperEnd(child, { name, directory: folder, boundMs });
    if (result !== null) return result;
    throw errorOfExit(exit, name);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

const us = (value: number): string => `${Math.round(value).toLocaleString("en")} us`;

export function quantilesText(values: Quantiles | null): string {
  return values === null ? "none" : `p50 ${us(values.p50)}, p99 ${us(values.p99)}, max ${us(values.max)}`;
}

const BAR_COLUMNS = 40;
export function histogramText(values: readonly number[]): string {
  const bins = histogram(values);
  const most = Math.max(1, ...bins.map(({ count }) => count));
  return bins
    .filter(({ count }) => count > 0)
    .map(({ upToUs, count }) => {
      const end = upToUs === null ? "more" : `<= ${us(upToUs)}`;
      return `  ${end.padStart(14)} ${"#".repeat(Math.ceil((BAR_COLUMNS * count) / most)).padEnd(BAR_COLUMNS)} ${count}`;
    })
    .join("\n");
}

function faultsText(faults: readonly number[]): string {
  const found = quantiles(faults);
  return found === null ? "none" : `p50 ${found.p50}, p99 ${found.p99}, max ${found.max}`;
}

/** By way, where there was more than one; and the machine, where it was a Linux guest. */
function detailLines({ ways, faults, linux }: RaceResult): readonly string[] {
  const one = ({ way, rounds, lost, denied }: RaceResult["ways"][number]): string =>
    `${way} ${lost} of ${rounds}${denied > 0 ? ` (${denied} denied)` : ""}`;
  return [
    ...(ways.length > 1 ? [`lost by way: ${ways.map(one).join(", ")}`] : []),
    ...(linux === null
      ? []
      : [
          `KVM's faults of a round, until the recall: ${faultsText(faults)}`,
          `${linux.release} on ${linux.host}, ${linux.hostCpus} CPU${linux.hostCpus === 1 ? "" : "s"}; ` +
            `${linux.boots} boots, ${linux.oopses} oopses`,
          ...linux.troubles,
        ]),
  ];
}

/** One race in a paragraph. */
export function raceText(race: RaceResult): string {
  const { guard, guest, done, lost, denied, staleLoads, changedAfterAcknowledgement, dirtyAfterRegrow } =
    race;
  const head = `${guard === "none" ? "no guard" : guard}, ${guest}: ${done} of ${race.rounds} rounds in ${race.seconds.toFixed(1)} s`;
  if (race.refusal !== null) return `${head}\n  not armed: ${race.refusal}`;
  const lines = [
    `lost: ${lost} (rounds in which a vCPU met a lost page unannounced)${denied > 0 ? `; denied: ${denied}` : ""}${race.stuck ? "; the guest got stuck" : ""}`,
    `wrong bytes: ${staleLoads} stale loads of ${race.loads}; ${changedAfterAcknowledgement} stores after the ` +
      `acknowledgement, ${dirtyAfterRegrow} into the new file, of ${race.stores}; ${race.sigbus} signals`,
    `host, open to the end of ftruncate: ${quantilesText(quantiles(race.hostUs))}`,
    ...(guard === "notify"
      ? [`window, ftruncate called to mapping gone: ${quantilesText(quantiles(race.windowUs))}`]
      : []),
    ...detailLines(race),
  ];
  return [head, ...lines.map((line) => `  ${line}`)].join("\n");
}
