/**
 * A VMM and its guest's driver as far as a vhost-user file server needs them, for measurements: one request at a time, by an
 * indirect table, as Linux's driver sends it (fs/fuse/virtio_fs.c). Where a guest under emulation takes a hundred microseconds
 * a request, this takes some ten, so that what is measured is the server. Blocking; every wait is bounded.
 */
import { performance } from "node:perf_hooks";
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
  viewOf,
} from "../../../sys/src/index.ts";
import { offsetsOf, sizeOf } from "../abi/layout.ts";
import type { OpcodeName } from "../abi/opcodes.ts";
import { type Answer, type Call, encodeRequest } from "../transport/memory/client.ts";
import {
  encodeRequest as encodeMessage,
  HEADER_BYTES,
  PROTOCOL_FEATURE,
  REQUEST,
  type RequestName,
  u64Payload,
  VHOST_USER_F_PROTOCOL_FEATURES,
} from "../transport/vhost-user/protocol.ts";
import {
  DESCRIPTOR_BYTES,
  VIRTQ_DESC_F_INDIRECT as INDIRECT,
  VIRTQ_DESC_F_NEXT as NEXT,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_VERSION_1,
  VIRTQ_DESC_F_WRITE as WRITE,
} from "../transport/virtio/queue.ts";

const RAM_BYTES = 4 * 2 ** 20;
/** Where the front-end has its memory: the server has it elsewhere. */
const USER_ADDRESS = 0x7f00_0000_0000n;
const QUEUE_SIZE = 128;
const QUEUE_BYTES = 0x4000;
/** In each queue's memory, behind the descriptors. */
const AVAILABLE = 4096;
const USED = 8192;
const QUEUES = 2;
/** Of requests that have an answer; the other one is for FORGET. */
const REQUESTS = 1;
const TABLE = 0x1_0000;
const MESSAGE = 0x2_0000;
const ANSWER = 0x4_0000;
/** Content in pages that do not adjoin, as a guest's page cache has it. */
const CONTENT = 0x10_0000;
const PAGE = 4096;
const APART = 2 * PAGE;
const NO_NOTIFY = 1;
const FEATURES: bigint = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VHOST_USER_F_PROTOCOL_FEATURES;
const PROTOCOL_FEATURES: bigint = PROTOCOL_FEATURE.REPLY_ACK | PROTOCOL_FEATURE.CONFIGURE_MEM_SLOTS;
const BOUND_MS = 10_000;
const OUT = offsetsOf("fuse_out_header");
const OUT_BYTES = sizeOf("fuse_out_header");

export type DriverCall = Call & {
  /** Of the structure that the answer has. */
  readonly answerBytes: number;
  /** Of content behind it. */
  readonly contentBytes?: number;
};

type Buffers = { readonly gpa: number; readonly length: number; readonly flags: number }[];

function words(...values: readonly (number | bigint)[]): Buffer {
  const bytesOf = (value: number | bigint): Uint8Array =>
    typeof value === "bigint" ? u64Payload(value) : new Uint8Array(new Uint32Array([value]).buffer);
  return Buffer.concat(values.map(bytesOf));
}

export class VhostDriver {
  readonly #socket: number;
  readonly #ram: number = memfdCreate("daxfault-driver");
  readonly #address: bigint;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #shorts: Uint16Array;
  readonly #kicks: readonly number[] = [eventfd(), eventfd()];
  readonly #calls: readonly number[] = [eventfd(), eventfd()];
  readonly #drained = new Uint8Array(8);
  #next = 0;
  #unique = 0n;
  /** From the request's publication to the sight of its answer, of the last call. */
  lastMs = 0;
  #contentBytes = 0;

  /** Connects, and starts the queues. Throws an Error that says what the server did not do. */
  constructor(socketPath: string) {
    this.#socket = connectUnix(socketPath);
    files.ftruncate(this.#ram, BigInt(RAM_BYTES));
    const prot = PROT_READ | PROT_WRITE;
    this.#address = mmap({ lengthBytes: RAM_BYTES, prot, flags: MAP_SHARED, fd: this.#ram });
    this.#bytes = viewOf(this.#address, RAM_BYTES);
    const { buffer, byteOffset } = this.#bytes;
    this.#view = new DataView(buffer, byteOffset, RAM_BYTES);
    this.#shorts = new Uint16Array(buffer, byteOffset, RAM_BYTES / 2);
    this.#get("GET_FEATURES");
    const offered = this.#get("GET_PROTOCOL_FEATURES").readBigUInt64LE();
    this.#send("SET_PROTOCOL_FEATURES", u64Payload(offered & PROTOCOL_FEATURES));
    this.#send("SET_OWNER", Buffer.alloc(0));
    this.#send("SET_FEATURES", u64Payload(FEATURES));
    this.#acknowledged("ADD_MEM_REG", words(0n, 0n, BigInt(RAM_BYTES), USER_ADDRESS, 0n), this.#ram);
    for (let queue = 0; queue < QUEUES; queue += 1) this.#start(queue);
  }

  #send(
    name: RequestName,
    payload: Uint8Array,
    reply: "needs reply" | "no reply" = "no reply",
    fds: readonly number[] = [],
  ): void {
    const message = encodeMessage(REQUEST[name], payload, reply);
    if (sendWithDescriptors(this.#socket, message, fds) !== message.length)
      throw new Error(`${name}: the server has closed the connection`);
  }

  #get(name: RequestName): Buffer {
    this.#send(name, Buffer.alloc(0));
    return this.#receive(name);
  }

  #acknowledged(name: RequestName, payload: Uint8Array, ...fds: readonly number[]): void {
    this.#send(name, payload, "needs reply", fds);
    if (this.#receive(name).readBigUInt64LE() !== 0n) throw new Error(`the server refuses ${name}`);
  }

  #receive(what: string): Buffer {
    const head = this.#filled(HEADER_BYTES, what);
    return this.#filled(head.readUInt32LE(8), what);
  }

  #filled(lengthBytes: number, what: string): Buffer {
    const into = Buffer.alloc(lengthBytes);
    for (let at = 0; at < lengthBytes; ) {
      if (files.pollReadable(this.#socket, BOUND_MS) !== 1)
        throw new Error(`${what}: no answer within ${BOUND_MS} ms`);
      const { lengthBytes: more } = receiveWithDescriptors(this.#socket, into.subarray(at));
      if (more <= 0) throw new Error(`${what}: the server has closed the connection`);
      at += more;
    }
    return into;
  }

  #start(queue: number): void {
    const at = USER_ADDRESS + BigInt(queue * QUEUE_BYTES);
    this.#send("SET_VRING_NUM", words(queue, QUEUE_SIZE));
    this.#send("SET_VRING_BASE", words(queue, 0));
    const places = [at, at + BigInt(USED), at + BigInt(AVAILABLE), 0n];
    this.#acknowledged("SET_VRING_ADDR", words(queue, 0, ...places));
    this.#acknowledged("SET_VRING_CALL", u64Payload(BigInt(queue)), this.#calls[queue] ?? -1);
    this.#acknowledged("SET_VRING_KICK", u64Payload(BigInt(queue)), this.#kicks[queue] ?? -1);
    this.#acknowledged("SET_VRING_ENABLE", words(queue, 1));
  }

  /** The answer; its body is valid until the next call. Throws an Error where none comes in time. */
  call(name: OpcodeName, call: DriverCall): Answer {
    const { answerBytes, contentBytes = 0, payload = new Uint8Array(0), ...request } = call;
    this.#unique += 2n;
    const head = encodeRequest(name, this.#unique, request);
    this.#bytes.set(head, MESSAGE);
    this.#view.setUint32(MESSAGE, head.length + payload.length, true);
    const buffers: Buffers = [{ gpa: MESSAGE, length: head.length, flags: 0 }];
    for (let at = 0; at < payload.length; at += PAGE) {
      const piece = payload.subarray(at, at + PAGE);
      this.#bytes.set(piece, CONTENT + 2 * at);
      buffers.push({ gpa: CONTENT + 2 * at, length: piece.length, flags: 0 });
    }
    buffers.push({ gpa: ANSWER, length: OUT_BYTES + answerBytes, flags: WRITE });
    for (let page = 0; page * PAGE < contentBytes; page += 1)
      buffers.push({ gpa: CONTENT + page * APART, length: PAGE, flags: WRITE });
    this.#exchange(name, buffers);
    const usedBytes = this.#view.getUint32(ANSWER + OUT.len, true);
    const errno = Math.abs(this.#view.getInt32(ANSWER + OUT.error, true));
    const { buffer, byteOffset } = this.#bytes;
    const bodyBytes = Math.min(usedBytes - OUT_BYTES, answerBytes);
    this.#contentBytes = Math.min(usedBytes - OUT_BYTES - bodyBytes, contentBytes);
    return { errno, body: new DataView(buffer, byteOffset + ANSWER + OUT_BYTES, Math.max(bodyBytes, 0)) };
  }

  /** A copy of the content of the last answer. */
  content(): Buffer {
    const left = this.#contentBytes;
    const pages = Array.from({ length: Math.ceil(left / PAGE) }, (_, page) => {
      const from = CONTENT + page * APART;
      return this.#bytes.subarray(from, from + Math.min(PAGE, left - page * PAGE));
    });
    return Buffer.concat(pages);
  }

  #exchange(what: string, buffers: Buffers): void {
    for (const [i, { gpa, length, flags }] of buffers.entries()) {
      const isLast = i === buffers.length - 1;
      this.#describe(
        TABLE + DESCRIPTOR_BYTES * i,
        { gpa, length, flags: flags | (isLast ? 0 : NEXT) },
        i + 1,
      );
    }
    const queue = REQUESTS * QUEUE_BYTES;
    const head = this.#next % QUEUE_SIZE;
    this.#describe(
      queue + DESCRIPTOR_BYTES * head,
      { gpa: TABLE, length: DESCRIPTOR_BYTES * buffers.length, flags: INDIRECT },
      0,
    );
    this.#view.setUint16(queue + AVAILABLE + 4 + 2 * head, head, true);
    this.#next = (this.#next + 1) & 0xffff;
    const [call = -1, kick = -1] = [this.#calls[REQUESTS], this.#kicks[REQUESTS]];
    const [available, used] = [(queue + AVAILABLE) / 2, (queue + USED) / 2];
    const beganMs = performance.now();
    Atomics.store(this.#shorts, available + 1, this.#next);
    if ((Atomics.load(this.#shorts, used) & NO_NOTIFY) === 0) signalEventfd(kick);
    while (Atomics.load(this.#shorts, used + 1) !== this.#next) {
      if (performance.now() - beganMs > BOUND_MS) throw new Error(`${what}: no answer within ${BOUND_MS} ms`);
      files.pollReadable(call, BOUND_MS);
    }
    this.lastMs = performance.now() - beganMs;
    files.read(call, this.#drained);
  }

  #describe(at: number, { gpa, length, flags }: Buffers[number], next: number): void {
    this.#view.setBigUint64(at, BigInt(gpa), true);
    this.#view.setUint32(at + 8, length, true);
    this.#view.setUint16(at + 12, flags, true);
    this.#view.setUint16(at + 14, next, true);
  }

  close(): void {
    for (const fd of [this.#socket, this.#ram, ...this.#kicks, ...this.#calls]) files.close(fd);
    munmap(this.#address, RAM_BYTES);
  }
}
