/**
 * Did a counting task get on, was it starved, or is that not known? From counters alone. Pure: the figures are recorded
 * with the case (`bystanderCounters`), so the same answer follows from the record.
 */
import type { Bystander } from "../../../language/src/index.ts";
import { type Share, shareText } from "./attendance.ts";

/**
 * What a vCPU's thread must have had, asleep or on a processor, before a task that counted nothing is starved: five ticks of the
 * guest's timer (4 ms, vmm/guest/micro/x86/kernel.c), and one of the host's (10 ms at HZ=100), by which the figures of a running
 * thread may be late. Where the machine is emulated, what runs gets less done: its part is multiplied by the slowness.
 */
export const STARVED_AFTER_MS = 30;

export type Runner = {
  /** The thread that would have run the task, for reasons: `vCPU 0`. */
  readonly who: string;
  /** What it must have had: `STARVED_AFTER_MS` of a vCPU. */
  readonly starvedAfterMs: number;
  /** `CaseContext.slowness`. */
  readonly slowness: number;
};

const isEnough = ({ ranMs, asleepMs }: Share, { starvedAfterMs, slowness }: Runner): boolean =>
  asleepMs + ranMs / slowness >= starvedAfterMs;

export type Watched = {
  /** How often the task has counted. */
  readonly counted: bigint;
  /** Of the thread that would have run it, over the same time; null: not known. */
  readonly share: Share | null;
  /** KVM_RUN gave up and nothing ran the VM again: no task gets on any more. */
  readonly isStopped: boolean;
};

export type Progress = { readonly kind: Bystander } | { readonly kind: "not-known"; readonly reason: string };

export function progressOf({ counted, share, isStopped }: Watched, runner: Runner): Progress {
  if (counted > 0n) return { kind: "progress" };
  if (isStopped) return { kind: "starved" };
  if (share === null)
    return { kind: "not-known", reason: `what ${runner.who} got of the machine is not known` };
  if (isEnough(share, runner)) return { kind: "starved" };
  return { kind: "not-known", reason: `the machine was busy: ${shareText(runner.who, share)}` };
}

/** The words of all bystanders; or why one of them is not known. */
export type Bystanders =
  | { readonly kind: "known"; readonly states: Readonly<Record<string, Bystander>> }
  | { readonly kind: "not-known"; readonly reason: string };

export function bystandersOf(progress: Readonly<Record<string, Progress>>): Bystanders {
  const states: Record<string, Bystander> = {};
  const reasons: string[] = [];
  for (const [name, one] of Object.entries(progress)) {
    if (one.kind === "not-known") reasons.push(`whether ${name} was starved is not known: ${one.reason}`);
    else states[name] = one.kind;
  }
  return reasons.length === 0 ? { kind: "known", states } : { kind: "not-known", reason: reasons.join("; ") };
}

const MICROSECONDS = 1000;

/** The input of `progressOf` for the record: `watched_counter_ran_us`. */
export function bystanderCounters(name: string, { counted, share }: Watched): Record<string, bigint> {
  const counters: Record<string, bigint> = { [`watched_${name}_counted`]: counted };
  if (share === null) return counters;
  const figures = { over: share.overMs, ran: share.ranMs, delayed: share.delayedMs, asleep: share.asleepMs };
  for (const [figure, ms] of Object.entries(figures)) {
    counters[`watched_${name}_${figure}_us`] = BigInt(Math.round(ms * MICROSECONDS));
  }
  return counters;
}
