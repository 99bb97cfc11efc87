/**
 * Requests that wait for a lock of another owner (FUSE_SETLKW), in shared memory: threads that serve enter them, one thread
 * tries for them and answers (lock-worker.ts), the main thread says which are interrupted.
 *
 * No thread waits in fcntl(2) or flock(2). A lock that is waited for is given back by a request, often of the same mount:
 * with as many waiters as threads none would be left to serve it. So the waiting thread tries again: at once after each
 * request that gives a lock back, in the order in which they came, and for locks that the host gives back after an eighth
 * of the time that the request has waited, at most MAX_DELAY_MS. As in the kernel, who waits has no right before those who
 * come later.
 */
import { F_UNLCK, files } from "../../../../sys/src/index.ts";
import { offsetsOf, sizeOf } from "../../abi/layout.ts";
import { FileSystemError, failure } from "../../fs/errors.ts";
import type { FileHandle, FileLock, FileSystem, LockOwner } from "../../fs/filesystem.ts";
import type { LockWait, LockWaits } from "../../fs/lock-waits.ts";

/** More are ENOLCK. */
export const MAX_LOCK_WAITS = 1024;
const MIN_DELAY_MS = 2;
const MAX_DELAY_MS = 100;
const DELAY_SHARE = 8;

/** Words of the head: counts up with each cause to try again; how many wait; tickets given out. */
const WAKE = 0;
const WAITING = 1;
const TICKETS = 2;
const HEAD_WORDS = 16;
/** Words of a request; those from WIDE on are of 64 bits. */
const STATE = 0;
const TICKET = 1;
const DEVICE = 2;
const KIND = 3;
const TYPE = 4;
const PID = 5;
const WIDE = 8;
/** `interrupted`: the id of the request that is to end; the slot may be another one's by then. No request has the id 0. */
const wide = { unique: 0, handle: 1, owner: 2, start: 3, end: 4, interrupted: 5 } as const;
const SLOT_WORDS = 24;
const state = { free: 0, entering: 1, waiting: 2 } as const;
const kinds = ["posix", "flock"] as const;

export function lockWaitMemory(): SharedArrayBuffer {
  return new SharedArrayBuffer(4 * (HEAD_WORDS + MAX_LOCK_WAITS * SLOT_WORDS));
}

const at = (slot: number): number => HEAD_WORDS + slot * SLOT_WORDS;

class Slots {
  readonly words: Int32Array;
  readonly #wide: BigUint64Array;

  constructor(memory: SharedArrayBuffer) {
    this.words = new Int32Array(memory);
    this.#wide = new BigUint64Array(memory);
  }

  get waiting(): number {
    return Atomics.load(this.words, WAITING);
  }

  wake(): void {
    Atomics.add(this.words, WAKE, 1);
    Atomics.notify(this.words, WAKE);
  }

  uniqueOf(slot: number): bigint {
    return this.#get(slot, wide.unique);
  }

  interrupt(slot: number, unique: bigint): void {
    Atomics.store(this.#wide, (at(slot) + WIDE) / 2 + wide.interrupted, unique);
  }

  isInterrupted(slot: number): boolean {
    return this.#get(slot, wide.interrupted) === this.uniqueOf(slot);
  }

  #get(slot: number, field: number): bigint {
    return Atomics.load(this.#wide, (at(slot) + WIDE) / 2 + field);
  }

  fill(slot: number, { unique, device, handle, lock }: LockWait): void {
    const own = at(slot);
    const { words } = this;
    words[own + TICKET] = Atomics.add(words, TICKETS, 1);
    words[own + DEVICE] = device;
    words[own + KIND] = kinds.indexOf(lock.kind);
    words[own + TYPE] = lock.type;
    words[own + PID] = lock.pid;
    for (const [field, value] of [
      [wide.unique, unique],
      [wide.handle, handle],
      [wide.owner, lock.owner],
      [wide.start, lock.start],
      [wide.end, lock.end],
    ] as const) {
      this.#wide[(own + WIDE) / 2 + field] = value;
    }
  }

  read(slot: number): LockWait {
    const own = at(slot);
    const [kind, type, pid] = [KIND, TYPE, PID].map((word) => this.words[own + word] ?? 0);
    const lock: FileLock = {
      kind: kinds[kind ?? 0] ?? "posix",
      type: type ?? F_UNLCK,
      pid: (pid ?? 0) >>> 0,
      start: this.#get(slot, wide.start),
      end: this.#get(slot, wide.end),
      owner: this.#get(slot, wide.owner) as LockOwner,
    };
    const handle = this.#get(slot, wide.handle) as FileHandle;
    return { unique: this.uniqueOf(slot), device: this.words[own + DEVICE] ?? -1, handle, lock };
  }
}

/** The side of the threads that serve. */
export class SharedLockWaits implements LockWaits {
  readonly #slots: Slots;

  constructor(memory: SharedArrayBuffer) {
    this.#slots = new Slots(memory);
  }

  enter(wait: LockWait): boolean {
    const { words } = this.#slots;
    for (let slot = 0; slot < MAX_LOCK_WAITS; slot += 1) {
      const own = at(slot) + STATE;
      if (Atomics.compareExchange(words, own, state.free, state.entering) !== state.free) continue;
      this.#slots.fill(slot, wait);
      Atomics.add(words, WAITING, 1);
      Atomics.store(words, own, state.waiting);
      this.#slots.wake();
      return true;
    }
    return false;
  }

  released(): void {
    if (this.#slots.waiting > 0) this.#slots.wake();
  }
}

/** The main thread's side. */
export class LockInterrupts {
  readonly #slots: Slots;

  constructor(memory: SharedArrayBuffer) {
    this.#slots = new Slots(memory);
  }

  /** The request ends with EINTR, unless it is answered meanwhile. False: none with this id waits. */
  interrupt(unique: bigint): boolean {
    const { words, waiting } = this.#slots;
    if (waiting === 0) return false;
    for (let slot = 0; slot < MAX_LOCK_WAITS; slot += 1) {
      if (Atomics.load(words, at(slot) + STATE) !== state.waiting) continue;
      if (this.#slots.uniqueOf(slot) !== unique) continue;
      this.#slots.interrupt(slot, unique);
      this.#slots.wake();
      return true;
    }
    return false;
  }
}

type Waiting = { readonly slot: number; readonly sinceMs: number; dueMs: number; readonly ticket: number };

export type Trying = {
  readonly fs: Pick<FileSystem, "setLock">;
  /** Sends an answer without a body; false: the client no longer waits for it. */
  readonly answer: (wait: LockWait, errno: number) => boolean;
  readonly now: () => number;
};

/** The side of the thread that tries. */
export class LockWaitLoop {
  readonly #slots: Slots;
  readonly #trying: Trying;
  readonly #known = new Map<number, Waiting>();

  constructor(memory: SharedArrayBuffer, trying: Trying) {
    this.#slots = new Slots(memory);
    this.#trying = trying;
  }

  /** For ever. */
  run(): never {
    const { words } = this.#slots;
    let tried = Atomics.load(words, WAKE) - 1;
    for (;;) {
      const wake = Atomics.load(words, WAKE);
      const delayMs = this.round(wake !== tried);
      tried = wake;
      Atomics.wait(words, WAKE, wake, delayMs);
    }
  }

  /**
   * Tries for those that are due, or for all.
   * @returns milliseconds until the next one is due
   */
  round(isWoken: boolean): number {
    const { now } = this.#trying;
    if (isWoken) this.#learn();
    const inOrder = [...this.#known.values()].sort((one, other) => (one.ticket - other.ticket) | 0);
    for (const waiting of inOrder) {
      if (isWoken || waiting.dueMs <= now()) this.#try(waiting);
    }
    const next = Math.min(...[...this.#known.values()].map(({ dueMs }) => dueMs));
    return Math.max(0, next - now());
  }

  #learn(): void {
    const { words, waiting } = this.#slots;
    for (let slot = 0, left = waiting - this.#known.size; slot < MAX_LOCK_WAITS && left > 0; slot += 1) {
      if (this.#known.has(slot) || Atomics.load(words, at(slot) + STATE) !== state.waiting) continue;
      const sinceMs = this.#trying.now();
      const ticket = words[at(slot) + TICKET] ?? 0;
      this.#known.set(slot, { slot, sinceMs, dueMs: sinceMs, ticket });
      left -= 1;
    }
  }

  #try(waiting: Waiting): void {
    const { slot, sinceMs } = waiting;
    const wait = this.#slots.read(slot);
    const errno = this.#errnoOf(slot, wait);
    if (errno === null) {
      const delayMs = (this.#trying.now() - sinceMs) / DELAY_SHARE;
      waiting.dueMs = this.#trying.now() + Math.min(Math.max(delayMs, MIN_DELAY_MS), MAX_DELAY_MS);
      return;
    }
    this.#known.delete(slot);
    Atomics.sub(this.#slots.words, WAITING, 1);
    Atomics.store(this.#slots.words, at(slot) + STATE, state.free);
    if (this.#trying.answer(wait, errno) || errno !== 0) return;
    // Nobody knows of the lock: it would stay until the owner closes the file.
    this.#trying.fs.setLock(wait.handle, { ...wait.lock, type: F_UNLCK });
  }

  /** 0: it has its lock; null: it waits on. */
  #errnoOf(slot: number, { handle, lock }: LockWait): number | null {
    if (this.#slots.isInterrupted(slot)) return failure("EINTR").errno;
    try {
      return this.#trying.fs.setLock(handle, lock) ? 0 : null;
    } catch (error) {
      if (error instanceof FileSystemError) return error.errno;
      throw error;
    }
  }
}

const OUT = offsetsOf("fuse_out_header");
const OUT_BYTES = sizeOf("fuse_out_header");

/** Answers on the descriptor that a request came by. */
export function answerDevice({ device, unique }: LockWait, errno: number): boolean {
  const view = new DataView(new ArrayBuffer(OUT_BYTES));
  view.setUint32(OUT.len, OUT_BYTES, true);
  view.setInt32(OUT.error, errno === 0 ? 0 : -errno, true);
  view.setBigUint64(OUT.unique, unique, true);
  return files.write(device, new Uint8Array(view.buffer)) >= 0;
}
