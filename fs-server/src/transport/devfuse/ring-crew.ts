/**
 * The threads that serve the queues of io_uring, in shared memory. Each thread has one entry of one queue (rings.ts), so one
 * that is blocked in a call of the source has no entry to which the kernel could give a request, and holds up nobody.
 *
 * The kernel takes the entry that was given back last (fuse_uring_ent_avail() puts it at the head of the list), so one thread
 * of a queue serves while calls return at once, and the next ones only wait. A queue begins with FIRST_THREADS; where those
 * that are not blocked get fewer than SPARE, the main thread starts another one, up to MAX_RING_THREADS.
 *
 * Not here: starting threads and sending signals, which the main thread does (ring-threads.ts); FORGET and INTERRUPT, which
 * a thread of their own reads from /dev/fuse.
 */
import { readFileSync } from "node:fs";
import { threadId } from "../../../../sys/src/index.ts";

/** Of one queue, from the start. */
export const FIRST_THREADS = 2;
/** Of one queue that are not blocked: the one that serves, and one for the request that blocks it. */
export const SPARE = 2;
/** Of one queue, at most. */
export const MAX_RING_THREADS = 10;

/** Words of a queue. */
const THREADS = 0;
const BUSY = 1;
/** 1: the main thread knows that no entry was left, and has not looked yet. */
const IS_SHORT = 2;
const QUEUE_WORDS = 16;
/** Words of a thread: a cache line. TURN is odd while it waits for a request, even while it serves; 0: there is no such thread. */
const TURN = 0;
const TID = 1;
const UNIQUE_LOW = 2;
const UNIQUE_HIGH = 3;
/** 1: the main thread is sending it a signal. */
const IS_SIGNALLED = 4;
/** 1: its request is interrupted; for a thread that waits on this word and not in a system call. */
const MAIL = 5;
const THREAD_WORDS = 16;

/** How many queues the kernel wants: one for each possible CPU. */
export function queueCount(): number {
  const ranges = readFileSync("/sys/devices/system/cpu/possible", "utf8").trim().split(",");
  return Math.max(...ranges.map((range) => Number(range.split("-").at(-1)))) + 1;
}

export function ringCrewMemory(queues: number): SharedArrayBuffer {
  return new SharedArrayBuffer(4 * queues * (QUEUE_WORDS + MAX_RING_THREADS * THREAD_WORDS));
}

const queueAt = (queue: number): number => queue * (QUEUE_WORDS + MAX_RING_THREADS * THREAD_WORDS);
const threadAt = (queue: number, thread: number): number =>
  queueAt(queue) + QUEUE_WORDS + thread * THREAD_WORDS;

/** One thread of a queue. */
export class RingSeat {
  readonly #words: Int32Array;
  readonly #queueAt: number;
  readonly #at: number;
  readonly #onShort: () => void;
  #turn = 1;

  /** @param onShort the queue has no entry left */
  constructor(memory: SharedArrayBuffer, queue: number, thread: number, onShort: () => void) {
    this.#words = new Int32Array(memory);
    this.#queueAt = queueAt(queue);
    this.#at = threadAt(queue, thread);
    this.#onShort = onShort;
  }

  /** Its entry is registered. */
  begin(): void {
    this.#words[this.#at + TID] = threadId();
    Atomics.store(this.#words, this.#at + TURN, this.#turn);
    Atomics.add(this.#words, this.#queueAt + THREADS, 1);
  }

  /** A request came. */
  serving(uniqueLow: number, uniqueHigh: number): void {
    const words = this.#words;
    const at = this.#at;
    words[at + UNIQUE_LOW] = uniqueLow;
    words[at + UNIQUE_HIGH] = uniqueHigh;
    words[at + MAIL] = 0;
    this.#turn = (this.#turn + 1) | 0;
    Atomics.store(words, at + TURN, this.#turn);
    const busy = Atomics.add(words, this.#queueAt + BUSY, 1) + 1;
    if (busy < (words[this.#queueAt + THREADS] ?? 0)) return;
    if (Atomics.compareExchange(words, this.#queueAt + IS_SHORT, 0, 1) === 0) this.#onShort();
  }

  /** Its answer is about to be sent. */
  served(): void {
    const words = this.#words;
    Atomics.sub(words, this.#queueAt + BUSY, 1);
    this.#turn = (this.#turn + 1) | 0;
    Atomics.store(words, this.#at + TURN, this.#turn);
    // The signal is meant for the request that is over: it is delivered before the next call.
    while (Atomics.load(words, this.#at + IS_SIGNALLED) !== 0);
  }

  /** Waits so long for an interrupt of the request that it serves. True: there was one. */
  isInterrupted(timeoutMs: number): boolean {
    Atomics.wait(this.#words, this.#at + MAIL, 0, timeoutMs);
    return Atomics.exchange(this.#words, this.#at + MAIL, 0) !== 0;
  }
}

/** A registered thread of a queue. */
export type RingLook = {
  readonly thread: number;
  readonly tid: number;
  /** Counts its requests. */
  readonly turn: number;
  readonly isServing: boolean;
};

/** The threads that serve the same request in both looks, taken one after the other. */
export function stayed(before: readonly RingLook[], after: readonly RingLook[]): readonly RingLook[] {
  return after.filter(
    ({ thread, turn, isServing }) =>
      isServing && before.some((earlier) => earlier.thread === thread && earlier.turn === turn),
  );
}

/** The main thread's side. */
export class RingCrewView {
  readonly #words: Int32Array;
  readonly #queues: number;

  constructor(memory: SharedArrayBuffer, queues: number) {
    this.#words = new Int32Array(memory);
    this.#queues = queues;
  }

  /** What the queue's threads are at; those that are not registered yet are left out. */
  looks(queue: number): readonly RingLook[] {
    const looks: RingLook[] = [];
    for (let thread = 0; thread < MAX_RING_THREADS; thread += 1) {
      const at = threadAt(queue, thread);
      const turn = Atomics.load(this.#words, at + TURN);
      if (turn === 0) continue;
      looks.push({ thread, turn, tid: this.#words[at + TID] ?? 0, isServing: (turn & 1) === 0 });
    }
    return looks;
  }

  /** Whether a thread of the queue has no request. From then on the queue says again when it has no entry left. */
  hasEntryAgain(queue: number): boolean {
    if (this.#isShort(queue)) return false;
    const at = queueAt(queue) + IS_SHORT;
    Atomics.store(this.#words, at, 0);
    // The last one may have got a request before that.
    return !this.#isShort(queue) || Atomics.compareExchange(this.#words, at, 0, 1) !== 0;
  }

  #isShort(queue: number): boolean {
    const at = queueAt(queue);
    return Atomics.load(this.#words, at + BUSY) >= Atomics.load(this.#words, at + THREADS);
  }

  /** Calls `signal` with the id of the thread that serves the request `unique`, while it does. False: none serves it. */
  whileServing(unique: bigint, signal: (tid: number) => void): boolean {
    for (let queue = 0; queue < this.#queues; queue += 1) {
      for (let thread = 0; thread < MAX_RING_THREADS; thread += 1) {
        if (this.#isSignalled(threadAt(queue, thread), unique, signal)) return true;
      }
    }
    return false;
  }

  #isSignalled(own: number, unique: bigint, signal: (tid: number) => void): boolean {
    const words = this.#words;
    const [low, high] = [Number(BigInt.asIntN(32, unique)), Number(BigInt.asIntN(32, unique >> 32n))];
    const isAt = (): boolean => {
      const turn = Atomics.load(words, own + TURN);
      const isServing = turn !== 0 && (turn & 1) === 0;
      return (
        isServing &&
        Atomics.load(words, own + UNIQUE_LOW) === low &&
        Atomics.load(words, own + UNIQUE_HIGH) === high
      );
    };
    if (!isAt()) return false;
    Atomics.store(words, own + IS_SIGNALLED, 1);
    // Once more: from here on the thread does not go on to its next request.
    const isStill = isAt();
    if (isStill) {
      Atomics.store(words, own + MAIL, 1);
      Atomics.notify(words, own + MAIL);
      signal(words[own + TID] ?? 0);
    }
    Atomics.store(words, own + IS_SIGNALLED, 0);
    return isStill;
  }
}
