/** Races with a Linux guest, one after the other, in one process that has the guest. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { LostChildError } from "../../../sys/src/index.ts";
import { type Child, startChild } from "../engines/child.ts";
import { errorOfExit } from "../engines/helper.ts";
import { within } from "../within.ts";
import type { FromLinuxRaces, LinuxRaceSetup, ToLinuxRaces } from "./linux-race.ts";
import type { RaceOptions, RaceResult } from "./race.ts";

/** On a real machine. A round: what both vCPUs need to touch their pages again, and the host to truncate and regrow. */
const ROUND_BOUND_MS = 300;
/** Boots, a mount, and rounds in which the guest is stuck. */
const START_BOUND_MS = 120_000;

/** No guest, so no race: the kernel named cannot be booted, or does not come so far as its program. */
export class NoGuestError extends Error {
  override readonly name = "NoGuestError";
}

export class LinuxRaces {
  readonly #setup: LinuxRaceSetup;
  readonly #directory: string;
  #child: Child<ToLinuxRaces, FromLinuxRaces> | null = null;
  #onMessage: (message: FromLinuxRaces) => void = () => {};
  #count = 0;

  /** @param directory an empty folder for all races */
  constructor(setup: LinuxRaceSetup, directory: string) {
    this.#setup = setup;
    this.#directory = directory;
  }

  #process(): Child<ToLinuxRaces, FromLinuxRaces> {
    this.#child ??= startChild<ToLinuxRaces, FromLinuxRaces>({
      entry: "harness/src/guards/linux-race-main.ts",
      directory: this.#directory,
      onMessage: (message) => this.#onMessage(message),
    });
    return this.#child;
  }

  /** Throws a NoGuestError, or a LostChildError where a process of the race has ended. The next race begins anew then. */
  async run(options: RaceOptions): Promise<RaceResult> {
    this.#count += 1;
    const directory = join(this.#directory, `race-${this.#count}-${options.guard}`);
    mkdirSync(directory);
    const child = this.#process();
    const answer = new Promise<FromLinuxRaces>((resolve) => {
      this.#onMessage = resolve;
    });
    child.send({ setup: this.#setup, options, directory });
    const boundMs = (START_BOUND_MS + options.rounds * ROUND_BOUND_MS) * this.#setup.slowness;
    const name = `race of ${options.guard}, linux`;
    const ended = child.exited.then(() => null);
    if (!(await within(Promise.race([answer, ended]), boundMs))) {
      await this.close();
      throw new LostChildError(`${name}: no end within ${boundMs} ms`);
    }
    const message = await Promise.race([answer, ended]);
    if (message?.type === "result") return message.result;
    this.#child = null;
    if (message === null) throw errorOfExit(await child.exited, name);
    throw new NoGuestError(message.message);
  }

  async close(): Promise<void> {
    await this.#child?.kill();
    this.#child = null;
  }
}
