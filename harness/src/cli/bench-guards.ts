/**
 * `daxfault bench guards`: races of a spinning guest against a truncater, and what a guard costs the host. With
 * `--guest linux` races alone, here or in a kernel's VM.
 */

import { exitCodes, proposals } from "../../../language/src/index.ts";
import { LostChildError } from "../../../sys/src/index.ts";
import { measurePrice, priceText } from "../guards/price.ts";
import { racedGuards } from "../guards/race.ts";
import { isBreach, microWays } from "../guards/race-ways.ts";
import { histogramText, raceGuests, raceText, runRace } from "../guards/races.ts";
import { type GuardRecord, priceRecord, raceRecord } from "../guards/records.ts";
import { supportOf, thisMachine } from "../machine.ts";
import { visible } from "../report/encode.ts";
import type { RunDirectory } from "../run/directory.ts";
import { benchGuardsWithLinux, type GuardsAsked, type LinuxRaceOptions } from "./bench-guards-linux.ts";
import { liveInFolder } from "./life.ts";
import { openJson } from "./output.ts";
import { parseCount, select, UsageError } from "./usage.ts";

export type BenchGuardsOptions = {
  /** 10,000 on the micro-guest, 300 on Linux if left out. */
  readonly rounds?: string;
  readonly guard?: readonly string[];
  readonly guest: "micro" | "linux";
  readonly json?: string;
} & LinuxRaceOptions;

const MICRO_ROUNDS = "10000";
const LINUX_ROUNDS = "300";

const ROUNDS_MAX = 1_000_000;
/** Without a guard nearly every round is lost: so many show it as well as more. */
const UNGUARDED_ROUNDS_MAX = 1000;
/** Of the price: each is a dozen calls of the host, one guard after the other. */
const PRICE_ROUNDS_MAX = 500;

type Bench = {
  readonly rounds: number;
  readonly guards: readonly string[];
  readonly directory: RunDirectory;
  readonly signal: AbortSignal;
  readonly print: (text: string) => void;
  readonly write: (record: GuardRecord) => void;
};

type Tally = { breached: boolean; lost: boolean };

/** A process that was ended from outside costs the measurement that it was for, and no other. */
async function measured(bench: Bench, tally: Tally, measure: () => Promise<void>): Promise<void> {
  if (bench.signal.aborted) return;
  try {
    await measure();
  } catch (error) {
    if (!(error instanceof LostChildError) || bench.signal.aborted) throw error;
    tally.lost = true;
    console.error(`daxfault bench guards: no result: ${visible(error.message)}`);
  }
}

async function races(bench: Bench, tally: Tally): Promise<void> {
  const { guards, directory, signal, print, write } = bench;
  for (const guard of racedGuards.filter((name) => guards.includes(name))) {
    const rounds = guard === "none" ? Math.min(bench.rounds, UNGUARDED_ROUNDS_MAX) : bench.rounds;
    for (const guest of raceGuests) {
      await measured(bench, tally, async () => {
        const race = await runRace({ guard, guest, rounds, ways: microWays(guard) }, directory, signal);
        tally.breached ||= isBreach(race);
        write(raceRecord(race));
        print(raceText(race));
        if (guard === "notify" && race.refusal === null) print(histogramText(race.windowUs));
      });
    }
  }
}

async function price(bench: Bench, tally: Tally): Promise<void> {
  const { directory, guards, signal, print, write } = bench;
  const rounds = Math.min(bench.rounds, PRICE_ROUNDS_MAX);
  await measured(bench, tally, async () => {
    const found = await measurePrice(directory, { rounds, guards }, signal);
    write(priceRecord(found));
    print(priceText(found));
  });
}

async function benchWithMicro({ rounds, guards, json: target }: GuardsAsked): Promise<number> {
  const json = openJson<GuardRecord>(target);
  const support = supportOf(thisMachine(), ["kvm", "micro-guest"]);
  if (support.kind === "no") {
    console.error(`daxfault bench guards: ${support.reason}`);
    return exitCodes.nothingRan;
  }
  const print = (text: string): void => {
    if (!json.isStdout) console.log(text);
  };
  let raced = 0;
  const planned = guards.length * raceGuests.length;
  const soFar = (): string => `${raced} of ${planned} races ended`;
  return liveInFolder({ command: "daxfault bench guards", soFar }, async ({ directory, signal }) => {
    const write = (record: GuardRecord): void => {
      if (record.type === "race") raced += 1;
      json.write(record);
    };
    const bench = { rounds, guards, directory, signal, print, write };
    const tally: Tally = { breached: false, lost: false };
    await races(bench, tally);
    await price(bench, tally);
    if (tally.breached) return exitCodes.unexpected;
    return tally.lost ? exitCodes.inconclusive : exitCodes.ok;
  });
}

function refuseLinuxOptions({ kernel, guestKernel, way }: BenchGuardsOptions): void {
  const options = { "--kernel": kernel, "--guest-kernel": guestKernel, "--way": way };
  for (const [name, value] of Object.entries(options)) {
    if (value !== undefined) throw new UsageError(`${name} ${value}: only with --guest linux`);
  }
}

/** Returns the exit code: 1 where a guard let through what it is there to prevent, or wrong bytes were seen. */
export async function benchGuardsCommand(options: BenchGuardsOptions): Promise<number> {
  const usual = options.guest === "linux" ? LINUX_ROUNDS : MICRO_ROUNDS;
  const rounds = parseCount("--rounds", options.rounds ?? usual, 1, ROUNDS_MAX);
  const guards = select(
    "guard",
    // As `serve --guard` names it, or by the proposal's name.
    (options.guard ?? []).map((name) => proposals.find(({ id }) => id === name)?.server ?? name),
    racedGuards.map((id) => ({ id })),
  ).map(({ id }) => id);
  const asked: GuardsAsked = {
    rounds,
    guards,
    ...(options.json === undefined ? {} : { json: options.json }),
  };
  if (options.guest === "linux") return benchGuardsWithLinux(asked, options);
  refuseLinuxOptions(options);
  return benchWithMicro(asked);
}
