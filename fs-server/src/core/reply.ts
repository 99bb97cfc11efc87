/**
 * Where an answer goes. A sink lends memory: small answers are built in `frame`, file content is read straight into
 * `payload` spans, so it is copied once (by the kernel, into place).
 */
import { sizeOf } from "../abi/layout.ts";

export const OUT_HEADER_BYTES: number = sizeOf("fuse_out_header");

/** Least content worth moving by reference: below, the additional system calls cost more than a copy. */
export const MIN_MOVED_BYTES: number = 32 * 1024;

export type Frame = { readonly bytes: Uint8Array; readonly view: DataView };

export interface ReplySink {
  /** Most bytes that the client takes, header included. */
  readonly capacityBytes: number;
  /** One piece of memory for header and structures. */
  readonly frame: Frame;
  /** Where another thread may write the whole answer in its place; absent: nowhere. */
  readonly device?: number;
  /** Writable memory for `lengthBytes` of content after the header. */
  payload(lengthBytes: number): readonly Uint8Array[];
  /**
   * Content straight from an open file, without passing through our memory, in place of `payload`. Returns the bytes
   * taken, fewer than asked for only at the end of the file; null: not this way, nothing was taken.
   */
  moveFrom?(fd: number, offset: bigint, lengthBytes: number): number | null;
  /**
   * Sends the first `frameBytes` of the frame, then `payloadBytes` of payload, as one message. Called at most once
   * per request, by the session only. Returns false if the client no longer waits for it; throws a TransportError.
   */
  commit(frameBytes: number, payloadBytes: number): boolean;
}

export function frameOf(bytes: Uint8Array): Frame {
  return { bytes, view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length) };
}

/** A sink over one contiguous buffer, as /dev/fuse and tests have it. `send` gets the whole message. */
export class ContiguousSink implements ReplySink {
  readonly frame: Frame;
  readonly capacityBytes: number;
  readonly #send: (message: Uint8Array) => boolean;

  constructor(bytes: Uint8Array, send: (message: Uint8Array) => boolean) {
    this.frame = frameOf(bytes);
    this.capacityBytes = bytes.length;
    this.#send = send;
  }

  payload(lengthBytes: number): readonly Uint8Array[] {
    return [this.frame.bytes.subarray(OUT_HEADER_BYTES, OUT_HEADER_BYTES + lengthBytes)];
  }

  commit(frameBytes: number, payloadBytes: number): boolean {
    return this.#send(this.frame.bytes.subarray(0, frameBytes + payloadBytes));
  }
}

/** A sink over scattered memory, as a virtqueue's writable descriptors are. `done` gets the bytes used. */
export class ScatteredSink implements ReplySink {
  readonly frame: Frame;
  readonly capacityBytes: number;
  readonly #spans: readonly Uint8Array[];
  readonly #done: (usedBytes: number) => boolean;

  constructor(spans: readonly Uint8Array[], done: (usedBytes: number) => boolean) {
    this.#spans = spans;
    this.#done = done;
    this.capacityBytes = spans.reduce((sum, span) => sum + span.length, 0);
    this.frame = frameOf(new Uint8Array(this.capacityBytes));
  }

  payload(lengthBytes: number): readonly Uint8Array[] {
    return this.#slices(OUT_HEADER_BYTES, lengthBytes);
  }

  commit(frameBytes: number, payloadBytes: number): boolean {
    let from = 0;
    for (const span of this.#slices(0, frameBytes)) {
      span.set(this.frame.bytes.subarray(from, from + span.length));
      from += span.length;
    }
    return this.#done(frameBytes + payloadBytes);
  }

  #slices(start: number, lengthBytes: number): readonly Uint8Array[] {
    const slices: Uint8Array[] = [];
    let skip = start;
    let left = lengthBytes;
    for (const span of this.#spans) {
      if (left === 0) break;
      const from = Math.min(skip, span.length);
      skip -= from;
      const take = Math.min(span.length - from, left);
      if (take > 0) slices.push(span.subarray(from, from + take));
      left -= take;
    }
    return slices;
  }
}
