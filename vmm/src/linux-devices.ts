/**
 * What the threads of a Linux guest's vCPUs share with each other and with the machine's owner: the devices' lock and
 * state, the console's bytes, and a mailbox for each vCPU, by which it asks the owner for a device's register.
 */
import { PORT_WORDS } from "./arch/index.ts";
import { MAX_VCPUS } from "./guest-input.ts";

/** A device with registers in memory, as the machine's owner implements it (virtio by MMIO, say). */
export interface MmioDevice {
  read(offset: number, size: number): bigint;
  write(offset: number, size: number, value: bigint): void;
  /** The level of its interrupt line. */
  irqPending(): boolean;
  /** Does what is due without an access. Returns the milliseconds until there is more to do; null: until an access. */
  work?(): number | null;
}

const RING_BYTES = 64 * 1024;
const MAILBOX_WORDS = 8;

/** Words before the console's bytes. */
const at = {
  lock: 0,
  ports: 1,
  /** Bytes written and read so far, modulo 2^32. */
  ringHead: 1 + PORT_WORDS,
  ringTail: 2 + PORT_WORDS,
  lost: 3 + PORT_WORDS,
  /** The access that the owner watches for a loop: its number, 0 for none; and how many there have been. */
  pending: 4 + PORT_WORDS,
  begun: 5 + PORT_WORDS,
  mailboxes: 6 + PORT_WORDS,
} as const;
const WORDS = at.mailboxes + MAILBOX_WORDS * MAX_VCPUS;

export function createLinuxDevices(): SharedArrayBuffer {
  return new SharedArrayBuffer(4 * WORDS + RING_BYTES);
}

/** Ports and console: state under one lock, as QEMU's big lock. */
export class SharedPorts {
  readonly words: Int32Array;
  readonly #lock: Int32Array;

  constructor(devices: SharedArrayBuffer) {
    this.#lock = new Int32Array(devices, 0, 1);
    this.words = new Int32Array(devices, 4 * at.ports, PORT_WORDS);
  }

  /** Held for the time of one access: no thread blocks in it. */
  locked<T>(work: () => T): T {
    while (Atomics.compareExchange(this.#lock, 0, 0, 1) !== 0) Atomics.wait(this.#lock, 0, 1, 1);
    try {
      return work();
    } finally {
      Atomics.store(this.#lock, 0, 0);
      Atomics.notify(this.#lock, 0, 1);
    }
  }
}

/** The console's bytes, in the order in which they were sent. Written under the devices' lock, read by the owner. */
export class ConsoleRing {
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;

  constructor(devices: SharedArrayBuffer) {
    this.#words = new Int32Array(devices, 0, WORDS);
    this.#bytes = new Uint8Array(devices, 4 * WORDS, RING_BYTES);
  }

  /** A byte that the owner was too slow for is lost, and counted. */
  write(byte: number): void {
    const head = Atomics.load(this.#words, at.ringHead);
    const used = (head - Atomics.load(this.#words, at.ringTail)) >>> 0;
    if (used >= RING_BYTES) {
      Atomics.add(this.#words, at.lost, 1);
      return;
    }
    this.#bytes[(head >>> 0) % RING_BYTES] = byte;
    Atomics.store(this.#words, at.ringHead, (head + 1) | 0);
  }

  get lostBytes(): number {
    return Atomics.load(this.#words, at.lost);
  }

  get isEmpty(): boolean {
    return Atomics.load(this.#words, at.ringHead) === Atomics.load(this.#words, at.ringTail);
  }

  /** What has come since the last call. */
  take(): Uint8Array {
    const head = Atomics.load(this.#words, at.ringHead);
    const tail = Atomics.load(this.#words, at.ringTail);
    const count = (head - tail) >>> 0;
    const bytes = Uint8Array.from(
      { length: count },
      (_, i) => this.#bytes[((tail >>> 0) + i) % RING_BYTES] ?? 0,
    );
    Atomics.store(this.#words, at.ringTail, head);
    return bytes;
  }
}

/** The access that the owner waits for: set by the owner, sampled by the vCPUs' watchdogs. */
export class WatchedAccess {
  readonly #words: Int32Array;

  constructor(devices: SharedArrayBuffer) {
    this.#words = new Int32Array(devices, 0, WORDS);
  }

  /** The guest has begun an access, or (null) has none under way. */
  set(isPending: boolean): void {
    const begun = isPending ? Atomics.add(this.#words, at.begun, 1) + 1 : 0;
    Atomics.store(this.#words, at.pending, begun);
  }

  get pending(): number {
    return Atomics.load(this.#words, at.pending);
  }

  get begun(): number {
    return Atomics.load(this.#words, at.begun);
  }
}

const mail = { state: 0, device: 1, offset: 2, size: 3, isWrite: 4, low: 5, high: 6 } as const;
const mailState = { idle: 0, asked: 1, answered: 2 } as const;
/** How often a vCPU that waits for an answer looks whether the machine is still wanted. */
const LOOK_MS = 20;

/** In place of a device: the guest's doorbell port, for its own program. */
export const DOORBELL = 255;

export type RegisterAccess = {
  readonly device: number;
  readonly offset: number;
  readonly size: number;
  /** null: a read. */
  readonly value: bigint | null;
};

/** One vCPU's question to the owner, and the answer. The vCPU waits as long as the owner likes, or until the machine stops. */
export class Mailbox {
  readonly #words: Int32Array;

  constructor(devices: SharedArrayBuffer, cpu: number) {
    this.#words = new Int32Array(devices, 4 * (at.mailboxes + MAILBOX_WORDS * cpu), MAILBOX_WORDS);
  }

  #set(name: keyof typeof mail, value: number): void {
    Atomics.store(this.#words, mail[name], value);
  }

  #get(name: keyof typeof mail): number {
    return Atomics.load(this.#words, mail[name]);
  }

  get #value(): bigint {
    return (BigInt(this.#get("high") >>> 0) << 32n) | BigInt(this.#get("low") >>> 0);
  }

  #setValue(value: bigint): void {
    this.#set("low", Number(BigInt.asIntN(32, value)));
    this.#set("high", Number(BigInt.asIntN(32, value >> 32n)));
  }

  /**
   * By the vCPU's thread. `send` must reach the owner. Returns the register's value (0 for a write), or null if the
   * machine stopped before there was an answer.
   */
  ask(access: RegisterAccess, send: () => void, isWanted: () => boolean): bigint | null {
    this.#set("device", access.device);
    this.#set("offset", access.offset);
    this.#set("size", access.size);
    this.#set("isWrite", access.value === null ? 0 : 1);
    this.#setValue(access.value ?? 0n);
    this.#set("state", mailState.asked);
    send();
    while (this.#get("state") === mailState.asked) {
      Atomics.wait(this.#words, mail.state, mailState.asked, LOOK_MS);
      if (this.#get("state") === mailState.asked && !isWanted()) return null;
    }
    const value = this.#value;
    this.#set("state", mailState.idle);
    return value;
  }

  /** By the owner: what is asked, or null. */
  asked(): RegisterAccess | null {
    if (this.#get("state") !== mailState.asked) return null;
    return {
      device: this.#get("device"),
      offset: this.#get("offset"),
      size: this.#get("size"),
      value: this.#get("isWrite") === 1 ? this.#value : null,
    };
  }

  /** By the owner: the vCPU goes on. */
  answer(value: bigint): void {
    this.#setValue(value);
    this.#set("state", mailState.answered);
    Atomics.notify(this.#words, mail.state);
  }
}
