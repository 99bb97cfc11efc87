/**
 * Decides that a vCPU is in an endless loop of page faults: from KVM's own counter, not from time alone.
 *
 * The loop of `kvm_faultin_pfn()` (arch/x86/kvm/mmu/mmu.c) makes no progress in the guest while `pf_taken` climbs: tens
 * of thousands of faults a second on software KVM, some three thousand under full emulation, a hundred where the guest is
 * told each time and the machine is overloaded. One access takes a handful of faults at most (two pages, a write after a
 * read, a retry after an invalidation); dozens of them, still coming, without its finishing are no slowness.
 * A guest that is merely slow, asleep or starved of CPU takes none; a guest that takes many and gets on is at another step.
 */

export type WatchdogOptions = {
  /** Successive samples that must agree: n samples are n - 1 intervals. */
  readonly samples: number;
  /** `pf_taken` must have grown by as much in every single interval: the faults are still coming. */
  readonly minFaultsPerInterval: number;
  /** And by as much over all of them: far more than any one access needs. */
  readonly minFaults: number;
};

/** Four intervals. */
export const defaultWatchdogOptions: WatchdogOptions = { samples: 5, minFaultsPerInterval: 2, minFaults: 32 };

export type Sample = {
  readonly atMs: number;
  /** The vCPU's `pf_taken`. */
  readonly pageFaults: bigint;
  /** Accesses that have been started and not finished, by task. */
  readonly pending: ReadonlyMap<number, PendingAccess>;
};

/** `began`: the guest's time stamp, which tells one access of a step from the same step's next. */
export type PendingAccess = { readonly step: number; readonly began: bigint };

export type EndlessLoop = {
  readonly task: number;
  readonly step: number;
  readonly faultsPerSecond: number;
  /** How long the proof looked. */
  readonly overMs: number;
};

export class Watchdog {
  readonly #options: WatchdogOptions;
  readonly #samples: Sample[] = [];

  constructor(options: WatchdogOptions = defaultWatchdogOptions) {
    this.#options = options;
  }

  /** Takes a sample; returns the proof as soon as the last samples are one. */
  sample(sample: Sample): EndlessLoop | null {
    this.#samples.push(sample);
    if (this.#samples.length > this.#options.samples) this.#samples.shift();
    const first = this.#samples[0] ?? sample;
    const faults = Number(sample.pageFaults - first.pageFaults);
    if (this.#samples.length < this.#options.samples || faults < this.#options.minFaults) return null;
    if (!this.#growsThroughout()) return null;
    for (const [task, { step, began }] of sample.pending) {
      const isThere = this.#samples.every(({ pending }) => {
        const then = pending.get(task);
        return then?.step === step && then.began === began;
      });
      if (!isThere) continue;
      const overMs = sample.atMs - first.atMs;
      return { task, step, faultsPerSecond: (faults / overMs) * 1000, overMs };
    }
    return null;
  }

  #growsThroughout(): boolean {
    for (let i = 1; i < this.#samples.length; i++) {
      const [before, after] = [this.#samples[i - 1], this.#samples[i]];
      if (before === undefined || after === undefined || after.atMs <= before.atMs) return false;
      if (Number(after.pageFaults - before.pageFaults) < this.#options.minFaultsPerInterval) return false;
    }
    return true;
  }

  /** Forgets all samples: after the guest's world was changed from outside. */
  reset(): void {
    this.#samples.length = 0;
  }
}
