/**
 * Decides that a vCPU is in an endless loop of page faults: from KVM's own counter, not from time alone.
 *
 * The loop of `kvm_faultin_pfn()` (arch/x86/kvm/mmu/mmu.c) makes no progress in the guest while `pf_taken` climbs: tens
 * of thousands of faults a second on software KVM, some three thousand under full emulation. A guest that is merely
 * slow, asleep or starved of CPU takes few faults; a guest that takes many and gets on is at another step.
 */

export type WatchdogOptions = {
  /** Successive samples that must agree: n samples are n - 1 intervals. */
  readonly samples: number;
  /** Slope of `pf_taken` that every single interval must reach. */
  readonly minFaultsPerSecond: number;
};

/** Four intervals of 50 ms, each with at least ten faults. */
export const defaultWatchdogOptions: WatchdogOptions = { samples: 5, minFaultsPerSecond: 200 };

export type Sample = {
  readonly atMs: number;
  /** The vCPU's `pf_taken`. */
  readonly pageFaults: bigint;
  /** Accesses that have been started and not finished, by task: the step's index. */
  readonly pending: ReadonlyMap<number, number>;
};

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
    if (this.#samples.length < this.#options.samples || !this.#steepThroughout()) return null;
    const first = this.#samples[0] ?? sample;
    for (const [task, step] of sample.pending) {
      if (!this.#samples.every((one) => one.pending.get(task) === step)) continue;
      const overMs = sample.atMs - first.atMs;
      const faults = Number(sample.pageFaults - first.pageFaults);
      return { task, step, faultsPerSecond: (faults / overMs) * 1000, overMs };
    }
    return null;
  }

  #steepThroughout(): boolean {
    for (let i = 1; i < this.#samples.length; i++) {
      const [before, after] = [this.#samples[i - 1], this.#samples[i]];
      if (before === undefined || after === undefined || after.atMs <= before.atMs) return false;
      const faults = Number(after.pageFaults - before.pageFaults);
      if ((faults / (after.atMs - before.atMs)) * 1000 < this.#options.minFaultsPerSecond) return false;
    }
    return true;
  }

  /** Forgets all samples: after the guest's world was changed from outside. */
  reset(): void {
    this.#samples.length = 0;
  }
}
