/** Messages of the process that has the Linux guest of races, and what is the same on both sides of them. */
import type { GuestKernel } from "../engine.ts";
import type { RaceOptions, RaceResult } from "./race.ts";

/** Of all races of the process: they share a boot as long as it lasts. */
export type LinuxRaceSetup = {
  readonly kernel: GuestKernel;
  /** How many times slower than a real machine this one is. */
  readonly slowness: number;
};

export type ToLinuxRaces = {
  readonly setup: LinuxRaceSetup;
  readonly options: RaceOptions;
  /** An empty folder for the race. */
  readonly directory: string;
};

export type FromLinuxRaces =
  | { readonly type: "result"; readonly result: RaceResult }
  /** There is no guest, or none any more: why, in words for the user. */
  | { readonly type: "no-guest"; readonly message: string };
