/**
 * Do the counting tasks get on while an access waits for I/O? Fed with samples, from outside the vCPU's thread, which
 * may be asleep in KVM_RUN all the while. Pure.
 *
 * The counts are taken over the later part of a wait: between beginning an access and faulting at it a task may lose the
 * processor to the timer, and what others count then says nothing about the wait.
 */

/** An access that has been pending for less may merely have been preempted. */
const SETTLE_MS = 100;
/** The wait must go on for as long again, or nothing can be said. */
const WATCH_MS = 50;

type Wait = {
  readonly sinceMs: number;
  baseline: { readonly atMs: number; readonly counts: readonly bigint[] } | null;
};

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
      const wait = this.#waits.get(key) ?? { sinceMs: atMs, baseline: null };
      this.#waits.set(key, wait);
      if (atMs - wait.sinceMs >= SETTLE_MS) wait.baseline ??= { atMs, counts };
      const { baseline } = wait;
      if (baseline === null || atMs - baseline.atMs < Math.max(WATCH_MS, this.#longestMs)) continue;
      this.#longestMs = atMs - baseline.atMs;
      this.#growth = counts.map((count, task) => count - (baseline.counts[task] ?? 0n));
    }
  }

  /** By task, over the longest wait that was seen; null if no access waited long enough. */
  get growth(): readonly bigint[] | null {
    return this.#growth;
  }
}
