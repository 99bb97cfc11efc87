/**
 * Whether a thread of this process waits for something that does not come: it sleeps in the kernel, and has not run since the
 * last look. One that is ready and has no processor does not; nor does one without work, which sleeps in futex(2) or epoll_wait(2).
 */
import { readdirSync, readFileSync } from "node:fs";
import { parseMember } from "./proc.ts";

/** By kernel function (wchan); the kernel gives `0` where it does not say. */
const WITHOUT_WORK = /^(?:futex|do_epoll_wait|ep_poll|hrtimer_nanosleep|do_nanosleep|0?$)/;

/** By thread: how often it has gone to sleep. */
export type Sleepers = ReadonlyMap<string, string>;

function sleepOf(tid: string): string | null {
  const folder = `/proc/self/task/${tid}`;
  try {
    const status = readFileSync(`${folder}/status`, "latin1");
    const [state] = parseMember(status, "State") ?? "";
    const waits =
      state === "D" || (state === "S" && !WITHOUT_WORK.test(readFileSync(`${folder}/wchan`, "latin1")));
    return waits ? (parseMember(status, "voluntary_ctxt_switches") ?? null) : null;
  } catch {
    // The thread has ended.
    return null;
  }
}

/** Those that sleep now, and not for want of work. */
export function sleepers(): Sleepers {
  const found = new Map<string, string>();
  for (const tid of readdirSync("/proc/self/task")) {
    const sleep = sleepOf(tid);
    if (sleep !== null) found.set(tid, sleep);
  }
  return found;
}

/** Has one slept through from the first look to the second? */
export function hasSlept(before: Sleepers, now: Sleepers): boolean {
  return [...now].some(([tid, sleep]) => before.get(tid) === sleep);
}
