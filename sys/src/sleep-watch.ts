/**
 * Decides from outside that a thread sleeps for ever in a page fault: an uninterruptible sleep (state D), or one that only
 * SIGKILL ends, without CPU time, for longer than any page's I/O takes. The fault waits for its folio
 * (folio_wait_bit_common(), mm/filemap.c), whose READ is never answered. Of a vCPU's thread in KVM_RUN it is a synchronous
 * fault: no signal gets it out of there, so nothing that it does itself can tell.
 *
 * Not here: an asynchronous fault, in which KVM halts the vCPU and its thread can be interrupted (vmm/src/runner/watchdog.ts).
 */
import { readFileSync } from "node:fs";

/** A thread as /proc/PID/task/TID/stat has it (proc_pid_stat(5)). */
export type ThreadSample = {
  readonly atMs: number;
  /** `R`, `S`, `D` .. */
  readonly state: string;
  /** utime and stime, in clock ticks. */
  readonly cpuTicks: number;
};

/** The thread's state; null where it is gone. */
export function readThread(tid: number, atMs: number): ThreadSample | null {
  try {
    return parseThreadStat(readFileSync(`/proc/${tid}/task/${tid}/stat`, "utf8"), atMs);
  } catch {
    return null;
  }
}

/** The name is in brackets and may have blanks and brackets in it: fields are counted from behind the last one. */
export function parseThreadStat(text: string, atMs: number): ThreadSample | null {
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const [state, utime, stime] = [fields[0], fields[11], fields[12]];
  if (state === undefined || utime === undefined || stime === undefined) return null;
  return { atMs, state, cpuTicks: Number(utime) + Number(stime) };
}

/** The kernel function that a thread sleeps in; `0` or empty where the kernel does not say. */
export function waitChannel(tid: number): string {
  try {
    return readFileSync(`/proc/${tid}/task/${tid}/wchan`, "utf8");
  } catch {
    return "";
  }
}

export class SleepWatch {
  readonly #patienceMs: number;
  /** The first sample of the sleep that goes on. */
  #first: ThreadSample | null = null;

  /** @param patienceMs no page's I/O takes longer */
  constructor(patienceMs: number) {
    this.#patienceMs = patienceMs;
  }

  /** Takes a sample; returns how long the sleep has lasted once that is proof. */
  sample(sample: ThreadSample | null): number | null {
    if (sample === null || sample.state !== "D") {
      this.#first = null;
      return null;
    }
    if (this.#first === null || this.#first.cpuTicks !== sample.cpuTicks) this.#first = sample;
    const overMs = sample.atMs - this.#first.atMs;
    return overMs > this.#patienceMs ? overMs : null;
  }
}
