/**
 * One look at a thread from outside: what the scheduler has given it so far (/proc/PID/schedstat, proc_pid_schedstat(),
 * fs/proc/base.c), and whether it was asleep just then.
 *
 * The kernel brings the figures up to date only when the thread changes its state: while it waits for a processor, that
 * wait is in none of them (sched_info_arrive(), kernel/sched/stats.h), and while it runs its time is as of the last tick.
 * Of a thread that is asleep they are complete.
 */
import { readdirSync, readFileSync } from "node:fs";
import { parseThreadStat } from "./sleep-watch.ts";

export type ThreadLook = {
  /** The look took place between these two moments. */
  readonly beforeMs: number;
  readonly afterMs: number;
  /** Sleeps, or waits uninterruptibly: it neither runs nor waits for a processor, and did not meanwhile. */
  readonly isAsleep: boolean;
  /** Time on a processor. */
  readonly ranMs: number;
  /** Time on a run queue, waiting for one. */
  readonly delayedMs: number;
};

type Schedstat = { readonly ranMs: number; readonly delayedMs: number; readonly slices: number };

/** null: the kernel keeps no such figures (CONFIG_SCHED_INFO), for which it says `0 0 0`. */
export function parseSchedstat(text: string): Schedstat | null {
  const [ran, delayed, slices] = text.trim().split(" ").map(Number);
  if (ran === undefined || delayed === undefined || slices === undefined || !(slices > 0)) return null;
  return { ranMs: ran / 1e6, delayedMs: delayed / 1e6, slices };
}

/** @param tid of a thread, or of a process for its first thread; null where it is gone, or the kernel keeps no figures */
export function lookAtThread(tid: number, nowMs: () => number): ThreadLook | null {
  const read = (name: string): string => readFileSync(`/proc/${tid}/task/${tid}/${name}`, "utf8");
  try {
    const beforeMs = nowMs();
    const first = parseSchedstat(read("schedstat"));
    const state = parseThreadStat(read("stat"), beforeMs)?.state ?? "?";
    const maySleep = ["S", "D"].includes(state);
    const second = maySleep ? parseSchedstat(read("schedstat")) : first;
    const afterMs = nowMs();
    if (first === null || second === null) return null;
    const isAsleep = maySleep && first.slices === second.slices;
    return { beforeMs, afterMs, isAsleep, ranMs: second.ranMs, delayedMs: second.delayedMs };
  } catch {
    return null;
  }
}

/** How long all threads of a process together have waited for a processor so far; 0 where it is gone, or the kernel does not say. */
export function delayedMsOf(pid: number): number {
  const tasks = `/proc/${pid}/task`;
  let sum = 0;
  try {
    for (const tid of readdirSync(tasks)) {
      sum += parseSchedstat(readFileSync(`${tasks}/${tid}/schedstat`, "utf8"))?.delayedMs ?? 0;
    }
  } catch {
    // A thread, or the process, is gone since: what is known counts.
  }
  return sum;
}
