/** Messages between the processes of a race, and its result. A race: guest against truncater, many rounds, one VM. */
import type { ServerPart } from "../../../language/src/index.ts";

/**
 * The guest's accesses, repeated all the time: one vCPU loads; or one loads and another stores. `linux`: two processes of a
 * Linux guest do, on a vCPU each, with the file in virtio-fs's DAX window.
 */
export type RaceGuest = "one-vcpu" | "two-vcpus" | "linux";

/** The ways of the matrix (fixtures/guards) that make the file shorter; and `by-guest`, another Linux guest's ftruncate(2). */
export const raceWays = [
  "truncate",
  "open-ftruncate",
  "ftruncate-old-fd",
  "open-o-trunc",
  "collapse-range",
  "other-namespace",
  "by-nobody",
  "by-mount",
  "by-guest",
] as const;
export type RaceWay = (typeof raceWays)[number];

/** The guards that a race can be run with, in the order of reports. */
export const racedGuards: readonly ServerPart[] = [
  "none",
  "fuse-lease",
  "kernel-lease",
  "pre-content",
  "notify",
  "sealed",
];

export type RaceOptions = {
  readonly guard: ServerPart;
  readonly guest: RaceGuest;
  readonly rounds: number;
  /** They take turns. */
  readonly ways: readonly RaceWay[];
};

/** The rounds of one way. */
export type WayResult = {
  readonly way: RaceWay;
  readonly rounds: number;
  readonly late: number;
  readonly lost: number;
  readonly denied: number;
};

/** Of a race with a Linux guest. */
export type LinuxRaceFacts = {
  /** `uname -r` where its VMM runs, and how many CPUs that machine has. */
  readonly host: string;
  readonly hostCpus: number;
  readonly release: string;
  readonly origin: string;
  /** How many boots the race has taken: one more for each guest that did not come back. */
  readonly boots: number;
  readonly oopses: number;
  /** Why a case of the race ended before its rounds. */
  readonly troubles: readonly string[];
};

export type RaceResult = Omit<RaceOptions, "ways"> & {
  readonly ways: readonly WayResult[];
  /** Why the guard could not be armed, or null. */
  readonly refusal: string | null;
  /** Rounds that came to their end: fewer than asked for if the guest got stuck. */
  readonly done: number;
  /** Rounds in which the mapping was still there when the file got shorter: a loss, if a vCPU touches it in time. */
  readonly late: number;
  /** Rounds in which a vCPU met a lost page that no guard had announced: where a VMM stops there, the VM is lost. */
  readonly lost: number;
  /** Rounds in which the host was refused: a sealed copy cannot be made shorter. */
  readonly denied: number;
  /** The guest made no progress any more although the file was whole again. With a Linux guest the rounds go on in another case. */
  readonly stuck: boolean;
  readonly loads: number;
  readonly stores: number;
  /** Loads that saw bytes which were gone from the file before they began. */
  readonly staleLoads: number;
  /** Loads that saw zeros: the file held them, between growing and being written. */
  readonly zeroLoads: number;
  /** SIGBUS of the guest's tasks, and of a Linux guest's SIGSEGV: the VMM's report of a lost page, at each touch of it. */
  readonly sigbus: number;
  /** Rounds in which the file changed between the acknowledgement and the truncation: a store came through after all. */
  readonly changedAfterAcknowledgement: number;
  /** Rounds in which the new, empty file held something before the guest had it mapped again. */
  readonly dirtyAfterRegrow: number;
  /**
   * By round, in microseconds: from the call of ftruncate(2) to the end of the recall. Negative: the recall was over when
   * it was called (leases); positive: during the call (permission events), or after the fact (notification).
   */
  readonly windowUs: readonly number[];
  /** By round, in microseconds: how long open(2) and ftruncate(2) took the host together. */
  readonly hostUs: readonly number[];
  /** By round: KVM's page faults from before the truncation until the recall, or else until the file grew again. Of a Linux guest. */
  readonly faults: readonly number[];
  readonly seconds: number;
  /** null: the micro-guest. */
  readonly linux: LinuxRaceFacts | null;
};

export type ToRaceHost =
  | {
      readonly type: "start";
      /** The file that the guest has mapped, and the same in the server's mount; null: no way goes through that. */
      readonly path: string;
      readonly mounted: string | null;
      /** Opens the file now, for the way that has had it open all the time. */
      readonly opensNow: boolean;
    }
  /** Truncate. */
  | { readonly type: "cut"; readonly way: RaceWay }
  /** Make it as long as it was, by the descriptor that cut it or else as said, and write `content` where the guest loads. */
  | { readonly type: "regrow"; readonly content: bigint; readonly through: "file" | "mount" };

export type FromRaceHost = CutDone | WholeAgain;

export type WholeAgain = {
  readonly type: "whole";
  /** Did the new file hold something where the guest stores, read at this time? */
  readonly isDirty: boolean;
  readonly readUs: number;
};

export type CutDone = {
  readonly type: "cut";
  readonly isDenied: boolean;
  /** CLOCK_MONOTONIC in microseconds: before open, before ftruncate, after it. By path, open is a part of the call. */
  readonly openUs: number;
  readonly callUs: number;
  readonly returnUs: number;
  /** The stored word just before the call; null: there was no descriptor to read it by, and to open one has effects. */
  readonly storedBefore: bigint | null;
};

export const RACE_FILE_BYTES: number = 2 * 2 ** 20;
export const LOAD_OFFSET = 0x3000;
export const STORE_OFFSET = 0x4000;

export type Quantiles = { readonly p50: number; readonly p99: number; readonly max: number };

/** Of the measured values; null if there are none. */
export function quantiles(values: readonly number[]): Quantiles | null {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number): number =>
    sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? 0;
  return sorted.length === 0 ? null : { p50: at(0.5), p99: at(0.99), max: at(1) };
}
