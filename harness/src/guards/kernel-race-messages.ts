/** Messages of races in a kernel's VM. */
import type { GuestKernel } from "../engine.ts";
import type { RaceOptions, RaceResult } from "./race.ts";

/** In a file that both sides see at the same path. */
export type KernelRacePlan = {
  readonly kernel: GuestKernel;
  readonly slowness: number;
  readonly races: readonly RaceOptions[];
};

export type FromKernelRaces =
  | { readonly type: "result"; readonly result: RaceResult }
  /** A race that has come to nothing, or whose result may be the emulator's doing: why. */
  | { readonly type: "no-result"; readonly guard: RaceOptions["guard"]; readonly message: string }
  | { readonly type: "ended" };
