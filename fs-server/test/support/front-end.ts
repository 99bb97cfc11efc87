/**
 * A vhost-user front-end, as a VMM is one, with a guest's driver behind it: QEMU's messages in QEMU's order, memory that both
 * processes have, one request at a time. Every wait is bounded. Blocking: the server is another process.
 */
import { expect } from "vitest";
import {
  connectUnix,
  eventfd,
  files,
  MAP_SHARED,
  memfdCreate,
  mmap,
  munmap,
  PROT_READ,
  PROT_WRITE,
  receiveWithDescriptors,
  sendWithDescriptors,
  signalEventfd,
  socketPair,
  viewOf,
} from "../../../sys/src/index.ts";
import type { MessageHandler } from "../../src/transport/memory/client.ts";
import { REQUEST, type RequestName } from "../../src/transport/vhost-user/protocol.ts";

const RAM_BYTES = 4 * 2 ** 20;
/** Where the front-end has its memory: not where the guest or the server has it. */
const USER_ADDRESS = 0x7f00_0000_0000n;
const QUEUE_SIZE = 64;
const QUEUE_BYTES = 8192n;
const BUFFERS = 1024 * 1024;
const MAX_ANSWER_BYTES = 128 * 1024;
const BOUND_MS = 15_000;
const NEED_REPLY = 8;

export type ShmemRequest = {
  readonly kind: "map" | "unmap";
  readonly fdOffset: bigint;
  readonly windowOffset: bigint;
  readonly lengthBytes: bigint;
  /** -1: none came. */
  readonly fd: number;
};

/** Of a chain: 1 in `flags` says that another one follows, 2 that the device writes, 4 that it is a table. */
export type Descriptor = { readonly gpa: bigint; readonly length: number; readonly flags: number };

function u64(value: bigint): Uint8Array {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes;
}

function words(...values: readonly (number | bigint)[]): Uint8Array {
  return Buffer.concat(
    values.map((value) => {
      if (typeof value === "bigint") return u64(value);
      const bytes = Buffer.alloc(4);
      bytes.writeUInt32LE(value);
      return bytes;
    }),
  );
}

function waitFor(fd: number, what: string): void {
  if (files.pollReadable(fd, BOUND_MS) !== 1) throw new Error(`${what}: nothing within ${BOUND_MS} ms`);
}

export class FrontEnd {
  readonly #socket: number;
  readonly #ram: number;
  readonly #address: bigint;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #kicks: number[] = [];
  readonly #calls: number[] = [];
  readonly #next: number[] = [];
  #channel = -1;
  /** 0: success. */
  onShmem: (request: ShmemRequest) => bigint = () => 1n;

  /** @param ram what the guest's memory is to be: this object's from here on */
  constructor(path: string, ram: number = memfdCreate("daxfault-test-ram")) {
    this.#ram = ram;
    this.#socket = connectUnix(path);
    files.ftruncate(this.#ram, BigInt(RAM_BYTES));
    this.#address = mmap({
      lengthBytes: RAM_BYTES,
      prot: PROT_READ | PROT_WRITE,
      flags: MAP_SHARED,
      fd: this.#ram,
    });
    this.#bytes = viewOf(this.#address, RAM_BYTES);
    this.#view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset, RAM_BYTES);
  }

  /** Sends a message. Returns the payload of the answer, or null where none belongs to it. */
  send(
    name: RequestName,
    payload: Uint8Array,
    {
      fds = [],
      reply = "none",
    }: { readonly fds?: readonly number[]; readonly reply?: "none" | "payload" | "ack" } = {},
  ): Buffer | null {
    const header = words(REQUEST[name], 1 | (reply === "ack" ? NEED_REPLY : 0), payload.length);
    sendWithDescriptors(this.#socket, Buffer.concat([header, payload]), fds);
    return reply === "none" ? null : this.#receive(this.#socket, name).payload;
  }

  /** A message as it is. */
  sendRaw(bytes: Uint8Array, fds: readonly number[] = []): void {
    sendWithDescriptors(this.#socket, bytes, fds);
  }

  /** 0: done. */
  acknowledged(name: RequestName, payload: Uint8Array, fds: readonly number[] = []): bigint {
    return this.send(name, payload, { fds, reply: "ack" })?.readBigUInt64LE() ?? -1n;
  }

  get(name: RequestName, payload: Uint8Array = new Uint8Array(0)): Buffer {
    return this.send(name, payload, { reply: "payload" }) ?? Buffer.alloc(0);
  }

  #receive(
    socket: number,
    what: string,
  ): { readonly payload: Buffer; readonly fds: readonly number[]; readonly request: number } {
    const head = Buffer.alloc(12);
    const fds: number[] = [];
    this.#fill(socket, head, fds, what);
    const payload = Buffer.alloc(head.readUInt32LE(8));
    this.#fill(socket, payload, fds, what);
    return { payload, fds, request: head.readUInt32LE(0) };
  }

  #fill(socket: number, into: Buffer, fds: number[], what: string): void {
    for (let at = 0; at < into.length; ) {
      waitFor(socket, what);
      const { lengthBytes, fds: more } = receiveWithDescriptors(socket, into.subarray(at));
      if (lengthBytes <= 0) throw new Error(`${what}: the server has closed the connection`);
      fds.push(...more);
      at += lengthBytes;
    }
  }

  /** What QEMU does before the guest runs, and when its driver is there. Two queues. */
  begin(protocolFeatures: bigint = 0x408229n): void {
    expect(this.get("GET_FEATURES").readBigUInt64LE()).toBe(0x150000000n);
    const offered = this.get("GET_PROTOCOL_FEATURES").readBigUInt64LE();
    this.send("SET_PROTOCOL_FEATURES", u64(offered & protocolFeatures));
    expect(this.get("GET_QUEUE_NUM").readBigUInt64LE()).toBeGreaterThanOrEqual(2n);
    this.get("GET_MAX_MEM_SLOTS");
    if ((offered & protocolFeatures & (1n << 5n)) !== 0n) {
      const [ours, theirs] = socketPair();
      this.#channel = ours;
      expect(this.acknowledged("SET_BACKEND_REQ_FD", new Uint8Array(0), [theirs])).toBe(0n);
      files.close(theirs);
    }
    this.send("SET_OWNER", new Uint8Array(0));
    this.send("SET_FEATURES", u64(0x150000000n));
    this.addRegion(0n, this.#ram, { userAddress: USER_ADDRESS, lengthBytes: BigInt(RAM_BYTES) });
    for (const queue of [0, 1]) this.startQueue(queue);
  }

  addRegion(
    gpa: bigint,
    fd: number,
    place: { readonly userAddress: bigint; readonly lengthBytes: bigint; readonly fdOffset?: bigint },
  ): bigint {
    const payload = words(0n, gpa, place.lengthBytes, place.userAddress, place.fdOffset ?? 0n);
    return this.acknowledged("ADD_MEM_REG", payload, [fd]);
  }

  /** With empty rings. */
  startQueue(queue: number): void {
    const at = queue * Number(QUEUE_BYTES);
    this.#view.setUint16(at + 16 * QUEUE_SIZE + 2, 0, true);
    this.#view.setUint16(at + 4098, 0, true);
    this.#next[queue] = 0;
    this.restartQueue(queue, 0);
  }

  /** Where it was. */
  restartQueue(queue: number, base: number): void {
    const at = BigInt(queue) * QUEUE_BYTES;
    const [kick, call] = [eventfd(), eventfd()];
    this.#kicks[queue] = kick;
    this.#calls[queue] = call;
    this.send("SET_VRING_NUM", words(queue, QUEUE_SIZE));
    this.send("SET_VRING_BASE", words(queue, base));
    const addresses = [at, at + 4096n, at + BigInt(16 * QUEUE_SIZE)].map((place) => USER_ADDRESS + place);
    expect(this.acknowledged("SET_VRING_ADDR", words(queue, 0, ...addresses, 0n))).toBe(0n);
    expect(this.acknowledged("SET_VRING_CALL", u64(BigInt(queue)), [call])).toBe(0n);
    expect(this.acknowledged("SET_VRING_KICK", u64(BigInt(queue)), [kick])).toBe(0n);
    expect(this.acknowledged("SET_VRING_ENABLE", words(queue, 1))).toBe(0n);
  }

  /** What a client sends its messages to. */
  get handler(): MessageHandler {
    return {
      handle: (spans, sink) => {
        const answer = this.request(Buffer.concat(spans), Math.min(sink.capacityBytes, MAX_ANSWER_BYTES));
        if (answer.length === 0) return { kind: "no-reply" };
        sink.frame.bytes.set(answer);
        sink.commit(answer.length, 0);
        return { kind: "answered" };
      },
    };
  }

  /**
   * Sends a FUSE message and returns the answer; `onShmem` answers what the server asks for on its channel meanwhile.
   * `tail`: more of the message, in guest memory already.
   */
  request(
    message: Uint8Array,
    capacityBytes: number,
    options: {
      readonly queue?: number;
      readonly tail?: { readonly gpa: bigint; readonly lengthBytes: number };
    } = {},
  ): Buffer {
    const { queue = 1, tail } = options;
    this.#bytes.set(message, BUFFERS);
    const answerAt = BUFFERS + 512 * 1024;
    const chain = [
      { gpa: BigInt(BUFFERS), length: message.length, flags: 1 },
      ...(tail === undefined ? [] : [{ gpa: tail.gpa, length: tail.lengthBytes, flags: 1 }]),
      { gpa: BigInt(answerAt), length: capacityBytes, flags: 2 },
    ];
    const usedBytes = this.served(queue, chain);
    return Buffer.from(this.#bytes.subarray(answerAt, answerAt + usedBytes));
  }

  /** Makes a chain available, and waits until it is given back. Returns the bytes that were written into it. */
  served(queue: number, chain: readonly Descriptor[]): number {
    this.offer(queue, chain);
    return this.#awaitUsed(queue);
  }

  /** Puts bytes into the guest's RAM. */
  place(gpa: number, bytes: Uint8Array): void {
    this.#bytes.set(bytes, gpa);
  }

  /** Sends a FUSE message whose answer nobody waits for. */
  offerMessage(message: Uint8Array): void {
    this.#bytes.set(message, BUFFERS);
    this.offer(1, [
      { gpa: BigInt(BUFFERS), length: message.length, flags: 1 },
      { gpa: BigInt(BUFFERS + 512 * 1024), length: MAX_ANSWER_BYTES, flags: 2 },
    ]);
  }

  /** Makes a chain available and kicks. */
  offer(queue: number, chain: readonly Descriptor[]): void {
    const at = queue * Number(QUEUE_BYTES);
    for (const [i, { gpa, length, flags }] of chain.entries()) {
      this.#view.setBigUint64(at + 16 * i, gpa, true);
      this.#view.setUint32(at + 16 * i + 8, length, true);
      this.#view.setUint16(at + 16 * i + 12, flags, true);
      this.#view.setUint16(at + 16 * i + 14, i + 1, true);
    }
    const available = at + 16 * QUEUE_SIZE;
    const next = this.#next[queue] ?? 0;
    this.#view.setUint16(available + 4 + 2 * (next % QUEUE_SIZE), 0, true);
    this.#next[queue] = next + 1;
    this.#view.setUint16(available + 2, next + 1, true);
    signalEventfd(this.#kicks[queue] ?? -1);
  }

  #awaitUsed(queue: number): number {
    const used = queue * Number(QUEUE_BYTES) + 4096;
    const next = this.#next[queue] ?? 0;
    const deadline = performance.now() + BOUND_MS;
    while (this.#view.getUint16(used + 2, true) !== (next & 0xffff)) {
      if (performance.now() > deadline) throw new Error(`the chain of queue ${queue} did not come back`);
      const waits = [this.#calls[queue] ?? -1, ...(this.#channel < 0 ? [] : [this.#channel])];
      const ready = files.pollAny(waits, 100);
      if (Array.isArray(ready) && ready.includes(this.#channel)) this.answerChannel();
    }
    files.read(this.#calls[queue] ?? -1, new Uint8Array(8));
    return this.#view.getUint32(used + 4 + 8 * ((next - 1) % QUEUE_SIZE) + 4, true);
  }

  /** One request of the server's. */
  answerChannel(): void {
    const { payload, fds, request } = this.#receive(this.#channel, "the channel");
    const [fd = -1] = fds;
    const result = this.onShmem({
      kind: request === 9 ? "map" : "unmap",
      fdOffset: payload.readBigUInt64LE(8),
      windowOffset: payload.readBigUInt64LE(16),
      lengthBytes: payload.readBigUInt64LE(24),
      fd,
    });
    sendWithDescriptors(this.#channel, words(request, 5, 8, result), []);
  }

  /** Whether the server asks for something on its channel. */
  hasShmemWithin(boundMs: number): boolean {
    return files.pollReadable(this.#channel, boundMs) === 1;
  }

  /** Whether the server closes the connection within the bound. */
  isClosed(): boolean {
    waitFor(this.#socket, "the end of the connection");
    return receiveWithDescriptors(this.#socket, new Uint8Array(64)).lengthBytes <= 0;
  }

  leave(): void {
    for (const fd of [this.#socket, this.#channel, this.#ram, ...this.#kicks, ...this.#calls]) {
      if (fd >= 0) files.close(fd);
    }
    munmap(this.#address, RAM_BYTES);
  }
}
