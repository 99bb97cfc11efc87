/**
 * SETUPMAPPING and REMOVEMAPPING for the threads that serve: the window and its table are the main thread's, which answers through
 * shared memory. The thread waits; it is inside the gate, so it gives up where memory or a ring is wanted back.
 */
import type { DaxService, MappingRequest, Removal } from "../../dax/mappings.ts";
import { failure } from "../../fs/errors.ts";
import { MAX_THREADS } from "../devfuse/crew.ts";

/** What the main thread is asked. Answered once each, by `answerTo`. */
export type WindowRequest = { readonly type: "window"; readonly thread: number; readonly count: number } & (
  | { readonly kind: "setup"; readonly request: MappingRequest }
  | { readonly kind: "remove"; readonly removals: readonly Removal[] }
  | { readonly kind: "remove-all" }
);

/** Of the window, for those who ask. */
export type RemoteAnswers = {
  readonly memory: SharedArrayBuffer;
  readonly alignmentBytes: bigint;
};

/** Words of each thread: the request that was answered last, and its errno. */
const ANSWERED = 0;
const ERRNO = 1;
const THREAD_WORDS = 16;
/** Above all bounds of the main thread's own. */
const PATIENCE_MS = 60_000;

export function remoteAnswersMemory(): SharedArrayBuffer {
  return new SharedArrayBuffer(4 * THREAD_WORDS * MAX_THREADS);
}

/** By the main thread. */
export function answerTo(memory: SharedArrayBuffer, { thread, count }: WindowRequest, errno: number): void {
  const words = new Int32Array(memory);
  const at = thread * THREAD_WORDS;
  Atomics.store(words, at + ERRNO, errno);
  Atomics.store(words, at + ANSWERED, count);
  Atomics.notify(words, at + ANSWERED);
}

export class RemoteMappings implements DaxService {
  readonly alignmentBytes: bigint;
  readonly #words: Int32Array;
  readonly #thread: number;
  readonly #post: (request: WindowRequest) => void;
  #count = 0;

  constructor(
    { memory, alignmentBytes }: RemoteAnswers,
    thread: number,
    post: (request: WindowRequest) => void,
  ) {
    this.#words = new Int32Array(memory);
    this.alignmentBytes = alignmentBytes;
    this.#thread = thread;
    this.#post = post;
    this.#count = Atomics.load(this.#words, thread * THREAD_WORDS + ANSWERED);
  }

  setup(request: MappingRequest): void {
    this.#ask((head) => ({ ...head, kind: "setup", request }));
  }

  remove(removals: readonly Removal[]): void {
    this.#ask((head) => ({ ...head, kind: "remove", removals }));
  }

  removeAll(): void {
    this.#ask((head) => ({ ...head, kind: "remove-all" }));
  }

  #ask(
    make: (head: {
      readonly type: "window";
      readonly thread: number;
      readonly count: number;
    }) => WindowRequest,
  ): void {
    const at = this.#thread * THREAD_WORDS;
    const before = Atomics.load(this.#words, at + ANSWERED);
    this.#count = (before + 1) | 0;
    this.#post(make({ type: "window", thread: this.#thread, count: this.#count }));
    Atomics.wait(this.#words, at + ANSWERED, before, PATIENCE_MS);
    if (Atomics.load(this.#words, at + ANSWERED) !== this.#count) throw failure("EIO");
    const errno = Atomics.load(this.#words, at + ERRNO);
    if (errno !== 0) throw failure(errno);
  }
}
