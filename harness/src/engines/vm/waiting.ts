/**
 * Do the counting tasks get on while an access waits for I/O? Fed with samples, from outside the vCPU's thread, which
 * may be asleep in KVM_RUN all the while. Pure.
 *
 * Between beginning an access and faulting at it a task may lose the processor to the timer, and so it may between the
 * page's arrival and trying again: a timer interrupt that has been pending for the whole wait comes first. Counts from
 * then are no evidence about the wait. Of the counting task's vCPU there are three cases:
 *
 * - Its thread was found asleep, again and again: what was counted from the first such look to the last. The access had
 *   faulted by the first, and its page had not come by the last, or the thread would have been awake.
 * - It was never found asleep, in many looks: nothing was waited for on that vCPU, and the whole wait counts.
 * - Otherwise the middle of the wait counts, by the clock:
 *
 *       access begins   faults                             page arrives   access succeeds
 *       |---------------|----------------------------------|--------------|
 *       |<- MARGIN_MS ->|baseline                       end|<- MARGIN_MS->|
 */
import { noShare, type Share, shareBetween } from "../attendance.ts";

/** At either end of a wait: many times a slice of the guest's scheduler. */
const MARGIN_MS = 100;
/** So much must be left between the margins, or the wait is not judged. */
const WATCH_MS = 50;
/** So many looks at a thread that none found asleep: a wait that is long enough to be judged has ten times as many on an idle machine. */
const LOOKS_MIN = 5;

export type CpuView = {
  /** All that its thread got so far. */
  readonly share: Share;
  /** It was asleep at this look. */
  readonly isAsleep: boolean;
};

export type Sample = {
  readonly atMs: number;
  /** By task: read before the looks at the vCPUs, and again after them. */
  readonly before: readonly bigint[];
  readonly after: readonly bigint[];
  /** By vCPU; null: nothing is known of its thread. */
  readonly cpus: readonly (CpuView | null)[];
  /** Accesses that have begun and not finished, a name each; read last. */
  readonly pending: readonly string[];
};

/** What a task counted while an access waited, and what its vCPU's thread got meanwhile (null: not known). */
export type Growth = { readonly watchedMs: number; readonly counted: bigint; readonly share: Share | null };

type Window = { readonly from: Sample; readonly to: Sample };

type Wait = {
  readonly first: Sample;
  last: Sample;
  /** From its margin on, oldest first: the baseline, then those of the last MARGIN_MS. */
  readonly samples: Sample[];
  /** From the baseline to the last sample before the margin; null: too short so far. */
  middle: Window | null;
  /** By vCPU: the first and the last sample that found it asleep. */
  readonly asleep: (Window | undefined)[];
  /** The VMM was asked about it: its vCPU was out of the guest for some of the time, in which no bystander counted. */
  isAnswered: boolean;
};

const spanMs = ({ from, to }: Window): number => to.atMs - from.atMs;
const looksOf = ({ first, last }: Wait, cpu: number): Share => {
  const [from, to] = [first.cpus[cpu]?.share, last.cpus[cpu]?.share];
  return from === undefined || to === undefined ? noShare : shareBetween(from, to);
};

/** The part of the wait in which the tasks of this vCPU are evidence; null: too short. */
function windowOf(wait: Wait, cpu: number): Window | null {
  if (wait.middle === null) return null;
  const asleep = wait.asleep[cpu];
  if (asleep === undefined) {
    return looksOf(wait, cpu).looks >= LOOKS_MIN ? { from: wait.first, to: wait.last } : wait.middle;
  }
  return spanMs(asleep) >= WATCH_MS ? asleep : wait.middle;
}

function growthIn(window: Window, task: number, cpu: number): Growth {
  const { from, to } = window;
  const [before, after] = [from.cpus[cpu], to.cpus[cpu]];
  return {
    watchedMs: spanMs(window),
    counted: (to.before[task] ?? 0n) - (from.after[task] ?? 0n),
    share: before == null || after == null ? null : shareBetween(before.share, after.share),
  };
}

export class Waiting {
  readonly #cpus: readonly number[];
  readonly #waits = new Map<string, Wait>();
  /** By task, of the waits that are over: the longest. */
  readonly #longest: (Growth | null)[];

  /** @param cpus the vCPU of each task */
  constructor(cpus: readonly number[]) {
    this.#cpus = cpus;
    this.#longest = cpus.map(() => null);
  }

  sample(sample: Sample): void {
    const { atMs, pending } = sample;
    for (const [key, wait] of this.#waits) {
      if (pending.includes(key)) continue;
      this.#waits.delete(key);
      for (const task of this.#cpus.keys()) {
        this.#longest[task] = longer(this.#longest[task] ?? null, this.#growthOf(wait, task));
      }
    }
    for (const key of pending) {
      const wait = this.#waits.get(key) ?? beginning(sample);
      this.#waits.set(key, wait);
      wait.last = sample;
      if (atMs - wait.first.atMs >= MARGIN_MS) wait.samples.push(sample);
      for (const [cpu, view] of sample.cpus.entries()) {
        if (view?.isAsleep === true)
          wait.asleep[cpu] = { from: wait.asleep[cpu]?.from ?? sample, to: sample };
      }
      lookAtMiddle(wait, atMs - MARGIN_MS);
    }
  }

  /** The VMM has been asked about the accesses that are under way: none of them is a wait for I/O. */
  answered(): void {
    for (const wait of this.#waits.values()) wait.isAnswered = true;
  }

  /**
   * A device has answered: until then its vCPU was out of the guest, and what had waited may have waited for that. Waits begin
   * anew.
   */
  served(): void {
    this.#waits.clear();
  }

  #growthOf(wait: Wait, task: number): Growth | null {
    const cpu = this.#cpus[task] ?? 0;
    const window = wait.isAnswered ? null : windowOf(wait, cpu);
    return window === null ? null : growthIn(window, task, cpu);
  }

  /** Over the longest wait that was seen; null if no access waited long enough. */
  growth(task: number): Growth | null {
    return [...this.#waits.values()]
      .map((wait) => this.#growthOf(wait, task))
      .reduce(longer, this.#longest[task] ?? null);
  }
}

const longer = (a: Growth | null, b: Growth | null): Growth | null =>
  (b?.watchedMs ?? 0) > (a?.watchedMs ?? 0) ? b : a;

function beginning(first: Sample): Wait {
  return { first, last: first, samples: [], middle: null, asleep: [], isAnswered: false };
}

function lookAtMiddle(wait: Wait, untilMs: number): void {
  const { samples } = wait;
  while ((samples[2]?.atMs ?? Number.POSITIVE_INFINITY) <= untilMs) samples.splice(1, 1);
  const [from, to] = samples;
  if (from === undefined || to === undefined || to.atMs > untilMs) return;
  if (spanMs({ from, to }) >= WATCH_MS) wait.middle = { from, to };
}
