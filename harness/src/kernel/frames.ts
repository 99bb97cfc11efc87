/**
 * Messages over a stream of bytes, the same on both sides of the VM: four bytes of length, then the value as V8
 * serializes it, which keeps bigint, bytes and maps. Both ends run the same Node, the host's.
 */
import { deserialize, serialize } from "node:v8";

const LENGTH_BYTES = 4;
/** Far above any evidence. A longer one is a stream out of step. */
const MAX_FRAME_BYTES = 64 * 1024 * 1024;

export function encodeFrame(message: object): Uint8Array {
  const body = serialize(message);
  const length = Buffer.alloc(LENGTH_BYTES);
  length.writeUInt32LE(body.length);
  return Buffer.concat([length, body]);
}

/** Puts frames together from pieces of any size. */
export class FrameReader {
  readonly #onMessage: (message: unknown) => void;
  #bytes: Buffer = Buffer.alloc(0);

  constructor(onMessage: (message: unknown) => void) {
    this.#onMessage = onMessage;
  }

  /** Throws a RangeError if the stream makes no sense. */
  feed(piece: Uint8Array): void {
    this.#bytes = Buffer.concat([this.#bytes, piece]);
    while (this.#bytes.length >= LENGTH_BYTES) {
      const length = this.#bytes.readUInt32LE(0);
      if (length > MAX_FRAME_BYTES)
        throw new RangeError(`a message of ${length} bytes: at most ${MAX_FRAME_BYTES}`);
      if (this.#bytes.length < LENGTH_BYTES + length) return;
      const body = this.#bytes.subarray(LENGTH_BYTES, LENGTH_BYTES + length);
      this.#bytes = this.#bytes.subarray(LENGTH_BYTES + length);
      this.#onMessage(deserialize(body));
    }
  }
}
