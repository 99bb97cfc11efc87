/**
 * The threads of the queues of io_uring, seen from the main thread: it starts FIRST_THREADS for each queue, and more where
 * calls of the source block those that are there (ring-crew.ts).
 */
import { isThreadRunnable } from "../../../../sys/src/index.ts";
import { FIRST_THREADS, MAX_RING_THREADS, RingCrewView, ringCrewMemory, SPARE, stayed } from "./ring-crew.ts";
import type { QueueSeat } from "./worker.ts";

/** A thread at the same request for so long is blocked. */
const BLOCKED_MS = 3;
/** Between looks at a queue that has no entry for longer. */
const LONGEST_WAIT_MS = 100;
/** All threads of a queue at the same requests for so long: said once. */
const HANG_MS = 1000;

export type RingThreadsOptions = {
  readonly queues: number;
  /** Starts a thread. */
  readonly start: (seat: QueueSeat) => void;
  /** Every queue has an entry: the kernel sends requests. */
  readonly onReady: () => void;
  readonly log: (line: string) => void;
};

type QueueState = {
  /** Threads that were started. */
  started: number;
  /** Threads whose entries are registered. */
  ready: number;
  /** All threads that it may have are blocked since then; infinite once that was said. */
  hungSinceMs: number | null;
};

export class RingThreads {
  readonly #options: RingThreadsOptions;
  readonly #memory: SharedArrayBuffer;
  readonly #view: RingCrewView;
  readonly #states: readonly QueueState[];
  #isReady = false;

  constructor(options: RingThreadsOptions) {
    this.#options = options;
    const { queues } = options;
    this.#memory = ringCrewMemory(queues);
    this.#view = new RingCrewView(this.#memory, queues);
    this.#states = Array.from({ length: queues }, () => ({ started: 0, ready: 0, hungSinceMs: null }));
    for (let i = 0; i < FIRST_THREADS; i += 1) {
      for (let queue = 0; queue < queues; queue += 1) this.#start(queue);
    }
  }

  #start(queue: number): void {
    const state = this.#states[queue];
    if (state === undefined || state.started >= MAX_RING_THREADS) return;
    state.started += 1;
    this.#options.start({ memory: this.#memory, queue, thread: state.started - 1 });
  }

  /** An entry of the queue is registered. */
  ready(queue: number): void {
    const state = this.#states[queue];
    if (state === undefined) return;
    state.ready += 1;
    if (this.#isReady || this.#states.some((one) => one.ready < FIRST_THREADS)) return;
    this.#isReady = true;
    this.#options.onReady();
  }

  /** The queue has no entry left. Looks again and again until it has one. */
  short(queue: number): void {
    const state = this.#states[queue];
    if (state === undefined) return;
    let before = this.#view.looks(queue);
    let wait = BLOCKED_MS;
    let blockedBefore = 0;
    const look = (): void => {
      const after = this.#view.looks(queue);
      // One that only lacks a CPU goes on by itself.
      const blocked = stayed(before, after).filter(({ tid }) => !isThreadRunnable(tid)).length;
      const missing = blocked === 0 ? 0 : blocked + SPARE - state.started;
      for (let i = 0; i < missing; i += 1) this.#start(queue);
      this.#sayHang(queue, state, blocked);
      if (this.#view.hasEntryAgain(queue)) return;
      wait = blocked > blockedBefore ? BLOCKED_MS : Math.min(2 * wait, LONGEST_WAIT_MS);
      before = after;
      blockedBefore = blocked;
      setTimeout(look, wait).unref();
    };
    setTimeout(look, wait).unref();
  }

  #sayHang(queue: number, state: QueueState, blocked: number): void {
    const now = performance.now();
    if (blocked < MAX_RING_THREADS) state.hungSinceMs = null;
    else state.hungSinceMs ??= now;
    if (state.hungSinceMs === null || now - state.hungSinceMs < HANG_MS) return;
    state.hungSinceMs = Number.POSITIVE_INFINITY;
    this.#options.log(
      `all ${blocked} threads of CPU ${queue} wait in calls of the source; its callers are not served until one returns`,
    );
  }

  /** Calls `signal` with the id of the thread that serves the request `unique`, while it does. False: none serves it. */
  whileServing(unique: bigint, signal: (tid: number) => void): boolean {
    return this.#view.whileServing(unique, signal);
  }
}
