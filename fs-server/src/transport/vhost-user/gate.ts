/**
 * A lock for readers and one writer in shared memory: threads serve requests as readers; who changes what all of them use
 * (the guest's memory, a queue, the session) waits until none does. Futexes, no fairness among writers: they are rare.
 */

/** Bits: a writer waits or is at work; the gate is closed. */
const WRITER = 0;
const ALONE = 1;
const CLOSED = 2;
const READERS = 1;
export const GATE_WORDS = 2;

export class Gate {
  readonly #words: Int32Array;
  readonly #at: number;

  constructor(words: Int32Array, at: number) {
    this.#words = words;
    this.#at = at;
  }

  enter(): void {
    const words = this.#words;
    for (;;) {
      Atomics.add(words, this.#at + READERS, 1);
      const writer = Atomics.load(words, this.#at + WRITER);
      if (writer === 0) return;
      this.leave();
      Atomics.wait(words, this.#at + WRITER, writer);
    }
  }

  leave(): void {
    const left = Atomics.sub(this.#words, this.#at + READERS, 1) - 1;
    if (left === 0 && this.isWanted) Atomics.notify(this.#words, this.#at + READERS);
  }

  /** A writer waits, or is at work, or the gate is closed. */
  get isWanted(): boolean {
    return Atomics.load(this.#words, this.#at + WRITER) !== 0;
  }

  /** Neither reader nor writer is inside. */
  get isEmpty(): boolean {
    const readers = Atomics.load(this.#words, this.#at + READERS);
    return readers === 0 && (Atomics.load(this.#words, this.#at + WRITER) & ALONE) === 0;
  }

  /**
   * Admits nobody any more, without waiting; a writer that is inside goes on. Returns the call that opens it again, with nobody
   * inside.
   */
  close(): () => void {
    const words = this.#words;
    Atomics.or(words, this.#at + WRITER, CLOSED);
    return () => {
      Atomics.store(words, this.#at + READERS, 0);
      Atomics.store(words, this.#at + WRITER, 0);
      Atomics.notify(words, this.#at + WRITER);
    };
  }

  /**
   * Does `work` while no reader is inside. Not for a reader: it leaves first. `onWait` is called every `everyMs` that readers
   * stay, and may give up by throwing.
   */
  alone<T>(
    work: () => T,
    everyMs: number = Number.POSITIVE_INFINITY,
    onWait: () => void = () => undefined,
  ): T {
    const words = this.#words;
    for (;;) {
      const writer = Atomics.compareExchange(words, this.#at + WRITER, 0, ALONE);
      if (writer === 0) break;
      Atomics.wait(words, this.#at + WRITER, writer);
    }
    try {
      for (;;) {
        const readers = Atomics.load(words, this.#at + READERS);
        if (readers === 0) return work();
        if (Atomics.wait(words, this.#at + READERS, readers, everyMs) === "timed-out") onWait();
      }
    } finally {
      Atomics.and(words, this.#at + WRITER, ~ALONE);
      Atomics.notify(words, this.#at + WRITER);
    }
  }
}
