/**
 * Decides that a vCPU is in an endless loop of page faults: from KVM's own counter, not from time alone.
 *
 * The loop of `kvm_faultin_pfn()` (arch/x86/kvm/mmu/mmu.c) makes no progress in the guest while `pf_taken` climbs: tens
 * of thousands of faults a second on software KVM, some three thousand under full emulation, a hundred where the guest
 * gets an event each time and the machine is overloaded. One access takes a handful of faults at most (two pages, a write
 * after a read, a retry after an invalidation); dozens of them, still coming, without its finishing are no slowness.
 * A guest that is merely slow, asleep or starved of CPU takes none; a guest that takes many and gets on is at another step.
 *
 * One thing looks like the loop and is not: a page that needs I/O, touched by a guest that gets no event. Its vCPU halts in
 * KVM, each tick of the guest's timer (4 ms, vmm/guest/micro/x86/kernel.c) ends the halt, and the access faults again: 250 a second
 * at most. A loop without events is far faster; one with events (not-present, ready, not-present for the same access) may
 * be slower, but a page that only needs I/O gives one event. Where each turn of the loop is a READ that a FUSE server
 * fails, under emulation, it is as slow as those ticks: then time decides, by the longest I/O here (`ioPatienceMs`), and
 * whether there are more faults than ticks. Where each fault is one tick's and an I/O may stay unanswered, nothing happens
 * to the page: the vCPU waits.
 *
 * `pf_taken` is the vCPU's, not the access's: a hundred tasks that each wait for a page of their own take hundreds of
 * faults in which each of them gets on. So what the other accesses begun meanwhile may have taken is subtracted first.
 */

export type WatchdogOptions = {
  /** Successive samples in which one access is pending: n samples are n - 1 intervals. */
  readonly samples: number;
  /** `pf_taken` must have grown by as much in each of those intervals: the faults are still coming. */
  readonly minFaultsPerInterval: number;
  /** And by as much since the access was first seen pending, however long ago: far more than any one access needs. */
  readonly minFaults: number;
  /** Faults a second of a loop of which the guest gets no events: more than its timer can cause. */
  readonly minHaltedPerSecond: number;
  /**
   * Faults that an access may take that gets on: two pages, each once more after its I/O. Each may give the guest an event:
   * what is read in for one page can be locked, for a moment, when the next one asks.
   */
  readonly faultsPerAccess: number;
  /** No page's I/O takes longer: an access whose faults still come after that is no slower page. In milliseconds. */
  readonly ioPatienceMs: number;
  /**
   * Is every I/O answered, if with an error? Then an access that faults beyond the patience loops, however slow: under
   * emulation a turn that is a failed READ may take longer than many ticks.
   */
  readonly isIoAnswered: boolean;
};

/** Four intervals. */
export const defaultWatchdogOptions: WatchdogOptions = {
  samples: 5,
  minFaultsPerInterval: 1,
  minFaults: 32,
  minHaltedPerSecond: 500,
  faultsPerAccess: 4,
  ioPatienceMs: Number.POSITIVE_INFINITY,
  isIoAnswered: false,
};

export type Sample = {
  readonly atMs: number;
  /** The vCPU's `pf_taken`. */
  readonly pageFaults: bigint;
  /** Page-not-present events that the guest has got (async page faults). */
  readonly notPresentEvents: number;
  /**
   * Ticks of the guest's timer on this vCPU, as scheduling decisions, and kicks of its thread: each ends KVM's halt, or a
   * fault that can be interrupted, and the access faults again. null: not known.
   */
  readonly ticks: number | null;
  /** Steps that the vCPU's tasks have begun, all in all. */
  readonly begun: number;
  /** Accesses that have been started and not finished, by task. */
  readonly pending: ReadonlyMap<number, PendingAccess>;
};

/** `began`: the guest's time stamp, which distinguishes an access of a step from the same step's next. */
export type PendingAccess = { readonly step: number; readonly began: bigint };

/**
 * `faults`: more than anything but a loop takes, however slow the machine. `time`: the guest's timer may have caused them, and
 * only that no I/O takes so long says that they are none of a page that is on its way.
 */
export type LoopProof = "faults" | "time";

export type EndlessLoop = {
  readonly task: number;
  readonly step: number;
  readonly proof: LoopProof;
  readonly faultsPerSecond: number;
  /** How long the proof looked. */
  readonly overMs: number;
};

/** An access whose page does not come. */
export type EndlessWait = { readonly task: number; readonly step: number; readonly overMs: number };

/** Since the first of two samples; null: not known. */
function ticksSince(first: Sample, now: Sample): number | null {
  return first.ticks === null || now.ticks === null ? null : now.ticks - first.ticks;
}

/** Accesses beside one that was first seen pending in `first`: those pending with it, and those begun since. */
function othersSince(first: Sample, now: Sample): number {
  // A program that starts again at its first step takes steps back.
  return Math.max(0, now.begun - first.begun) + Math.max(0, first.pending.size - 1);
}

export class Watchdog {
  readonly #options: WatchdogOptions;
  readonly #samples: Sample[] = [];
  /** By task: the access that is pending, and the first sample that saw it so. */
  readonly #since = new Map<number, { readonly access: PendingAccess; readonly first: Sample }>();

  constructor(options: WatchdogOptions = defaultWatchdogOptions) {
    this.#options = options;
  }

  /** Takes a sample; returns the proof as soon as the last samples are one. */
  sample(sample: Sample): EndlessLoop | null {
    this.#samples.push(sample);
    if (this.#samples.length > this.#options.samples) this.#samples.shift();
    this.#remember(sample);
    if (this.#samples.length < this.#options.samples || !this.#growsThroughout()) return null;
    const oldestMs = this.#samples[0]?.atMs ?? sample.atMs;
    for (const [task, { access, first }] of this.#since) {
      const { faults, explained } = this.#faultsSince(first, sample);
      const unexplained = faults - explained;
      if (first.atMs > oldestMs || unexplained < this.#options.minFaults) continue;
      const overMs = sample.atMs - first.atMs;
      const isNotified =
        sample.notPresentEvents - first.notPresentEvents - explained >= this.#options.minFaults;
      const isFast = unexplained / overMs >= this.#options.minHaltedPerSecond / 1000;
      const ticks = ticksSince(first, sample);
      const isBeyondTicks = ticks !== null && unexplained - ticks >= this.#options.minFaults;
      const isSlowLoop = overMs > this.#options.ioPatienceMs && (isBeyondTicks || this.#options.isIoAnswered);
      if (!isNotified && !isFast && !isSlowLoop) continue;
      const proof = isNotified || isFast || isBeyondTicks ? "faults" : "time";
      return { task, step: access.step, proof, faultsPerSecond: (faults / overMs) * 1000, overMs };
    }
    return null;
  }

  /** The proof, as of the last sample, that an access waits for ever: longer than any I/O takes, and no fault but the ticks'. */
  waits(): EndlessWait | null {
    const sample = this.#samples.at(-1);
    if (sample === undefined) return null;
    for (const [task, { access, first }] of this.#since) {
      const overMs = sample.atMs - first.atMs;
      if (overMs <= this.#options.ioPatienceMs) continue;
      const { faults, explained } = this.#faultsSince(first, sample);
      if (this.#options.isIoAnswered && faults > explained) continue;
      const isNotified =
        sample.notPresentEvents - first.notPresentEvents - explained >= this.#options.minFaults;
      const ticks = ticksSince(first, sample) ?? 0;
      if (isNotified || faults - explained - ticks >= this.#options.minFaults) continue;
      return { task, step: access.step, overMs };
    }
    return null;
  }

  /** Faults since an access was first seen pending, and those that the other accesses may have taken. */
  #faultsSince(first: Sample, now: Sample): { readonly faults: number; readonly explained: number } {
    const faults = Number(now.pageFaults - first.pageFaults);
    return { faults, explained: othersSince(first, now) * this.#options.faultsPerAccess };
  }

  /** Forgets accesses that have finished, and those that another one of the same step has followed. */
  #remember(sample: Sample): void {
    for (const task of [...this.#since.keys()]) if (!sample.pending.has(task)) this.#since.delete(task);
    for (const [task, access] of sample.pending) {
      const known = this.#since.get(task)?.access;
      if (known?.step === access.step && known.began === access.began) continue;
      this.#since.set(task, { access, first: sample });
    }
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
    this.#since.clear();
  }
}
