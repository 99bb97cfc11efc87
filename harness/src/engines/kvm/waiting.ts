/**
 * Do the counting tasks get on while an access waits for I/O? Fed with samples, from outside the vCPU's thread, which
 * may be asleep in KVM_RUN all the while. Pure.
 *
 * The counts are taken over the middle of a wait. Between beginning an access and faulting at it a task may lose the
 * processor to the timer, and so it may between the page's arrival and trying again: a timer interrupt that has been
 * pending for the whole wait comes first. What others count then says nothing about the wait.
 *
 *     access begins   faults                             page arrives   access succeeds
 *     |---------------|----------------------------------|--------------|
 *     |<- MARGIN_MS ->|baseline                       end|<- MARGIN_MS->|
 */

/** At either end of a wait: many times a slice of the guest's scheduler. */
const MARGIN_MS = 100;
/** So much must be left between the margins, or nothing can be said. */
const WATCH_MS = 50;

type Sample = { readonly atMs: number; readonly counts: readonly bigint[] };
/** Samples of one wait from its margin on, oldest first: the baseline, then those of the last MARGIN_MS. */
type Wait = { readonly sinceMs: number; readonly samples: Sample[] };

export class Waiting {
  readonly #waits = new Map<string, Wait>();
  #longestMs = 0;
  #growth: readonly bigint[] | null = null;

  /**
   * @param counts of all tasks, read before `pending` was
   * @param pending accesses that have begun and not finished, a name each
   */
  sample(atMs: number, counts: readonly bigint[], pending: readonly string[]): void {
    for (const key of [...this.#waits.keys()]) if (!pending.includes(key)) this.#waits.delete(key);
    for (const key of pending) {
      const wait = this.#waits.get(key) ?? { sinceMs: atMs, samples: [] };
      this.#waits.set(key, wait);
      if (atMs - wait.sinceMs >= MARGIN_MS) wait.samples.push({ atMs, counts });
      this.#look(wait.samples, atMs - MARGIN_MS);
    }
  }

  /** Takes the growth from the baseline to the last sample before `untilMs`, if that is the longest stretch so far. */
  #look(samples: Sample[], untilMs: number): void {
    while ((samples[2]?.atMs ?? Number.POSITIVE_INFINITY) <= untilMs) samples.splice(1, 1);
    const [baseline, end] = samples;
    if (baseline === undefined || end === undefined || end.atMs > untilMs) return;
    const watchedMs = end.atMs - baseline.atMs;
    if (watchedMs < Math.max(WATCH_MS, this.#longestMs)) return;
    this.#longestMs = watchedMs;
    this.#growth = end.counts.map((count, task) => count - (baseline.counts[task] ?? 0n));
  }

  /** By task, over the longest wait that was seen; null if no access waited long enough. */
  get growth(): readonly bigint[] | null {
    return this.#growth;
  }
}
