/**
 * What the threads of a vhost-user device share: the guest's memory, its queues, and what INIT agreed on.
 *
 * The control thread writes the configuration; the serving threads copy it when its epoch has changed. Its text is JSON: it
 * changes when the driver starts or stops, and no request waits for it to be read.
 */
import type { Agreement } from "../../core/init.ts";
import type { RingLayout, RingPosition } from "../virtio/queue.ts";
import { GATE_WORDS, Gate } from "./gate.ts";

export const MAX_QUEUES = 64;
/** Regions of the guest's memory, those of the window among them (VHOST_USER_MAX_RAM_SLOTS is 512). */
export const MAX_REGIONS = 509;

const GATE = 0;
const IS_STOPPED: number = GATE + GATE_WORDS;
const IS_BROKEN: number = IS_STOPPED + 1;
const EPOCH: number = IS_BROKEN + 1;
const LENGTH: number = EPOCH + 1;
const AGREED: number = LENGTH + 1;
const AGREED_LENGTH: number = AGREED + 1;
const QUEUES: number = AGREED_LENGTH + 1;
/** A cache line each: next, used, lock, generation. */
const QUEUE_WORDS = 16;
const NEXT = 0;
const USED = 1;
const LOCK = 2;
const GENERATION = 3;
const WORDS: number = QUEUES + MAX_QUEUES * QUEUE_WORDS;
/** 100 bytes a region, 200 a queue. */
const TEXT_BYTES = 128 * 1024;
const AGREEMENT_BYTES = 16 * 1024;

export type SharedRegion = {
  readonly kind: "ram" | "window";
  readonly gpa: bigint;
  readonly lengthBytes: bigint;
  /** In this process. */
  readonly address: bigint;
};

export type SharedRing = RingLayout & {
  readonly index: number;
  readonly indirect: boolean;
  readonly generation: number;
};

export type DeviceConfiguration = {
  readonly regions: readonly SharedRegion[];
  /** Those that are started and enabled. */
  readonly rings: readonly SharedRing[];
};

function withBigints(_key: string, value: unknown): unknown {
  return typeof value === "bigint" ? { big: String(value) } : value;
}

function readBigints(_key: string, value: unknown): unknown {
  return typeof value === "object" && value !== null && "big" in value ? BigInt(String(value.big)) : value;
}

export function deviceMemory(): SharedArrayBuffer {
  return new SharedArrayBuffer(4 * WORDS + TEXT_BYTES + AGREEMENT_BYTES);
}

/** How far the device is in a ring, for all threads that serve it. */
class SharedPosition implements RingPosition {
  readonly #words: Int32Array;
  readonly #at: number;

  constructor(words: Int32Array, at: number) {
    this.#words = words;
    this.#at = at;
  }

  get next(): number {
    return this.#words[this.#at + NEXT] ?? 0;
  }

  set next(index: number) {
    this.#words[this.#at + NEXT] = index;
  }

  get used(): number {
    return this.#words[this.#at + USED] ?? 0;
  }

  set used(index: number) {
    this.#words[this.#at + USED] = index;
  }

  /** Held for the time of one chain's descriptors: some microseconds. */
  locked<T>(work: () => T): T {
    const lock = this.#at + LOCK;
    while (Atomics.compareExchange(this.#words, lock, 0, 1) !== 0) Atomics.wait(this.#words, lock, 1, 1);
    try {
      return work();
    } finally {
      Atomics.store(this.#words, lock, 0);
      Atomics.notify(this.#words, lock, 1);
    }
  }
}

export type { SharedPosition };

export class DeviceState {
  readonly gate: Gate;
  readonly #words: Int32Array;
  readonly #text: Uint8Array;
  readonly #agreement: Uint8Array;

  constructor(readonlyMemory: SharedArrayBuffer) {
    this.#words = new Int32Array(readonlyMemory, 0, WORDS);
    this.#text = new Uint8Array(readonlyMemory, 4 * WORDS, TEXT_BYTES);
    this.#agreement = new Uint8Array(readonlyMemory, 4 * WORDS + TEXT_BYTES, AGREEMENT_BYTES);
    this.gate = new Gate(this.#words, GATE);
  }

  /** The front-end has left: threads end. */
  get isStopped(): boolean {
    return Atomics.load(this.#words, IS_STOPPED) !== 0;
  }

  set isStopped(stopped: boolean) {
    Atomics.store(this.#words, IS_STOPPED, stopped ? 1 : 0);
  }

  /** The guest broke a ring: nothing is served until the queues are started anew. */
  get isBroken(): boolean {
    return Atomics.load(this.#words, IS_BROKEN) !== 0;
  }

  set isBroken(broken: boolean) {
    Atomics.store(this.#words, IS_BROKEN, broken ? 1 : 0);
  }

  /** Changes with every `configure`. */
  get epoch(): number {
    return Atomics.load(this.#words, EPOCH);
  }

  /** By the control thread alone. */
  configure(configuration: DeviceConfiguration): void {
    const bytes = Buffer.from(JSON.stringify(configuration, withBigints));
    if (bytes.length > TEXT_BYTES) throw new RangeError(`a configuration of ${bytes.length} bytes`);
    // Odd while it is written.
    Atomics.add(this.#words, EPOCH, 1);
    this.#text.set(bytes);
    Atomics.store(this.#words, LENGTH, bytes.length);
    Atomics.add(this.#words, EPOCH, 1);
  }

  configuration(): { readonly epoch: number; readonly configuration: DeviceConfiguration } {
    for (;;) {
      const { epoch } = this;
      const bytes = Buffer.from(this.#text.slice(0, Atomics.load(this.#words, LENGTH)));
      if ((epoch & 1) === 1 || epoch !== this.epoch) continue;
      const text = bytes.length === 0 ? '{"regions":[],"rings":[]}' : bytes.toString();
      return { epoch, configuration: JSON.parse(text, readBigints) as DeviceConfiguration };
    }
  }

  position(queue: number): SharedPosition {
    return new SharedPosition(this.#words, QUEUES + queue * QUEUE_WORDS);
  }

  /** Of a queue: another one when it is stopped, or memory was taken away. What was popped before is not given back. */
  generation(queue: number): number {
    return Atomics.load(this.#words, QUEUES + queue * QUEUE_WORDS + GENERATION);
  }

  /** By the control thread, with the gate to itself. */
  revoke(queue: number): void {
    Atomics.add(this.#words, QUEUES + queue * QUEUE_WORDS + GENERATION, 1);
  }

  /** Changes with every `agree`. */
  get agreed(): number {
    return Atomics.load(this.#words, AGREED);
  }

  /** What INIT agreed on, for all threads; null after DESTROY. By whoever has the gate to itself. */
  agree(agreement: Agreement | null): void {
    const bytes = Buffer.from(JSON.stringify(agreement, withBigints));
    this.#agreement.set(bytes);
    Atomics.store(this.#words, AGREED_LENGTH, bytes.length);
    Atomics.add(this.#words, AGREED, 1);
  }

  /** Inside the gate. */
  get agreement(): Agreement | null {
    const length = Atomics.load(this.#words, AGREED_LENGTH);
    if (length === 0) return null;
    const text = Buffer.from(this.#agreement.slice(0, length)).toString();
    return JSON.parse(text, readBigints) as Agreement | null;
  }
}
