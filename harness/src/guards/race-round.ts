/** The result of one round of a race, and the sum of all rounds. Pure: times and words in, counts out. */
import {
  type CutDone,
  RACE_FILE_BYTES,
  type RaceWay,
  raceWays,
  type WayResult,
  type WholeAgain,
} from "./race.ts";

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
  /** The file's size when the first recall was over; null: there was none. */
  readonly sizeAtRecall: number | null;
  /** -EFAULT exits of a vCPU that met a lost page without notice. */
  readonly unannounced: number;
  /** KVM's page faults from before the truncation until the recall, or else until the file grew again; null: not known. */
  readonly faults: number | null;
};

/**
 * So many faults, in a round whose mapping was there when the file got shorter, are taken for a vCPU in KVM's loop. A guest
 * that spins on what it has mapped takes none, but its kernel may touch pages of RAM for the first time meanwhile: in held
 * rounds the median was 0 or 1, single rounds had dozens. A vCPU that runs at all in such a round meets the lost page next.
 */
export const LOOP_FAULTS = 4;

export type RoundResult = {
  readonly way: RaceWay;
  /** From the call of ftruncate(2) to the end of the recall; null: there was no recall. */
  readonly windowUs: number | null;
  readonly hostUs: number;
  /** `RoundSeen.faults`. */
  readonly faults: number | null;
  /** The mapping was there when the file got shorter. */
  readonly isLate: boolean;
  /** A vCPU met a lost page that nobody had taken away. */
  readonly isLost: boolean;
  readonly isDenied: boolean;
  readonly changedAfterAcknowledgement: boolean;
  readonly dirtyAfterRegrow: boolean;
};

export function resultOf(seen: RoundSeen): RoundResult {
  const { way, cut, whole, storedAtRecall, sizeAtRecall, givenBackUs } = seen;
  const isLate = !cut.isDenied && sizeAtRecall !== RACE_FILE_BYTES;
  const recalledUs = seen.recalledUs ?? Number.POSITIVE_INFINITY;
  return {
    way,
    windowUs: seen.recalledUs === null ? null : seen.recalledUs - cut.callUs,
    hostUs: cut.returnUs - cut.openUs,
    faults: seen.faults,
    isLate,
    isLost: seen.unannounced > 0 || (isLate && (seen.faults ?? 0) >= LOOP_FAULTS),
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
  readonly late: number;
  readonly lost: number;
  readonly denied: number;
  readonly changedAfterAcknowledgement: number;
  readonly dirtyAfterRegrow: number;
  readonly windowUs: readonly number[];
  readonly hostUs: readonly number[];
  readonly faults: readonly number[];
};

export function totalsOf(rounds: readonly RoundResult[]): RaceTotals {
  const count = (is: (round: RoundResult) => boolean): number => rounds.filter(is).length;
  return {
    ways: raceWays.flatMap((way) => {
      const own = rounds.filter((round) => round.way === way);
      const lost = own.filter(({ isLost }) => isLost).length;
      const late = own.filter((round) => round.isLate).length;
      const denied = own.filter(({ isDenied }) => isDenied).length;
      return own.length === 0 ? [] : [{ way, rounds: own.length, late, lost, denied }];
    }),
    late: count(({ isLate }) => isLate),
    lost: count(({ isLost }) => isLost),
    denied: count(({ isDenied }) => isDenied),
    changedAfterAcknowledgement: count((round) => round.changedAfterAcknowledgement),
    dirtyAfterRegrow: count((round) => round.dirtyAfterRegrow),
    windowUs: rounds.flatMap(({ windowUs }) => (windowUs === null ? [] : [windowUs])),
    hostUs: rounds.map(({ hostUs }) => hostUs),
    faults: rounds.flatMap(({ faults }) => (faults === null ? [] : [faults])),
  };
}
