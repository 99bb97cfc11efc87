/**
 * The gate between the serving threads, whose event loops never turn, and the main thread, which has the book of leases and
 * the holders' connections. Requests to the gate are messages, its answers are in shared memory. Each thread has slots of
 * its own: messages about a slot all come from one thread, in their order.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import { Postponed } from "../fs/postponed.ts";
import { keyOf, type LeaseBook } from "./lease-book.ts";
import { type FileIdentity, FREE, type GateTicket, type TruncationGate } from "./truncation-gate.ts";

/**
 * Words: truncations in progress; sizes that were posted; files with leases, by buckets of inode numbers; then a slot for each
 * open ticket.
 */
const UNDER_WAY = 0;
const POSTED = 1;
const HOLDS_AT = 2;
const BUCKETS = 256;
const SLOTS_AT: number = HOLDS_AT + BUCKETS;
/** Of one thread. */
const SLOTS = 64;
/** A slot has the number of its question, which is odd, or one more once the gate is open for that. */
const FREE_SLOT = 0;
const MAX_QUESTION = 2 ** 31 - 1;
const RETRY_MS = 1;
/** The serving thread first waits this long for the answer: most holders need less, a postponed call at least 1 ms. */
const FIRST_LOOK_MS = 0.5;

/** The bucket that counts files with leases. Files that share one ask needlessly, which costs time only. */
const bucketOf = ({ ino }: FileIdentity): number => HOLDS_AT + Number(ino % BigInt(BUCKETS));

export type GateMessage =
  | {
      readonly type: "gate-ask";
      readonly slot: number;
      readonly question: number;
      readonly file: FileIdentity;
      readonly fromBytes: bigint;
    }
  | ({ readonly type: "gate-grown"; readonly file: FileIdentity } & PostedSize)
  | ({ readonly type: "gate-done"; readonly slot: number } & PostedSize);

/**
 * `order`: a client's kernel changes the size of a file by one request after the other, so a later one's is a higher number.
 * Messages of different threads come in any order.
 */
type PostedSize = { readonly sizeBytes: bigint; readonly order: number };

/** @param threads how many may serve */
export function gateMemory(threads = 16): SharedArrayBuffer {
  return new SharedArrayBuffer(4 * (SLOTS_AT + SLOTS * threads));
}

/** A serving thread's side. */
export class CrossThreadGate implements TruncationGate {
  readonly #words: Int32Array;
  readonly #post: (message: GateMessage) => void;
  readonly #slotsAt: number;
  #question = -1;

  /** @param thread number of the serving thread, from 0 */
  constructor(memory: SharedArrayBuffer, post: (message: GateMessage) => void, thread = 0) {
    this.#words = new Int32Array(memory);
    this.#post = post;
    this.#slotsAt = SLOTS_AT + thread * SLOTS;
  }

  ask(file: FileIdentity, fromBytes: bigint): GateTicket {
    // Count first, then look: a lease is granted only when no truncation is in progress that has not seen it.
    Atomics.add(this.#words, UNDER_WAY, 1);
    if (Atomics.load(this.#words, bucketOf(file)) === 0) return FREE;
    for (let slot = this.#slotsAt; slot < this.#slotsAt + SLOTS; slot += 1) {
      if (Atomics.load(this.#words, slot) !== FREE_SLOT) continue;
      this.#question = (this.#question + 2) & MAX_QUESTION;
      const question = this.#question;
      Atomics.store(this.#words, slot, question);
      this.#post({ type: "gate-ask", slot, question, file, fromBytes });
      Atomics.wait(this.#words, slot, question, FIRST_LOOK_MS);
      return slot;
    }
    Atomics.sub(this.#words, UNDER_WAY, 1);
    throw new Postponed(RETRY_MS, () => undefined);
  }

  isHeld(file: FileIdentity): boolean {
    return Atomics.load(this.#words, bucketOf(file)) > 0;
  }

  grown(file: FileIdentity, sizeBytes: bigint): void {
    this.#post({ type: "gate-grown", file, ...this.#size(sizeBytes) });
  }

  isOpen(ticket: GateTicket): boolean {
    if (ticket === FREE) return true;
    const word = Atomics.load(this.#words, ticket);
    return word !== FREE_SLOT && (word & 1) === 0;
  }

  done(ticket: GateTicket, sizeBytes: bigint): void {
    if (ticket !== FREE) {
      Atomics.store(this.#words, ticket, FREE_SLOT);
      this.#post({ type: "gate-done", slot: ticket, ...this.#size(sizeBytes) });
    }
    Atomics.sub(this.#words, UNDER_WAY, 1);
  }

  #size(sizeBytes: bigint): PostedSize {
    return { sizeBytes, order: Atomics.add(this.#words, POSTED, 1) };
  }
}

/** The main thread's side. */
export class GateKeeper {
  readonly #words: Int32Array;
  readonly #book: LeaseBook;
  readonly #tickets = new Map<number, { readonly ticket: GateTicket; readonly file: FileIdentity }>();
  /** Of files with leases, the latest. */
  readonly #sizes = new Map<string, PostedSize>();

  constructor(memory: SharedArrayBuffer, book: LeaseBook) {
    this.#words = new Int32Array(memory);
    this.#book = book;
  }

  receive(message: GateMessage): void {
    switch (message.type) {
      case "gate-grown":
        this.#book.grown(message.file, this.#latest(message.file, message));
        return;
      case "gate-ask": {
        const { slot, question, file } = message;
        // One that was given up leaves its slot to others before its holders have let go.
        const open = (): void => {
          Atomics.compareExchange(this.#words, slot, question, question + 1);
          Atomics.notify(this.#words, slot);
        };
        const ticket = this.#book.ask(file, message.fromBytes, open);
        if (ticket === FREE) open();
        this.#tickets.set(slot, { ticket, file });
        return;
      }
      case "gate-done": {
        const asked = this.#tickets.get(message.slot);
        this.#tickets.delete(message.slot);
        if (asked !== undefined) this.#book.done(asked.ticket, this.#latest(asked.file, message));
        return;
      }
      default:
        message satisfies never;
    }
  }

  #latest(file: FileIdentity, { sizeBytes, order }: PostedSize): bigint {
    if (!this.#book.isHeld(file)) return sizeBytes;
    const known = this.#sizes.get(keyOf(file));
    if (known !== undefined && ((order - known.order) | 0) < 0) return known.sizeBytes;
    this.#sizes.set(keyOf(file), { sizeBytes, order });
    return sizeBytes;
  }

  /** Call after a lease was entered in the book; resolves when every truncation in progress has seen it. */
  async beforeGrant(): Promise<void> {
    while (Atomics.load(this.#words, UNDER_WAY) > 0) await nextTurn();
  }

  /** A file has got its first lease, or has lost its last one. */
  heldChanged(file: FileIdentity, change: 1 | -1): void {
    Atomics.add(this.#words, bucketOf(file), change);
    if (change < 0) this.#sizes.delete(keyOf(file));
  }
}
