/**
 * A vhost-user device, seen from the main thread: the thread of the main socket, and the threads that serve, which begin with each
 * front-end and end with it.
 *
 * The first thread serves from the start, two more begin when INIT has been agreed on, and further ones when calls of the source
 * block those that are there, as on /dev/fuse (devfuse/threads.ts). What a front-end leaves behind is put away before the next
 * one is heard: nodes, open files, mappings, its memory.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import {
  compiledEntry,
  epollAdd,
  epollCreate,
  eventfd,
  handleByNothing,
  SIGRTMIN,
  shutdownSocket,
  signalEventfd,
  signalThread,
} from "../../../../sys/src/index.ts";
import { PassthroughFileSystem } from "../../passthrough/passthrough.ts";
import { CrewView, crewMemory, MAX_THREADS } from "../devfuse/crew.ts";
import { virtioFsConfig } from "../virtio/virtio-fs.ts";
import type { ControlMessage, ControlThreadData } from "./control-thread.ts";
import { LentFiles } from "./lent-files.ts";
import type { VhostUserSource } from "./options.ts";
import { DeviceState, deviceMemory } from "./state.ts";
import { MAX_MAPPINGS, type WindowOwner } from "./window-owner.ts";
import type { VhostMessage, VhostWorkerData } from "./worker.ts";

const INTERRUPT_SIGNAL: number = SIGRTMIN + 5;
/** Beside the thread that receives: the one that watches, and one that follows it. */
const BESIDE = 2;
const SMALL_HEAP = { maxYoungGenerationSizeMb: 4, maxOldGenerationSizeMb: 128 };
/** A tag of the epoll set that no queue has. */
const WAKE = 0xffff;
/** How long a request may stay in a call of the source after its front-end has left. */
const END_BOUND_MS = 10_000;
/** Between two wake-ups of threads that are to end. */
const WAKE_MS = 5;

export type HostEvents = {
  readonly onFrontEnd: (pid: number) => void;
  readonly onInit: (agreed: { readonly minor: number; readonly flags: readonly string[] }) => void;
  /** It has left, and nothing of it is left. */
  readonly onGone: (reason: string, isFault: boolean) => void;
  /** Nothing can be served any more. */
  readonly onError: (error: unknown) => void;
  readonly log: (line: string) => void;
};

export type HostOptions = {
  readonly source: VhostUserSource;
  /** A listening socket, or a connected one. */
  readonly socket: number;
  readonly isConnected: boolean;
  /** Most threads that serve at once. */
  readonly threads: number;
  readonly requestQueues: number;
  /** null: no DAX. */
  readonly window: WindowOwner | null;
  readonly events: HostEvents;
};

type ServingWorker = {
  readonly worker: Worker;
  /** Resolves when it has loaded its modules, or has ended. */
  readonly begun: Promise<void>;
};

/** What lives as long as a front-end. */
type Service = {
  readonly crew: SharedArrayBuffer;
  readonly view: CrewView;
  readonly socket: number;
  readonly callFds: readonly number[];
  readonly errorFds: readonly number[];
  readonly workers: ServingWorker[];
  /** Of them, those that load their modules. */
  loading: number;
};

export class VhostUserHost {
  readonly #options: HostOptions;
  readonly #memory = deviceMemory();
  readonly #state = new DeviceState(this.#memory);
  readonly #clean = new SharedArrayBuffer(4);
  readonly #epoll = epollCreate();
  readonly #wakeFd = eventfd();
  readonly #fs: PassthroughFileSystem;
  #service: Service | null = null;

  /** Throws an Error that says what is wrong with the source. */
  constructor(options: HostOptions) {
    this.#options = options;
    const { source } = options;
    this.#fs = new PassthroughFileSystem(source.path, {
      readOnly: source.readOnly,
      fileHandles: source.fileHandles,
      crossMounts: source.announceSubmounts,
    });
    options.window?.attach(this.#fs);
    handleByNothing(INTERRUPT_SIGNAL);
    epollAdd(this.#epoll, this.#wakeFd, WAKE);
  }

  /** The source, over the tables of all threads. */
  get fs(): PassthroughFileSystem {
    return this.#fs;
  }

  start(): void {
    const { socket, isConnected, window, source, requestQueues } = this.#options;
    const workerData: ControlThreadData = {
      socket,
      isConnected,
      state: this.#memory,
      lent: window?.lent ?? LentFiles.memory(MAX_MAPPINGS),
      config: source.tag === null ? null : virtioFsConfig(source.tag, requestQueues),
      sharedMemory: window === null ? [] : [window.sizeBytes],
      epoll: this.#epoll,
      wakeFd: this.#wakeFd,
      clean: this.#clean,
    };
    const entry = compiledEntry(import.meta.url, "./control-thread.ts");
    const worker = new Worker(entry, { workerData, trackUnmanagedFds: false, resourceLimits: SMALL_HEAP });
    worker.on("error", (error) => this.#options.events.onError(error));
    worker.on("message", (message: ControlMessage) => this.#receive(message));
  }

  /** Ends the connection, if there is one. */
  disconnect(): void {
    if (this.#service !== null) shutdownSocket(this.#service.socket);
  }

  #receive(message: ControlMessage): void {
    const { events, window } = this.#options;
    switch (message.type) {
      case "front-end": {
        const crew = crewMemory();
        const { socket, callFds, errorFds } = message;
        this.#service = {
          crew,
          view: new CrewView(crew),
          socket,
          callFds,
          errorFds,
          workers: [],
          loading: 0,
        };
        window?.frontEnd(message.pid);
        events.onFrontEnd(message.pid);
        this.#grow();
        return;
      }
      case "channel":
        window?.opened(message.fd);
        return;
      case "hurry":
        this.#hurry();
        return;
      case "front-end-gone":
        this.#gone().then(
          () => events.onGone(message.reason, message.isFault),
          (error) => events.onError(error),
        );
        return;
      case "socket-failed":
        events.onError(new Error(message.reason));
        return;
      default:
        message satisfies never;
    }
  }

  #serve(service: Service, message: VhostMessage): void {
    const { events, window } = this.#options;
    // Else its front-end has left since.
    const isServed = service === this.#service;
    switch (message.type) {
      case "init":
        // A guest that was reset agrees again, with the threads that are there.
        if (isServed && service.workers.length === 1) for (let i = 0; i < BESIDE; i += 1) this.#grow();
        events.onInit(message);
        return;
      case "begun":
        service.loading -= 1;
        return;
      case "grow":
        // Who asked may have gone to rest again; and a thread that loads its modules takes a CPU from those that serve.
        if (isServed && service.view.resting + service.loading < BESIDE) this.#grow();
        return;
      case "broken":
        events.log(`the guest broke queue ${message.queue}: ${message.reason}; it must reset the device`);
        return;
      case "window":
        window?.serve(message);
        return;
      default:
        message satisfies never;
    }
  }

  #grow(): void {
    const service = this.#service;
    if (service === null || service.workers.length >= Math.min(this.#options.threads, MAX_THREADS)) return;
    const thread = service.workers.length;
    const workerData: VhostWorkerData = {
      source: this.#options.source,
      tables: this.#fs.tables,
      state: this.#memory,
      crew: service.crew,
      thread,
      epoll: this.#epoll,
      callFds: service.callFds,
      errorFds: service.errorFds,
      window: this.#options.window?.answers ?? null,
    };
    const entry = compiledEntry(import.meta.url, "./worker.ts");
    const resourceLimits = thread === 0 ? {} : SMALL_HEAP;
    const worker = new Worker(entry, { workerData, trackUnmanagedFds: false, resourceLimits });
    worker.on("error", (error) => this.#options.events.onError(error));
    worker.on("message", (message: VhostMessage) => this.#serve(service, message));
    // Its first message is that it has begun.
    const begun = new Promise<void>((resolve) => {
      worker.once("message", () => resolve());
      worker.once("exit", () => resolve());
    });
    service.workers.push({ worker, begun });
    service.loading += 1;
  }

  /**
   * A signal wakes one thread that sleeps in epoll_wait(2), which then ends; so each is woken from here, and again where the
   * signal met one that had ended already. One that is terminated while it still loads its modules leaves their descriptors,
   * and its event loop's, behind.
   */
  async #terminated(workers: readonly ServingWorker[]): Promise<void> {
    await Promise.all(workers.map(({ begun }) => begun));
    for (const _ of workers) signalEventfd(this.#wakeFd);
    const again = setInterval(() => signalEventfd(this.#wakeFd), WAKE_MS);
    try {
      await Promise.all(workers.map(({ worker }) => worker.terminate()));
    } finally {
      clearInterval(again);
    }
  }

  /** Calls of the source that a signal ends come back with EINTR. */
  #hurry(): void {
    for (const tid of this.#service?.view.serving() ?? []) {
      try {
        signalThread(tid, INTERRUPT_SIGNAL);
      } catch {
        // It has just ended.
      }
    }
  }

  /** Ends the serving threads, and gives back what the front-end held. */
  async #gone(): Promise<void> {
    const service = this.#service;
    this.#service = null;
    if (service === null) return;
    const { window, log } = { window: this.#options.window, log: this.#options.events.log };
    const opening = this.#state.gate.close();
    window?.closed();
    const deadlineMs = performance.now() + END_BOUND_MS;
    while (!this.#state.gate.isEmpty) {
      if (performance.now() > deadlineMs) {
        throw new Error(
          `a request of the front-end that left has been in a call of the source for ${END_BOUND_MS} ms`,
        );
      }
      for (const tid of service.view.serving()) signalThread(tid, INTERRUPT_SIGNAL);
      await sleep(2);
    }
    await this.#terminated(service.workers);
    opening();
    this.#state.agree(null);
    this.#fs.reset();
    await window?.emptied();
    const count = new Int32Array(this.#clean);
    const before = Atomics.add(count, 0, 1) + 1;
    Atomics.notify(count, 0);
    // The control thread puts its own part away.
    for (const end = performance.now() + END_BOUND_MS; Atomics.load(count, 0) === before; await sleep(1)) {
      if (performance.now() > end) log("the thread of the main socket does not come back");
      if (performance.now() > end) return;
    }
  }
}
