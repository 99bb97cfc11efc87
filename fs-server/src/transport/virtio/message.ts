/**
 * FUSE messages in chains: a request taken out of guest memory, and the sink that puts the answer into it.
 *
 * A vCPU may change its memory while the server looks at it. So whatever the server checks and then uses is copied
 * first: header, structure, names and values. Only the content of a WRITE stays where it is; the kernel reads it, once.
 * Content that lies in a window is copied, too, by system calls (see memory.ts).
 */
import { offsetsOf, sizeOf } from "../../abi/layout.ts";
import { opcodeNamed } from "../../abi/opcodes.ts";
import { MAX_WRITE_BYTES } from "../../core/init.ts";
import { type Frame, frameOf, OUT_HEADER_BYTES, type ReplySink } from "../../core/reply.ts";
import { IN_HEADER_BYTES } from "../../core/request.ts";
import { failure } from "../../fs/errors.ts";
import type { QueueRequest } from "./device.ts";
import { copyIn, copyOut, type GuestSpan, lengthOf, slicesOf } from "./memory.ts";

/** Longest message in both directions: the largest content with header, structure and names. */
export const MAX_MESSAGE_BYTES: number = MAX_WRITE_BYTES + 64 * 1024;
/** Longest part of an answer that is not content of a file: entries of a directory, values of attributes. */
const FRAME_BYTES = 128 * 1024;
const IN = offsetsOf("fuse_in_header");
const OUT = offsetsOf("fuse_out_header");
const WRITE = opcodeNamed("WRITE").number;
const WRITE_HEAD_BYTES = IN_HEADER_BYTES + sizeOf("fuse_write_in");

export type Received = {
  readonly spans: readonly Uint8Array[];
  /** Why the message is not whole; then `spans` is its beginning, if that can be read. */
  readonly fault: "EFAULT" | "EINVAL" | null;
};

/** The memory that requests are copied to and answers are built in: a device has one, since it serves one at a time. */
export class MessageBuffers {
  readonly frame: Frame = frameOf(new Uint8Array(FRAME_BYTES));
  readonly #request = new Uint8Array(MAX_MESSAGE_BYTES);
  readonly #requestView = new DataView(this.#request.buffer);

  /** A request. What is returned is valid until the next call. */
  receive({ chain: { readable, readableBytes } }: QueueRequest): Received {
    const headBytes = Math.min(readableBytes, WRITE_HEAD_BYTES);
    const head = this.#request.subarray(0, headBytes);
    if (!copyIn(readable, head)) {
      const header = head.subarray(0, IN_HEADER_BYTES);
      return { spans: copyIn(readable, header) ? [header] : [], fault: "EFAULT" };
    }
    if (readableBytes > MAX_MESSAGE_BYTES) return { spans: [head], fault: "EINVAL" };
    if (readableBytes === headBytes) return { spans: [head], fault: null };
    const rest = slicesOf(readable, headBytes, readableBytes - headBytes);
    const isWrite = this.#requestView.getUint32(IN.opcode, true) === WRITE;
    const spans: Uint8Array[] = [head];
    let at = headBytes;
    for (const span of rest) {
      if (isWrite && span.kind === "ram") {
        spans.push(span.bytes);
        continue;
      }
      const copy = this.#request.subarray(at, at + lengthOf(span));
      if (!copyIn([span], copy)) return { spans: [head], fault: "EFAULT" };
      spans.push(copy);
      at += copy.length;
    }
    return { spans: isWrite ? spans : [this.#request.subarray(0, readableBytes)], fault: null };
  }
}

/** Where an answer goes: the writable part of a chain. Content of files is read straight into guest RAM. */
export class ChainSink implements ReplySink {
  readonly frame: Frame;
  readonly capacityBytes: number;
  readonly #request: QueueRequest;
  readonly #writable: readonly GuestSpan[];
  /** Content of a file, and the memory it is read into: of ours where the span lies in a window. */
  #content: readonly { readonly span: GuestSpan; readonly bytes: Uint8Array }[] = [];

  constructor(request: QueueRequest, frame: Frame) {
    this.frame = frame;
    this.#request = request;
    this.capacityBytes = Math.min(request.chain.writableBytes, MAX_MESSAGE_BYTES);
    this.#writable = slicesOf(request.chain.writable, 0, this.capacityBytes);
  }

  payload(lengthBytes: number): readonly Uint8Array[] {
    if (this.#request.isRevoked) return [];
    this.#content = slicesOf(this.#writable, OUT_HEADER_BYTES, lengthBytes).map((span) => ({
      span,
      bytes: span.kind === "ram" ? span.bytes : new Uint8Array(span.lengthBytes),
    }));
    return this.#content.map(({ bytes }) => bytes);
  }

  /** False if the answer does not fit, or a page of it is not there: the client gets the errno in its place. */
  commit(frameBytes: number, payloadBytes: number): boolean {
    const request = this.#request;
    if (request.isRevoked) return false;
    const usedBytes = frameBytes + payloadBytes;
    if (usedBytes > this.capacityBytes) return this.#refused("EINVAL");
    const head = this.frame.bytes.subarray(0, frameBytes);
    if (!this.#moveContent(payloadBytes) || !copyOut(this.#writable, head)) return this.#refused("EFAULT");
    request.complete(usedBytes);
    return true;
  }

  /** Moves content that is not in its place yet. */
  #moveContent(payloadBytes: number): boolean {
    let left = payloadBytes;
    for (const { span, bytes } of this.#content) {
      const ready = bytes.subarray(0, left);
      if (span.kind === "window" && !copyOut([span], ready)) return false;
      left -= ready.length;
    }
    return true;
  }

  /** An errno alone; nothing at all where not even that can be written. */
  #refused(code: "EFAULT" | "EINVAL"): false {
    this.frame.view.setUint32(OUT.len, OUT_HEADER_BYTES, true);
    this.frame.view.setInt32(OUT.error, -failure(code).errno, true);
    const header = this.frame.bytes.subarray(0, OUT_HEADER_BYTES);
    const isWritten = OUT_HEADER_BYTES <= this.capacityBytes && copyOut(this.#writable, header);
    this.#request.complete(isWritten ? OUT_HEADER_BYTES : 0);
    return false;
  }
}
