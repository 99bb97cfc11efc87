/**
 * The second guest of a race, as the truncater has it: a process with a Linux guest that has the same folder and truncates
 * the file at each message. A process of its own: its file server waits in ftruncate(2) for the first guest's VMM.
 */
import { AskedChild } from "../engines/asked-child.ts";
import type { LinuxRaceSetup } from "./linux-race.ts";
import type { CutDone, RaceWay } from "./race.ts";
import type { HostTruncater, Truncater } from "./race-rounds.ts";
import { wayOfCutting } from "./race-ways.ts";

export type ToSecondGuest =
  /** Boot, and have the program open the file `file` of this folder. */
  | { readonly type: "start"; readonly setup: LinuxRaceSetup; readonly folder: string }
  | { readonly type: "cut" };

export type FromSecondGuest =
  | { readonly type: "ready" }
  /** Why there is none, in words for the user. */
  | { readonly type: "no-guest"; readonly message: string }
  | CutDone;

export class SecondGuest {
  readonly #guest: AskedChild<ToSecondGuest, FromSecondGuest>;

  /** @param directory the race's */
  constructor(directory: string) {
    this.#guest = new AskedChild({
      entry: "harness/src/guards/second-guest-main.ts",
      directory,
      name: "the second guest",
    });
  }

  /** Returns why there is no guest, or null: it is up and has opened the file. */
  async start(setup: LinuxRaceSetup, folder: string): Promise<string | null> {
    const answer = await this.#guest.ask({ type: "start", setup, folder });
    return answer.type === "no-guest" ? answer.message : null;
  }

  async cut(): Promise<CutDone> {
    const answer = await this.#guest.ask({ type: "cut" });
    if (answer.type !== "cut") throw new Error(`the second guest answers ${answer.type}`);
    return answer;
  }

  close(): Promise<void> {
    return this.#guest.close();
  }
}

type Second = {
  readonly guest: SecondGuest;
  /** What its folder is. A server's guard sees growth by that server alone, too. */
  readonly through: "file" | "mount";
};

/** The second guest for its own way, the host for all else. */
export function sharedBetween(host: HostTruncater, second: Second | null): Truncater {
  return {
    cut: (way: RaceWay) =>
      wayOfCutting(way).by === "guest" && second !== null ? second.guest.cut() : host.cut(way),
    regrow: (content) => host.regrow(content, second?.through),
    close: async () => {
      await second?.guest.close();
      await host.close();
    },
  };
}
