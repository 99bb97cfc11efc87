/**
 * SETUPMAPPING and REMOVEMAPPING for the threads that serve: the window and its table are the main thread's, which answers through
 * shared memory. The thread waits; it is inside the gate, so it gives up where memory or a ring is wanted back.
 */
import type { DaxService } from "../../dax/mappings.ts";
import type { MappingRequest, Removal } from "../../dax/table.ts";
import { failure } from "../../fs/errors.ts";
import type { NodeId } from "../../fs/filesystem.ts";
import { MAX_THREADS } from "../devfuse/crew.ts";
import type { HandedFile, OpenDescriptor } from "./handed-files.ts";
import type { LongFilesMount } from "./long-files.ts";

/**
 * What the window is asked for. `of`: which file that is, as the thread has opened it (null: the window opens it). `file`: the
 * window's from here on; null as long as it has not asked for it.
 */
export type SetupRequest = {
  readonly kind: "setup";
  readonly request: MappingRequest;
  readonly of: OpenDescriptor | null;
  readonly file: HandedFile | null;
};

/** What the main thread is asked. Answered once each, by `answerTo`. */
export type WindowRequest = { readonly type: "window"; readonly thread: number; readonly count: number } & (
  | SetupRequest
  | { readonly kind: "remove"; readonly removals: readonly Removal[] }
  | { readonly kind: "remove-all" }
  /** The guest is about to learn that a file is longer than what it has mapped of it. */
  | { readonly kind: "grown"; readonly node: NodeId }
  /** The descriptor by which a file is guarded. */
  | { readonly kind: "open"; readonly node: NodeId }
);

/** In place of an errno or a descriptor: the window does not have this file, and is to be asked again with it. */
export const WANTS_FILE = -2;

/** An errno, or 0 and what was asked for. */
export type WindowAnswer = { readonly errno: number; readonly fd?: number };

/** Of the window, for those who ask. */
export type RemoteAnswers = {
  readonly memory: SharedArrayBuffer;
  /** Of ShortMappings. */
  readonly short: SharedArrayBuffer;
  readonly alignmentBytes: bigint;
  /** The guest's opens go by `guardedDescriptor`. */
  readonly opensByGuard: boolean;
  /** From which files for the window are lent; null: from nowhere. */
  readonly longFiles: LongFilesMount | null;
};

/** Of the thread that serves. */
export type MappingsPorts = {
  readonly post: (request: WindowRequest) => void;
  readonly open: (node: NodeId) => OpenDescriptor;
  readonly lend: (source: OpenDescriptor) => HandedFile;
  readonly close: (source: OpenDescriptor) => void;
};

/** Words of each thread: the request that was answered last, and its errno. */
const ANSWERED = 0;
const ERRNO = 1;
const DESCRIPTOR = 2;
const THREAD_WORDS = 16;
/** Above all bounds of the main thread's own. */
const PATIENCE_MS = 60_000;

/** Words of ShortMappings. */
const VERSION = 0;
const COUNT = 1;
const NODES = 2;

export function remoteAnswersMemory(): SharedArrayBuffer {
  return new SharedArrayBuffer(4 * THREAD_WORDS * MAX_THREADS);
}

/** Nodes with mappings that are shorter than the guest asked for. Written by the main thread. */
export class ShortMappings {
  /** A version, odd while the list is written; how many nodes; their numbers. */
  readonly #words: BigInt64Array;

  static memory(mappings: number): SharedArrayBuffer {
    return new SharedArrayBuffer(8 * (NODES + mappings));
  }

  constructor(memory: SharedArrayBuffer) {
    this.#words = new BigInt64Array(memory);
  }

  set(nodes: readonly NodeId[]): void {
    const words = this.#words;
    Atomics.add(words, VERSION, 1n);
    for (const [i, node] of nodes.entries()) Atomics.store(words, NODES + i, node);
    Atomics.store(words, COUNT, BigInt(nodes.length));
    Atomics.add(words, VERSION, 1n);
  }

  clear(): void {
    this.set([]);
  }

  /** Whether it may have: of a list that is written meanwhile nothing is certain. */
  mayHave(node: NodeId): boolean {
    const words = this.#words;
    const version = Atomics.load(words, VERSION);
    if ((version & 1n) !== 0n) return true;
    const end = NODES + Number(Atomics.load(words, COUNT));
    for (let i = NODES; i < end; i += 1) if (Atomics.load(words, i) === node) return true;
    return Atomics.load(words, VERSION) !== version;
  }
}

/** By the main thread. */
export function answerTo(
  memory: SharedArrayBuffer,
  { thread, count }: WindowRequest,
  { errno, fd = -1 }: WindowAnswer,
): void {
  const words = new Int32Array(memory);
  const at = thread * THREAD_WORDS;
  Atomics.store(words, at + ERRNO, errno);
  Atomics.store(words, at + DESCRIPTOR, fd);
  Atomics.store(words, at + ANSWERED, count);
  Atomics.notify(words, at + ANSWERED);
}

export class RemoteMappings implements DaxService {
  readonly alignmentBytes: bigint;
  readonly opensByGuard: boolean;
  readonly #words: Int32Array;
  readonly #short: ShortMappings;
  readonly #thread: number;
  readonly #ports: MappingsPorts;
  #count = 0;

  constructor(
    { memory, short, alignmentBytes, opensByGuard }: RemoteAnswers,
    thread: number,
    ports: MappingsPorts,
  ) {
    this.#words = new Int32Array(memory);
    this.#short = new ShortMappings(short);
    this.alignmentBytes = alignmentBytes;
    this.opensByGuard = opensByGuard;
    this.#thread = thread;
    this.#ports = ports;
    this.#count = Atomics.load(this.#words, thread * THREAD_WORDS + ANSWERED);
  }

  setup(request: MappingRequest): void {
    if (this.opensByGuard) {
      this.#setup({ kind: "setup", request, of: null, file: null });
      return;
    }
    const { open, lend, close } = this.#ports;
    // Of a file that the window has, too: where its file system is dead by now, the guest gets the error, and not the VMM a
    // mapping that is its end.
    const of = open(request.node);
    let isHanded = false;
    try {
      if (this.#setup({ kind: "setup", request, of, file: null }) !== WANTS_FILE) return;
      const file = lend(of);
      isHanded = true;
      if (this.#setup({ kind: "setup", request, of, file }) === WANTS_FILE) throw failure("EIO");
    } finally {
      if (!isHanded) close(of);
    }
  }

  #setup(request: SetupRequest): number {
    return this.#ask((head) => ({ ...head, ...request }));
  }

  remove(removals: readonly Removal[]): void {
    this.#ask((head) => ({ ...head, kind: "remove", removals }));
  }

  removeAll(): void {
    this.#ask((head) => ({ ...head, kind: "remove-all" }));
  }

  /** Before the guest learns how long a file is. Returns when what it may touch then is mapped, if it can be. */
  mayHaveGrown(node: NodeId): void {
    if (this.#short.mayHave(node)) this.#ask((head) => ({ ...head, kind: "grown", node }));
  }

  /** The descriptor of the file that its guard has: lent. */
  guardedDescriptor(node: NodeId): number {
    return this.#ask((head) => ({ ...head, kind: "open", node }));
  }

  #ask(
    make: (head: {
      readonly type: "window";
      readonly thread: number;
      readonly count: number;
    }) => WindowRequest,
  ): number {
    const at = this.#thread * THREAD_WORDS;
    const before = Atomics.load(this.#words, at + ANSWERED);
    this.#count = (before + 1) | 0;
    this.#ports.post(make({ type: "window", thread: this.#thread, count: this.#count }));
    Atomics.wait(this.#words, at + ANSWERED, before, PATIENCE_MS);
    if (Atomics.load(this.#words, at + ANSWERED) !== this.#count) throw failure("EIO");
    const errno = Atomics.load(this.#words, at + ERRNO);
    if (errno === WANTS_FILE) return WANTS_FILE;
    if (errno !== 0) throw failure(errno);
    return Atomics.load(this.#words, at + DESCRIPTOR);
  }
}
