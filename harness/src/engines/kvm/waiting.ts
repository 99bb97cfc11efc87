/**
 * Do the counting tasks get on while an access waits for I/O? Fed with samples, from outside the vCPU's thread, which
 * may be asleep in KVM_RUN all the while. Pure.
 *
 * The counts are taken over the middle of a wait. Between beginning an access and faulting at it a task may lose the
 * processor to the timer, and so it may between the page's arrival and trying again: a timer interrupt that has been
 * pending for the whole wait comes first. Counts from then are no evidence about the wait.
 *
 *     access begins   faults                             page arrives   access succeeds
 *     |---------------|----------------------------------|--------------|
 *     |<- MARGIN_MS ->|baseline                       end|<- MARGIN_MS->|
 */

/** At either end of a wait: many times a slice of the guest's scheduler. */
const MARGIN_MS = 100;
/** So much must be left between the margins, or the wait is not judged. */
const WATCH_MS = 50;

type Sample = { readonly atMs: number; readonly counts: readonly bigint[] };
type Growth = { readonly watchedMs: number; readonly counts: readonly bigint[] };
type Wait = {
  readonly sinceMs: number;
  /** From its margin on, oldest first: the baseline, then those of the last MARGIN_MS. */
  readonly samples: Sample[];
  /** From the baseline to the last sample before the margin; null: too short so far. */
  growth: Growth | null;
  /** The VMM was asked about it: its vCPU was out of the guest for some of the time, in which no bystander counted. */
  isAnswered: boolean;
};

const longer = (a: Growth | null, b: Growth | null): Growth | null =>
  (b?.watchedMs ?? 0) > (a?.watchedMs ?? 0) ? b : a;

export class Waiting {
  readonly #waits = new Map<string, Wait>();
  /** Of the waits that are over. */
  #longest: Growth | null = null;

  /**
   * @param counts of all tasks, read before `pending` was
   * @param pending accesses that have begun and not finished, a name each
   */
  sample(atMs: number, counts: readonly bigint[], pending: readonly string[]): void {
    for (const [key, wait] of this.#waits) {
      if (pending.includes(key)) continue;
      this.#waits.delete(key);
      this.#longest = longer(this.#longest, this.#growthOf(wait));
    }
    for (const key of pending) {
      const wait = this.#waits.get(key) ?? { sinceMs: atMs, samples: [], growth: null, isAnswered: false };
      this.#waits.set(key, wait);
      if (atMs - wait.sinceMs >= MARGIN_MS) wait.samples.push({ atMs, counts });
      this.#look(wait, atMs - MARGIN_MS);
    }
  }

  /** The VMM has been asked about the accesses that are under way: none of them is a wait for I/O. */
  answered(): void {
    for (const wait of this.#waits.values()) wait.isAnswered = true;
  }

  #look(wait: Wait, untilMs: number): void {
    const { samples } = wait;
    while ((samples[2]?.atMs ?? Number.POSITIVE_INFINITY) <= untilMs) samples.splice(1, 1);
    const [baseline, end] = samples;
    if (baseline === undefined || end === undefined || end.atMs > untilMs) return;
    const watchedMs = end.atMs - baseline.atMs;
    if (watchedMs < WATCH_MS) return;
    wait.growth = {
      watchedMs,
      counts: end.counts.map((count, task) => count - (baseline.counts[task] ?? 0n)),
    };
  }

  #growthOf({ growth, isAnswered }: Wait): Growth | null {
    return isAnswered ? null : growth;
  }

  /** By task, over the longest wait that was seen; null if no access waited long enough. */
  get growth(): readonly bigint[] | null {
    const all = [...this.#waits.values()].map((wait) => this.#growthOf(wait));
    return all.reduce(longer, this.#longest)?.counts ?? null;
  }
}
