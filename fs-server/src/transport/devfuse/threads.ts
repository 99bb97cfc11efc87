/**
 * The threads of a devfuse server, seen from the main thread: the first serves from the start, two more begin when INIT has
 * been agreed on, and further ones, up to MAX_THREADS, when calls of the source block those that are there.
 *
 * FUSE_INTERRUPT: the thread that serves the request gets a signal whose handler does nothing (no SA_RESTART), again and
 * again until the request is answered, since the first one may come just before the call. That ends what the kernel lets a
 * signal end, with EINTR: open(2) and truncate(2) that wait for a lease, locks, calls into FUSE and NFS file systems
 * underneath. It does not end a wait for a local disk: reads of cold pages, fsync(2), fallocate(2) on most file systems.
 */
import { Worker } from "node:worker_threads";
import { compiledEntry, handleByNothing, SIGRTMIN, signalThread } from "../../../../sys/src/index.ts";
import type { Agreement } from "../../core/init.ts";
import type { SharedTables } from "../../passthrough/tables.ts";
import { CrewView, crewMemory, MAX_THREADS } from "./crew.ts";
import { LockInterrupts, lockWaitMemory } from "./lock-waits.ts";
import type { LockWorkerData } from "./lock-worker.ts";
import { queueCount } from "./rings.ts";
import type { DevfuseMessage, DevfuseWorkerData } from "./worker.ts";

const INTERRUPT_SIGNAL: number = SIGRTMIN + 5;
const AGAIN_MS = 20;
/** So often it is looked for where nothing has it, before it counts as answered. */
const MISSES = 5;
/** All threads at the same requests for so long: said once. */
const HANG_MS = 1000;
/** Beside the thread that receives: the one that watches, and one that follows it. */
const BESIDE = 2;
/** A thread beside the first serves seldom, and tables are not in its heap. */
const SMALL_HEAP = { maxYoungGenerationSizeMb: 4, maxOldGenerationSizeMb: 128 };

/** What a thread beside the first one gets of it. */
export type Begun = { readonly agreement: Agreement; readonly tables: SharedTables };

export type ThreadEvents = {
  readonly onMessage: (
    message: Exclude<DevfuseMessage, { readonly type: "grow" | "interrupt" | "queue-ready" }>,
  ) => void;
  readonly onError: (error: unknown) => void;
  readonly log: (line: string) => void;
};

type ServingData = Omit<DevfuseWorkerData, "crew" | "thread" | "begun" | "queue" | "lockWaits">;

export class ServingThreads {
  readonly #data: ServingData;
  readonly #events: ThreadEvents;
  readonly #memory = crewMemory();
  readonly #view = new CrewView(this.#memory);
  readonly #interrupted = new Map<bigint, NodeJS.Timeout>();
  readonly #lockWaits: SharedArrayBuffer | null;
  readonly #lockInterrupts: LockInterrupts | null;
  #count = 0;
  #begun: Begun | null = null;
  #queuesLeft = 0;
  #onQueues: () => void = () => undefined;
  #hangTimer: NodeJS.Timeout | null = null;

  constructor(data: ServingData, events: ThreadEvents) {
    this.#data = data;
    this.#events = events;
    this.#lockWaits = data.posixLock || data.flock ? lockWaitMemory() : null;
    this.#lockInterrupts = this.#lockWaits === null ? null : new LockInterrupts(this.#lockWaits);
    handleByNothing(INTERRUPT_SIGNAL);
    this.#start();
  }

  #start(): void {
    this.#count += 1;
    this.#run(this.#count - 1, null);
  }

  /** @param queue of io_uring, in place of the device */
  #run(thread: number, queue: number | null): void {
    const entry = compiledEntry(import.meta.url, "./worker.ts");
    const crew = this.#memory;
    const lockWaits = this.#lockWaits;
    const data = this.#data;
    const workerData: DevfuseWorkerData = { ...data, crew, thread, begun: this.#begun, queue, lockWaits };
    const resourceLimits = thread === 0 || queue !== null ? {} : SMALL_HEAP;
    const worker = new Worker(entry, { workerData, trackUnmanagedFds: false, resourceLimits });
    worker.on("error", (error) => this.#events.onError(error));
    worker.on("message", (message: DevfuseMessage) => this.#receive(message));
  }

  /** The thread that tries for locks that requests wait for. */
  #startLocks(tables: SharedTables): void {
    if (this.#lockWaits === null) return;
    const workerData: LockWorkerData = { source: this.#data.source, tables, waits: this.#lockWaits };
    const entry = compiledEntry(import.meta.url, "./lock-worker.ts");
    const options = { workerData, trackUnmanagedFds: false, resourceLimits: SMALL_HEAP };
    new Worker(entry, options).on("error", (error) => this.#events.onError(error));
  }

  #receive(message: DevfuseMessage): void {
    switch (message.type) {
      case "grow":
        this.#grow();
        return;
      case "interrupt":
        this.#interrupt(message.unique);
        return;
      case "init":
        this.#begun = { agreement: message.agreement, tables: message.tables };
        for (let i = 0; i < BESIDE; i += 1) this.#grow();
        this.#startLocks(message.tables);
        if (message.flags.includes("OVER_IO_URING")) {
          // The kernel holds requests back until every queue has an entry (fuse_block_alloc()).
          this.#queuesLeft = queueCount();
          this.#onQueues = () => this.#events.onMessage(message);
          for (let queue = 0; queue < queueCount(); queue += 1) this.#run(MAX_THREADS + queue, queue);
          return;
        }
        break;
      case "queue-ready":
        this.#queuesLeft -= 1;
        if (this.#queuesLeft === 0) this.#onQueues();
        return;
    }
    this.#events.onMessage(message);
  }

  #grow(): void {
    if (!this.#data.isAlone && this.#count < MAX_THREADS) this.#start();
    else if (this.#hangTimer === null) this.#watchForHang();
  }

  /** For as long as no thread is left to take over. */
  #watchForHang(): void {
    let before: readonly number[] | null = null;
    let isSaid = false;
    this.#hangTimer = setInterval(() => {
      const turns = this.#view.blockedTurns(this.#count);
      const isHang = turns !== null && before !== null && turns.every((turn, i) => turn === before?.[i]);
      if (isHang && !isSaid) {
        this.#events.log(
          `all ${this.#count} threads wait in calls of the source; nothing is served until one returns`,
        );
      }
      isSaid = isHang;
      before = turns;
      if (this.#view.areAllActive(this.#count)) return;
      clearInterval(this.#hangTimer ?? undefined);
      this.#hangTimer = null;
    }, HANG_MS);
    this.#hangTimer.unref();
  }

  #interrupt(unique: bigint): void {
    if (this.#interrupted.has(unique)) return;
    const signal = (): boolean =>
      this.#view.whileServing(unique, (tid) => signalThread(tid, INTERRUPT_SIGNAL));
    const isWaitEnded = (): boolean => this.#lockInterrupts?.interrupt(unique) ?? false;
    if (isWaitEnded()) return;
    if (!signal()) this.#view.mail(unique);
    // A request may just have been received, or be on its way to where it waits.
    let misses = 0;
    const timer = setInterval(() => {
      const isEnded = isWaitEnded();
      if (!isEnded && signal()) return;
      if (!isEnded) this.#view.mail(unique);
      misses += 1;
      if (!isEnded && misses < MISSES) return;
      clearInterval(timer);
      this.#interrupted.delete(unique);
    }, AGAIN_MS);
    timer.unref();
    this.#interrupted.set(unique, timer);
  }
}
