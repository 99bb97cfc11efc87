/**
 * The channel of SET_BACKEND_REQ_FD: requests of this side to the front-end, SHMEM_MAP and SHMEM_UNMAP. One at a time, each
 * answered: 0 for success. Used by the main thread, which waits for no answer: QEMU may want one from this server first.
 *
 * QEMU answers before it has committed the change (11.1): a mapping that is gone by its answer may still be reached by a vCPU
 * (vanished.ts).
 */
import { Socket } from "node:net";
import { errnoName, sendWithDescriptors } from "../../../../sys/src/index.ts";
import {
  BACKEND_REQUEST,
  encodeMapping,
  encodeRequest,
  HEADER_BYTES,
  MAP_FLAG_WRITABLE,
} from "./protocol.ts";

const REPLY_BYTES: number = HEADER_BYTES + 8;
/** A front-end that is stopped in a debugger answers nothing. */
const ANSWER_BOUND_MS = 5000;

/** What the front-end said to a request, or why there is no answer. */
export type ChannelAnswer = "done" | "refused" | "no answer";

type Asked = {
  readonly bytes: Uint8Array;
  readonly fd: number | null;
  readonly resolve: (answer: ChannelAnswer) => void;
};

export class BackendChannel {
  readonly #fd: number;
  readonly #socket: Socket;
  readonly #onBroken: (reason: string) => void;
  readonly #waiting: Asked[] = [];
  #current: Asked | null = null;
  #timer: NodeJS.Timeout | null = null;
  #received: Buffer = Buffer.alloc(0);
  #isBroken = false;

  /** @param onBroken called once: no request is answered any more */
  constructor(fd: number, onBroken: (reason: string) => void) {
    this.#fd = fd;
    this.#onBroken = onBroken;
    this.#socket = new Socket({ fd, readable: true, writable: false });
    this.#socket.on("data", (bytes: Buffer) => this.#receive(bytes));
    this.#socket.on("error", (error) => this.#break(error.message));
    this.#socket.on("close", () => this.#break("the front-end has closed it"));
  }

  /** `fd` is lent: it may be closed when this resolves. */
  map(mapping: {
    readonly fd: number;
    readonly fdOffset: bigint;
    readonly windowOffset: bigint;
    readonly lengthBytes: bigint;
  }): Promise<ChannelAnswer> {
    const payload = encodeMapping({ ...mapping, flags: MAP_FLAG_WRITABLE });
    return this.#ask(encodeRequest(BACKEND_REQUEST.SHMEM_MAP, payload, "needs reply"), mapping.fd);
  }

  /** One whole mapping. */
  unmap(windowOffset: bigint, lengthBytes: bigint): Promise<ChannelAnswer> {
    const payload = encodeMapping({ fdOffset: 0n, windowOffset, lengthBytes, flags: 0n });
    return this.#ask(encodeRequest(BACKEND_REQUEST.SHMEM_UNMAP, payload, "needs reply"), null);
  }

  close(): void {
    this.#break("closed");
  }

  #ask(bytes: Uint8Array, fd: number | null): Promise<ChannelAnswer> {
    return new Promise((resolve) => {
      if (this.#isBroken) {
        resolve("no answer");
        return;
      }
      this.#waiting.push({ bytes, fd, resolve });
      this.#next();
    });
  }

  #next(): void {
    if (this.#current !== null) return;
    const asked = this.#waiting.shift();
    if (asked === undefined) return;
    this.#current = asked;
    const sent = sendWithDescriptors(this.#fd, asked.bytes, asked.fd === null ? [] : [asked.fd]);
    if (sent !== asked.bytes.length) {
      this.#break(`it takes no request: ${sent < 0 ? errnoName(-sent) : `${sent} bytes`}`);
      return;
    }
    this.#timer = setTimeout(() => this.#break(`no answer within ${ANSWER_BOUND_MS} ms`), ANSWER_BOUND_MS);
  }

  #receive(bytes: Buffer): void {
    this.#received = Buffer.concat([this.#received, bytes]);
    while (this.#received.length >= REPLY_BYTES) {
      const reply = this.#received.subarray(0, REPLY_BYTES);
      this.#received = this.#received.subarray(REPLY_BYTES);
      const asked = this.#current;
      const request = asked === null ? null : Buffer.from(asked.bytes).readUInt32LE(0);
      if (asked === null || reply.readUInt32LE(0) !== request || reply.readUInt32LE(8) !== 8) {
        this.#break("an answer that does not belong to the request");
        return;
      }
      this.#answered(asked, reply.readBigUInt64LE(HEADER_BYTES) === 0n ? "done" : "refused");
    }
  }

  #answered(asked: Asked, answer: ChannelAnswer): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#current = null;
    asked.resolve(answer);
    this.#next();
  }

  #break(reason: string): void {
    if (this.#isBroken) return;
    this.#isBroken = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#socket.destroy();
    for (const { resolve } of [
      ...(this.#current === null ? [] : [this.#current]),
      ...this.#waiting.splice(0),
    ]) {
      resolve("no answer");
    }
    this.#current = null;
    this.#onBroken(reason);
  }
}
