/** `daxfault bench guards --guest linux`: races with a Linux guest, here or in a kernel's VM. */
import { exitCodes, type ServerPart } from "../../../language/src/index.ts";
import { LostChildError } from "../../../sys/src/index.ts";
import { runKernelRaces } from "../guards/kernel-races.ts";
import { LinuxRaces, NoGuestError } from "../guards/linux-races.ts";
import { type RaceOptions, type RaceResult, raceWays } from "../guards/race.ts";
import { isBreach, waysOf } from "../guards/race-ways.ts";
import { raceText } from "../guards/races.ts";
import { type GuardRecord, raceRecord } from "../guards/records.ts";
import { KernelError } from "../kernel/error.ts";
import { guestKernelIn } from "../kernel/guest.ts";
import { findQemu, QEMU_FIX } from "../kernel/qemu.ts";
import type { KernelSpec } from "../kernel/spec.ts";
import { type GuestAsked, usualGuest } from "../kernel/spec.ts";
import { supportOf, thisMachine } from "../machine.ts";
import { visible } from "../report/encode.ts";
import { type Life, liveInFolder } from "./life.ts";
import { type JsonOutput, openJson } from "./output.ts";
import { checkedSpec, select, UsageError } from "./usage.ts";

export type LinuxRaceOptions = {
  readonly way?: readonly string[];
  readonly kernel?: string;
  readonly guestKernel?: string;
};

/** Of `bench guards`, whatever guest. */
export type GuardsAsked = {
  readonly rounds: number;
  readonly guards: readonly ServerPart[];
  readonly json?: string;
};

type LinuxAsked = GuardsAsked & {
  readonly races: readonly RaceOptions[];
  /** Has KVM; null: this machine's own. */
  readonly spec: KernelSpec | null;
  readonly guest: GuestAsked;
};

const noRaceHere = (guard: string, ways: readonly string[]): UsageError =>
  new UsageError(`--way ${ways.join(" ")}: guard ${guard} sees none of these`);

function linuxAsked(asked: GuardsAsked, { way, kernel, guestKernel }: LinuxRaceOptions): LinuxAsked {
  const known = raceWays.map((id) => ({ id }));
  const ways = select("way", way ?? [], known).map(({ id }) => id);
  const races = asked.guards.map((guard): RaceOptions => {
    const own = waysOf(guard).filter((one) => ways.includes(one));
    if (own.length === 0) throw noRaceHere(guard, ways);
    return { guard, guest: "linux", rounds: asked.rounds, ways: own };
  });
  const spec = kernel === undefined ? null : checkedSpec("--kernel", kernel);
  const guest =
    guestKernel === undefined
      ? usualGuest
      : { ...usualGuest, spec: checkedSpec("--guest-kernel", guestKernel) };
  return { ...asked, races, spec, guest };
}

/** Why there can be no race with a Linux guest; null: there can. */
function lackOfLinux({ spec }: LinuxAsked): string | null {
  if (spec !== null) {
    return findQemu() === null ? `there is no qemu-system-x86_64 to boot a kernel in (${QEMU_FIX})` : null;
  }
  const support = supportOf(thisMachine(), ["linux-guest", "kvm", "root"]);
  return support.kind === "no" ? support.reason : null;
}

/** What comes of races, as it comes. */
class LinuxOutcome {
  readonly #json: JsonOutput<GuardRecord>;
  ended = 0;
  isBreached = false;
  isLost = false;

  constructor(json: JsonOutput<GuardRecord>) {
    this.#json = json;
  }

  take(race: RaceResult): void {
    this.ended += 1;
    this.isBreached ||= isBreach(race);
    this.#json.write(raceRecord(race));
    if (!this.#json.isStdout) console.log(raceText(race));
  }

  noResult(what: string, message: string): void {
    this.isLost = true;
    console.error(`daxfault bench guards: no result: ${visible(`${what}: ${message}`)}`);
  }

  get exitCode(): number {
    if (this.isBreached) return exitCodes.unexpected;
    return this.isLost ? exitCodes.inconclusive : exitCodes.ok;
  }
}

async function linuxRacesHere(
  { races, guest }: LinuxAsked,
  { directory, signal }: Pick<Life, "directory" | "signal">,
  outcome: LinuxOutcome,
): Promise<void> {
  const kernel = await guestKernelIn(directory.engineDirectory(), { ...guest, signal });
  const running = new LinuxRaces({ kernel, slowness: 1 }, directory.caseDirectory("races"));
  const abort = (): void => void running.close();
  signal.addEventListener("abort", abort);
  for (const race of races) {
    if (signal.aborted) break;
    try {
      outcome.take(await running.run(race));
    } catch (error) {
      const isKnown = error instanceof LostChildError || error instanceof NoGuestError;
      if (!isKnown || signal.aborted) throw error;
      outcome.noResult(race.guard, error.message);
    }
  }
  signal.removeEventListener("abort", abort);
  await running.close();
}

/** Races with a Linux guest. Returns the exit code. */
export async function benchGuardsWithLinux(given: GuardsAsked, options: LinuxRaceOptions): Promise<number> {
  const asked = linuxAsked(given, options);
  const lack = lackOfLinux(asked);
  if (lack !== null) {
    console.error(`daxfault bench guards: ${lack}`);
    return exitCodes.nothingRan;
  }
  const { races, spec, guest } = asked;
  const outcome = new LinuxOutcome(openJson<GuardRecord>(asked.json));
  const soFar = (): string => `${outcome.ended} of ${races.length} races ended`;
  return liveInFolder({ command: "daxfault bench guards", soFar }, async ({ directory, signal }) => {
    try {
      if (spec === null) await linuxRacesHere(asked, { directory, signal }, outcome);
      else {
        const onMessage: Parameters<typeof runKernelRaces>[0]["onMessage"] = (message) => {
          if (message.type === "result") outcome.take(message.result);
          else outcome.noResult(message.guard, message.message);
        };
        await runKernelRaces({ spec, guest, races, directory, signal, onMessage });
      }
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      outcome.noResult("kernel", error.message);
    }
    return outcome.exitCode;
  });
}
