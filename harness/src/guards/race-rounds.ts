/**
 * The rounds of a race, whatever guest runs in it: truncate, wait for the recall, regrow, wait until every vCPU has touched
 * its page again. What was seen goes to race-round.ts, which judges.
 */
import { fstatSync, readSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { GuardEvent } from "../../../fs-server/src/index.ts";
import { LostChildError } from "../../../sys/src/index.ts";
import { type Channel, monotonicMs, type PageStates, pageState } from "../../../vmm/src/index.ts";
import { AskedChild } from "../engines/asked-child.ts";
import { within } from "../engines/child.ts";
import {
  type CutDone,
  type FromRaceHost,
  LOAD_OFFSET,
  RACE_FILE_BYTES,
  type RaceWay,
  STORE_OFFSET,
  type ToRaceHost,
  type WholeAgain,
} from "./race.ts";
import { type RoundResult, resultOf } from "./race-round.ts";
import { wayOfRound } from "./race-ways.ts";

/** Content of round n: it grows, so that what is older is less. */
export const contentOf = (round: number): bigint => BigInt(round + 1) << 16n;
/** The signal that ends the guest's accesses: never raised. */
export const NEVER_RAISED = 15;
/** The guest touches again within microseconds; a busy machine needs some of these. */
const PROGRESS_BOUND_MS = 5000;
const RECALL_BOUND_MS = 2000;

/** Makes the file shorter and longer, one thing at a time. */
export type Truncater = {
  cut(way: RaceWay): Promise<CutDone>;
  regrow(content: bigint): Promise<WholeAgain>;
  close(): Promise<void>;
};

type Place = Omit<Extract<ToRaceHost, { type: "start" }>, "type">;

/** A process of the host as the truncater. */
export class HostTruncater implements Truncater {
  readonly #host: AskedChild<ToRaceHost, FromRaceHost>;

  constructor(directory: string, place: Place) {
    this.#host = new AskedChild({
      entry: "harness/src/guards/race-host-main.ts",
      directory,
      name: "the truncater",
    });
    this.#host.send({ type: "start", ...place });
  }

  async cut(way: RaceWay): Promise<CutDone> {
    const answer = await this.#host.ask({ type: "cut", way });
    if (answer.type !== "cut") throw new Error(`the truncater answers ${answer.type}`);
    return answer;
  }

  /** @param through where no descriptor has cut it */
  async regrow(content: bigint, through: "file" | "mount" = "file"): Promise<WholeAgain> {
    const answer = await this.#host.ask({ type: "regrow", content, through });
    if (answer.type !== "whole") throw new Error(`the truncater answers ${answer.type}`);
    return answer;
  }

  close(): Promise<void> {
    return this.#host.close();
  }
}

/** One round as the guard's events show it. Only the first of each kind counts. */
class Round {
  /** Settles with the first recall. */
  readonly recalled: Promise<void>;
  #onRecalled: () => void = () => {};
  recalledUs: number | null = null;
  storedAtRecall: bigint | null = null;
  sizeAtRecall: number | null = null;
  faultsAtRecall: number | null = null;
  givenBackUs: number | null = null;

  constructor() {
    this.recalled = new Promise((resolve) => {
      this.#onRecalled = resolve;
    });
  }

  /** @param fd of the file, whose size and stored word are read after the time is taken */
  wasRecalled(fd: number, faults: number | null): void {
    if (this.recalledUs !== null) return;
    this.recalledUs = monotonicMs() * 1000;
    this.faultsAtRecall = faults;
    this.sizeAtRecall = fstatSync(fd).size;
    this.#onRecalled();
    const bytes = Buffer.alloc(8);
    readSync(fd, bytes, 0, 8, STORE_OFFSET);
    this.storedAtRecall = bytes.readBigUInt64LE();
  }

  wasGivenBack(): void {
    this.givenBackUs ??= monotonicMs() * 1000;
  }
}

/** The guest, as far as a round needs it. Task 0 loads; task 1, if there is one, stores. */
export type RacedGuest = {
  readonly tasks: readonly number[];
  readonly channel: Pick<Channel, "tally" | "setValue">;
  readonly states: Pick<PageStates, "of" | "unannounced">;
  /** Where the guest has the byte at this offset of the file; null: nowhere. */
  hvaOf(fileOffset: number): bigint | null;
  /** KVM's page faults so far, of all vCPUs; null: not asked for, since each touch of a lost page is an exit. */
  faults(): number | null;
  /** It has ended, or stands for good. */
  isOver(): boolean;
  /** Between two looks at it. */
  pause(): Promise<unknown>;
};

export type RoundsOptions = {
  readonly guest: RacedGuest;
  readonly truncater: Truncater;
  readonly ways: readonly RaceWay[];
  /** A guard is armed, and recalls. */
  readonly isRecalled: boolean;
  /** Without a guard that recalls: the guest has so long to touch what is gone, as it has before a notification. */
  readonly unguardedMs: number;
  /** How many times slower than a real machine this one is. */
  readonly slowness: number;
};

export class Rounds {
  readonly #options: RoundsOptions;
  readonly results: RoundResult[] = [];
  #round = new Round();
  #isStuck = false;

  constructor(options: RoundsOptions) {
    this.#options = options;
  }

  /** The guest made no progress any more although the file was whole. */
  get isStuck(): boolean {
    return this.#isStuck;
  }

  /** @param fd of the file, for reading */
  guarded(event: GuardEvent, fd: number): void {
    // The mapping is gone: nothing that the guest does reaches the file from here on.
    if (event.kind === "recalled") this.#round.wasRecalled(fd, this.#options.guest.faults());
    // The file is whole, and about to be given back.
    const isWhole = event.kind === "settle" && event.sizeBytes === BigInt(RACE_FILE_BYTES);
    if (isWhole) this.#round.wasGivenBack();
  }

  /** Runs rounds `from` to `to` - 1, or until the guest is stuck. */
  async run(from: number, to: number): Promise<void> {
    for (let number = from; number < to && !this.#isStuck; number += 1) {
      this.#round = new Round();
      await this.#runRound(wayOfRound(this.#options.ways, number), contentOf(number + 1));
    }
  }

  async #runRound(way: RaceWay, content: bigint): Promise<void> {
    const { guest, truncater, isRecalled, slowness, unguardedMs } = this.#options;
    const before = { unannounced: guest.states.unannounced, faults: guest.faults() };
    const cut = await truncater.cut(way);
    // The guest has its time to touch what is gone: until the recall, where there is one.
    await (isRecalled ? within(this.#round.recalled, RECALL_BOUND_MS * slowness) : sleep(unguardedMs));
    const faultsBy = this.#round.faultsAtRecall ?? guest.faults();
    const whole = await truncater.regrow(content);
    for (const task of guest.tasks) guest.channel.setValue(task, 0, content);
    await this.awaitProgress();
    const { recalledUs, storedAtRecall, sizeAtRecall, givenBackUs } = this.#round;
    const unannounced = guest.states.unannounced - before.unannounced;
    const faults = before.faults === null || faultsBy === null ? null : faultsBy - before.faults;
    this.results.push(
      resultOf({
        way,
        cut,
        whole,
        recalledUs,
        storedAtRecall,
        sizeAtRecall,
        givenBackUs,
        unannounced,
        faults,
      }),
    );
  }

  /** Until every vCPU has touched its page since the file was whole again. */
  async awaitProgress(): Promise<void> {
    const { guest, slowness } = this.#options;
    const deadlineMs = performance.now() + PROGRESS_BOUND_MS * slowness;
    const isLate = (): boolean => performance.now() > deadlineMs || guest.isOver();
    const count = (task: number): bigint => guest.channel.tally(task, 0).accesses;
    const isOpen = (): boolean => {
      const hva = guest.hvaOf(LOAD_OFFSET);
      return hva !== null && guest.states.of(hva) === pageState.open;
    };
    while (!isOpen() && !isLate()) await guest.pause();
    const before = guest.tasks.map(count);
    while (!guest.tasks.every((task) => count(task) > (before[task] ?? 0n))) {
      if (isLate()) {
        this.#isStuck = true;
        return;
      }
      await guest.pause();
    }
  }
}

/** Does the work. A LostChildError where one of the processes behind it has ended: that explains whatever else failed. */
export async function unlessLost(
  work: () => Promise<void>,
  losses: readonly (() => Promise<string | null>)[],
): Promise<void> {
  let failure: unknown = null;
  try {
    await work();
  } catch (error) {
    failure = error;
  }
  for (const lost of losses) {
    const reason = await lost();
    if (reason !== null) throw new LostChildError(reason);
  }
  if (failure !== null) throw failure;
}
