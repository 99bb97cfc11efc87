/** The result of one round of a race, and the sum of all rounds. Pure: times and words in, counts out. */
import { type CutDone, type RaceWay, raceWays, type WayResult, type WholeAgain } from "./race.ts";

/** The observations of a round; times are CLOCK_MONOTONIC in microseconds. */
export type RoundSeen = {
  readonly way: RaceWay;
  readonly cut: CutDone;
  readonly whole: WholeAgain;
  /** When the first recall of the round was over; null: there was none. */
  readonly recalledUs: number | null;
  /** The stored word then. */
  readonly storedAtRecall: bigint | null;
  /** When the guest was given the whole file back; null: not in this round. */
  readonly givenBackUs: number | null;
  /** A vCPU met a lost page without notice. */
  readonly isLost: boolean;
};

export type RoundResult = {
  readonly way: RaceWay;
  /** From the call of ftruncate(2) to the end of the recall; null: there was no recall. */
  readonly windowUs: number | null;
  readonly hostUs: number;
  readonly isLost: boolean;
  readonly isDenied: boolean;
  readonly changedAfterAcknowledgement: boolean;
  readonly dirtyAfterRegrow: boolean;
};

export function resultOf(seen: RoundSeen): RoundResult {
  const { way, cut, whole, storedAtRecall, givenBackUs, isLost } = seen;
  const recalledUs = seen.recalledUs ?? Number.POSITIVE_INFINITY;
  return {
    way,
    windowUs: seen.recalledUs === null ? null : seen.recalledUs - cut.callUs,
    hostUs: cut.returnUs - cut.openUs,
    isLost,
    isDenied: cut.isDenied,
    // The word was read before the call: it counts where the recall was over by then, as where opening is what waits.
    changedAfterAcknowledgement:
      cut.storedBefore !== null && recalledUs < cut.callUs && storedAtRecall !== cut.storedBefore,
    // Once the file is given back the guest may store into it.
    dirtyAfterRegrow:
      whole.isDirty && recalledUs < cut.returnUs && whole.readUs < (givenBackUs ?? Number.POSITIVE_INFINITY),
  };
}

export type RaceTotals = {
  /** Of those that had a round. */
  readonly ways: readonly WayResult[];
  readonly lost: number;
  readonly denied: number;
  readonly changedAfterAcknowledgement: number;
  readonly dirtyAfterRegrow: number;
  readonly windowUs: readonly number[];
  readonly hostUs: readonly number[];
};

export function totalsOf(rounds: readonly RoundResult[]): RaceTotals {
  const count = (is: (round: RoundResult) => boolean): number => rounds.filter(is).length;
  return {
    ways: raceWays.flatMap((way) => {
      const own = rounds.filter((round) => round.way === way);
      const lost = own.filter(({ isLost }) => isLost).length;
      const denied = own.filter(({ isDenied }) => isDenied).length;
      return own.length === 0 ? [] : [{ way, rounds: own.length, lost, denied }];
    }),
    lost: count(({ isLost }) => isLost),
    denied: count(({ isDenied }) => isDenied),
    changedAfterAcknowledgement: count((round) => round.changedAfterAcknowledgement),
    dirtyAfterRegrow: count((round) => round.dirtyAfterRegrow),
    windowUs: rounds.flatMap(({ windowUs }) => (windowUs === null ? [] : [windowUs])),
    hostUs: rounds.map(({ hostUs }) => hostUs),
  };
}
