/**
 * Which of several threads receives requests, in shared memory. No thread of them has state that another one lacks
 * (passthrough/slots.ts), so a request that blocks costs its thread alone: whichever thread receives the next one serves it.
 *
 * One thread receives and serves, as if it were alone. That is cheapest: it finds its next request by looking
 * (arrivals.ts), without being woken, and its caches are warm. Several threads that wait in read(2) would be woken in turn,
 * also while the first one looks. The others rest on a futex. One of them is the watch: at most every TICK_MS it compares
 * counters, and where no thread receives, every serving one is at the same request as a tick ago, and none of them only
 * lacks a CPU, it begins to receive, and another one becomes the watch. Requests that wait by nature (fsync and the like) do
 * not wait for a tick: their thread calls the watch first. Where requests are queued already, and there is a CPU for it, a
 * second thread receives too.
 *
 * Of several that receive, the first one goes on, and each other one goes to rest before it would sleep in read(2): the
 * first has compiled what it serves with, and a thread that is new to it takes five times as long for a request.
 *
 * While the only receiving thread sleeps in read(2), the watch sleeps without a limit, and is called with the next request.
 *
 * Not here: starting threads and interrupting them, which the main thread does (threads.ts).
 */
import { isThreadRunnable, threadId, threadRunMs } from "../../../../sys/src/index.ts";

/** As many as libfuse's servers have, unless told otherwise. Each takes some 12 MiB of memory once it was needed. */
export const MAX_THREADS = 10;
const TICK_MS = 2;
/** Ticks of one request after which another thread receives, even if the first one works (a long copy in the kernel) .. */
const LONG_TICKS = 5;
/** .. and has the CPU for it: waiting for one is no work, and another thread would wait too. */
const LONG_RUN_MS = 4;
/** Ticks without a request after which the watch sleeps until it is called. */
const QUIET_TICKS = 5;
/** Requests in a row that were there already when they were looked for: more than one thread can serve. */
const QUEUED = 64;

const WATCH = 0;
/** Number of the thread that watches, plus one. */
const WATCHMAN = 1;
const IS_WATCH_ASLEEP = 2;
/** Do not wait for a tick: a thread is about to block, or requests are queued. */
const IS_CALLED = 3;
const IS_INVITED = 4;
const REST = 5;
/** Threads that receive or serve. */
const ACTIVE = 6;
const HEAD_WORDS = 16;

const ROLE = 0;
/** Odd while the thread receives, even while it serves. */
const TURN = 1;
const TID = 2;
const UNIQUE_LOW = 3;
const UNIQUE_HIGH = 4;
/** 1: the main thread is sending it a signal. */
const IS_SIGNALLED = 5;
/** An INTERRUPT of a request that the thread keeps for later. */
const MAIL = 6;
const MAIL_LOW = 7;
const MAIL_HIGH = 8;
/** A cache line each. */
const THREAD_WORDS = 16;
const role = { none: 0, active: 1, resting: 2 } as const;

export function crewMemory(): SharedArrayBuffer {
  return new SharedArrayBuffer(4 * (HEAD_WORDS + MAX_THREADS * THREAD_WORDS));
}

const at = (thread: number): number => HEAD_WORDS + thread * THREAD_WORDS;
const half = (unique: bigint, shift: bigint): number => Number((unique >> shift) & 0xffff_ffffn) | 0;

/** How a request came: it was there before it was looked for, or the thread has waited for it, awake or asleep. */
export type Arrival = "queued" | "waited for";

/** One thread's side. */
export class Crew {
  readonly #words: Int32Array;
  readonly #self: number;
  readonly #at: number;
  readonly #grow: () => void;
  readonly #cpus: number;
  #turn = 1;
  #queued = 0;
  /** Requests until a second thread is asked for again, and how many the time after. */
  #skip = 0;
  #penalty = QUEUED;

  /**
   * @param self number of this thread, from 0
   * @param options `cpus`: on how many the threads may run; `grow`: asks for one more thread
   */
  constructor(
    memory: SharedArrayBuffer,
    self: number,
    options: { readonly cpus: number; readonly grow: () => void },
  ) {
    this.#words = new Int32Array(memory);
    this.#self = self;
    this.#at = at(self);
    this.#cpus = options.cpus;
    this.#grow = options.grow;
    this.#words[this.#at + TID] = threadId();
    Atomics.store(this.#words, this.#at + TURN, this.#turn);
  }

  /** The first thread receives, the others rest until they are needed. */
  begin(): void {
    if (this.#self === 0) this.#activate();
    else this.#rest();
  }

  /** A request came. */
  serving(uniqueLow: number, uniqueHigh: number, arrival: Arrival): void {
    const words = this.#words;
    words[this.#at + UNIQUE_LOW] = uniqueLow;
    words[this.#at + UNIQUE_HIGH] = uniqueHigh;
    this.#turn = (this.#turn + 1) | 0;
    Atomics.store(words, this.#at + TURN, this.#turn);
    // After the turn has changed: a watch that is woken before it would see nothing new, and sleep again. It may sleep also where
    // this thread has not: one that lacked its CPU while it looked for requests is taken for one that sleeps in read(2).
    if (Atomics.load(words, IS_WATCH_ASLEEP) !== 0) this.#call();
    this.#queued = arrival === "queued" ? this.#queued + 1 : 0;
    if (this.#skip > 0) this.#skip -= 1;
    else if (this.#queued >= QUEUED && this.#cpus > 1) this.#invite();
  }

  /** It is answered, or kept for later. */
  served(): void {
    const words = this.#words;
    this.#turn = (this.#turn + 1) | 0;
    Atomics.store(words, this.#at + TURN, this.#turn);
    // The signal is meant for the request that is over: it is delivered before the next call.
    while (Atomics.load(words, this.#at + IS_SIGNALLED) !== 0);
  }

  /** This thread is about to do what may take long. */
  willBlock(): void {
    Atomics.store(this.#words, IS_CALLED, 1);
    this.#call();
  }

  /** The request that an INTERRUPT of this thread's mail means, or null. */
  mail(): bigint | null {
    const words = this.#words;
    if (Atomics.load(words, this.#at + MAIL) === 0) return null;
    const [low = 0, high = 0] = [words[this.#at + MAIL_LOW], words[this.#at + MAIL_HIGH]];
    Atomics.store(words, this.#at + MAIL, 0);
    return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
  }

  /** Before a sleep in read(2). True: a thread before this one receives, this one has rested and is needed again. */
  rest(): boolean {
    const words = this.#words;
    // Never two that see each other receive: then none would be left.
    if (Atomics.load(words, ACTIVE) < 2 || !this.#oneBeforeReceives()) return false;
    Atomics.sub(words, ACTIVE, 1);
    this.#rest();
    return true;
  }

  #oneBeforeReceives(): boolean {
    for (let thread = 0; thread < this.#self; thread += 1) {
      if (this.#words[at(thread) + ROLE] !== role.active) continue;
      if ((Atomics.load(this.#words, at(thread) + TURN) & 1) === 1) return true;
    }
    return false;
  }

  #invite(): void {
    this.#queued = 0;
    this.#skip = this.#penalty;
    this.#penalty = Math.min(this.#penalty * 2, 64 * QUEUED);
    if (Atomics.load(this.#words, ACTIVE) >= this.#cpus) return;
    Atomics.store(this.#words, IS_INVITED, 1);
    this.#call();
  }

  #call(): void {
    Atomics.store(this.#words, IS_WATCH_ASLEEP, 0);
    Atomics.add(this.#words, WATCH, 1);
    Atomics.notify(this.#words, WATCH, 1);
  }

  #activate(): void {
    Atomics.store(this.#words, this.#at + ROLE, role.active);
    Atomics.add(this.#words, ACTIVE, 1);
  }

  /** Waits until this thread has to receive. */
  #rest(): void {
    const words = this.#words;
    Atomics.store(words, this.#at + ROLE, role.resting);
    for (;;) {
      const turn = Atomics.load(words, REST);
      if (Atomics.compareExchange(words, WATCHMAN, 0, this.#self + 1) === 0) break;
      Atomics.wait(words, REST, turn);
    }
    this.#watch();
    this.#activate();
    Atomics.store(words, WATCHMAN, 0);
    Atomics.add(words, REST, 1);
    Atomics.notify(words, REST, 1);
    // The next watch, and one to follow it.
    if (this.#resting() < 2) this.#grow();
  }

  #resting(): number {
    let count = 0;
    for (let thread = 0; thread < MAX_THREADS; thread += 1) {
      if (this.#words[at(thread) + ROLE] === role.resting) count += 1;
    }
    return count;
  }

  /** Returns when no thread receives, or one more should. */
  #watch(): void {
    const words = this.#words;
    let before: readonly number[] = [];
    let quiet = 0;
    let stuck = 0;
    let ranMs: number | null = null;
    for (;;) {
      const call = Atomics.load(words, WATCH);
      const isAsleep = quiet >= QUIET_TICKS;
      if (isAsleep) {
        Atomics.store(words, IS_WATCH_ASLEEP, 1);
        // Looked at again after that, or the thread that wakes now would not see it.
        if (!same(before, this.#turns())) {
          Atomics.store(words, IS_WATCH_ASLEEP, 0);
          quiet = 0;
          continue;
        }
      }
      Atomics.wait(words, WATCH, call, isAsleep ? Number.POSITIVE_INFINITY : TICK_MS);
      if (isAsleep) Atomics.store(words, IS_WATCH_ASLEEP, 0);
      const turns = this.#turns();
      const isSame = same(before, turns);
      const isReceived = turns.some((turn) => (turn & 1) === 1);
      before = turns;
      if (Atomics.exchange(words, IS_INVITED, 0) !== 0) return;
      const isCalled = Atomics.exchange(words, IS_CALLED, 0) !== 0;
      stuck = isSame && !isReceived ? stuck + 1 : 0;
      if (stuck === 1) ranMs = this.#ranMs();
      const isLong = stuck > LONG_TICKS && (ranMs === null || (this.#ranMs() ?? 0) - ranMs >= LONG_RUN_MS);
      if (!isReceived && (isCalled || isLong || (isSame && !this.#isWorking()))) return;
      quiet = isReceived && isSame ? quiet + 1 : 0;
    }
  }

  /** Whether an active thread runs, or would if it had a CPU. */
  #isWorking(): boolean {
    for (let thread = 0; thread < MAX_THREADS; thread += 1) {
      const isActive = this.#words[at(thread) + ROLE] === role.active;
      if (isActive && isThreadRunnable(this.#words[at(thread) + TID] ?? 0)) return true;
    }
    return false;
  }

  /** How long the active threads have run so far; null: the kernel does not say. */
  #ranMs(): number | null {
    let sum = 0;
    for (let thread = 0; thread < MAX_THREADS; thread += 1) {
      if (this.#words[at(thread) + ROLE] !== role.active) continue;
      const ranMs = threadRunMs(this.#words[at(thread) + TID] ?? 0);
      if (ranMs === null) return null;
      sum += ranMs;
    }
    return sum;
  }

  /** Of the active threads. */
  #turns(): readonly number[] {
    const turns: number[] = [];
    for (let thread = 0; thread < MAX_THREADS; thread += 1) {
      if (this.#words[at(thread) + ROLE] === role.active) {
        turns.push(Atomics.load(this.#words, at(thread) + TURN));
      }
    }
    return turns;
  }
}

function same(one: readonly number[], other: readonly number[]): boolean {
  return one.length === other.length && one.every((turn, index) => turn === other[index]);
}

/** The main thread's side. */
export class CrewView {
  readonly #words: Int32Array;

  constructor(memory: SharedArrayBuffer) {
    this.#words = new Int32Array(memory);
  }

  /** Whether none of them rests. */
  areAllActive(threads: number): boolean {
    for (let thread = 0; thread < threads; thread += 1) {
      if (Atomics.load(this.#words, at(thread) + ROLE) !== role.active) return false;
    }
    return true;
  }

  /** Threads that wait until they are needed. */
  get resting(): number {
    let count = 0;
    for (let thread = 0; thread < MAX_THREADS; thread += 1) {
      if (this.#words[at(thread) + ROLE] === role.resting) count += 1;
    }
    return count;
  }

  /** The requests that threads are at, as counters; null: a thread receives. */
  blockedTurns(threads: number): readonly number[] | null {
    const turns: number[] = [];
    for (let thread = 0; thread < threads; thread += 1) {
      const turn = Atomics.load(this.#words, at(thread) + TURN);
      if (Atomics.load(this.#words, at(thread) + ROLE) !== role.active || (turn & 1) === 1) return null;
      turns.push(turn);
    }
    return turns;
  }

  /** Ids of the threads that serve a request just now. */
  serving(): readonly number[] {
    const tids: number[] = [];
    for (let thread = 0; thread < MAX_THREADS; thread += 1) {
      const isServing = (Atomics.load(this.#words, at(thread) + TURN) & 1) === 0;
      const tid = this.#words[at(thread) + TID] ?? 0;
      if (this.#words[at(thread) + ROLE] === role.active && isServing && tid !== 0) tids.push(tid);
    }
    return tids;
  }

  /** Calls `signal` with the id of the thread that serves the request `unique`, while it does. False: none serves it. */
  whileServing(unique: bigint, signal: (tid: number) => void): boolean {
    const words = this.#words;
    const [low, high] = [half(unique, 0n), half(unique, 32n)];
    for (let thread = 0; thread < MAX_THREADS; thread += 1) {
      const own = at(thread);
      const isAt = (): boolean =>
        (Atomics.load(words, own + TURN) & 1) === 0 &&
        Atomics.load(words, own + UNIQUE_LOW) === low &&
        Atomics.load(words, own + UNIQUE_HIGH) === high;
      if (words[own + ROLE] !== role.active || !isAt()) continue;
      Atomics.store(words, own + IS_SIGNALLED, 1);
      // Once more: from here on the thread does not go on to its next request.
      const isStill = isAt();
      if (isStill) signal(words[own + TID] ?? 0);
      Atomics.store(words, own + IS_SIGNALLED, 0);
      if (isStill) return true;
    }
    return false;
  }

  /** Tells the threads, one of which may keep the request for later. */
  mail(unique: bigint): void {
    const words = this.#words;
    for (let thread = 0; thread < MAX_THREADS; thread += 1) {
      if (words[at(thread) + ROLE] !== role.active) continue;
      words[at(thread) + MAIL_LOW] = half(unique, 0n);
      words[at(thread) + MAIL_HIGH] = half(unique, 32n);
      Atomics.store(words, at(thread) + MAIL, 1);
    }
  }
}
