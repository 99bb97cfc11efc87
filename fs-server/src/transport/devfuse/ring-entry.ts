/**
 * The memory of one entry of a queue of io_uring, in which the kernel writes a request and from which it takes the answer
 * (include/uapi/linux/fuse.h, struct fuse_uring_req_header; fs/fuse/dev_uring.c, fuse_uring_copy_to_ring() and
 * fuse_uring_copy_from_ring()). One mapping:
 *
 *     0      in_out: fuse_in_header of the request, fuse_out_header of the answer
 *     128    op_in: the request's fixed structure
 *     256    ring_ent_in_out: commit_id, payload_sz
 *     4080   fuse_out_header as the session makes it, straight before
 *     4096   the payload: names and content of the request, everything of the answer but its header
 *
 * A request without large content is made one piece, as /dev/fuse has it: header and names are moved to the fixed structure,
 * over fields that have been read. So an answer that is built in place overwrites no name of its request.
 */
import { type Address, mapAnonymous, PAGE_SIZE } from "../../../../sys/src/index.ts";
import { offsetsOf, sizeOf } from "../../abi/layout.ts";
import { MAX_WRITE_BYTES } from "../../core/init.ts";
import { type Frame, frameOf, OUT_HEADER_BYTES, type ReplySink } from "../../core/reply.ts";

const IN = offsetsOf("fuse_in_header");
const IN_BYTES = sizeOf("fuse_in_header");
const OUT = offsetsOf("fuse_out_header");
const OP_IN = 128;
const OP_IN_BYTES = 128;
const COMMIT_ID = 256 + 8;
const PAYLOAD_SZ = 256 + 16;
const REQ_HEADER_BYTES = 256 + 32;
const PAYLOAD_AT = PAGE_SIZE;
const REPLY_AT = PAYLOAD_AT - OUT_HEADER_BYTES;
/** Where a request in one piece begins. */
const WHOLE_AT = OP_IN - IN_BYTES;
/** A longer payload stays where it is. */
const MAX_MOVED_BYTES = 1024;

const word = (at: number): number => at / Int32Array.BYTES_PER_ELEMENT;

export class RingEntry implements ReplySink {
  readonly frame: Frame;
  readonly capacityBytes: number;
  /** struct iovec of header and payload, for FUSE_IO_URING_CMD_REGISTER. */
  readonly vectors: BigUint64Array;
  readonly #bytes: Uint8Array;
  readonly #words: Int32Array;
  readonly #onCommit: () => void;
  /** Pieces of memory that were asked for, by their length. */
  readonly #wholes: Uint8Array[] = [];
  isCommitted = true;

  /** @param onCommit the answer is in place */
  constructor(onCommit: () => void) {
    const { bytes, address } = mapAnonymous(PAYLOAD_AT + MAX_WRITE_BYTES);
    this.#bytes = bytes;
    this.#words = new Int32Array(bytes.buffer, bytes.byteOffset, word(PAYLOAD_AT));
    this.#onCommit = onCommit;
    const payload: Address = address + BigInt(PAYLOAD_AT);
    this.vectors = new BigUint64Array([address, BigInt(REQ_HEADER_BYTES), payload, BigInt(MAX_WRITE_BYTES)]);
    this.frame = frameOf(bytes.subarray(REPLY_AT));
    this.capacityBytes = this.frame.bytes.length;
  }

  /** Of the request, once it was taken. */
  get unique(): bigint {
    const at = word(WHOLE_AT + IN.unique);
    const [low, high] = [this.#words[at] ?? 0, this.#words[at + 1] ?? 0];
    return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
  }

  get uniqueLow(): number {
    return this.#words[word(IN.unique)] ?? 0;
  }

  get uniqueHigh(): number {
    return this.#words[word(IN.unique) + 1] ?? 0;
  }

  /** Copies the id by which the answer is committed, two words, from `at` on. */
  copyCommitId(to: Int32Array, at: number): void {
    to[at] = this.#words[word(COMMIT_ID)] ?? 0;
    to[at + 1] = this.#words[word(COMMIT_ID) + 1] ?? 0;
  }

  /** The request that the kernel has put here. Once, before anything is written. */
  request(): readonly Uint8Array[] {
    const [bytes, words] = [this.#bytes, this.#words];
    this.isCommitted = false;
    const payloadBytes = Math.min((words[word(PAYLOAD_SZ)] ?? 0) >>> 0, MAX_WRITE_BYTES);
    const claimed = ((words[word(IN.len)] ?? 0) >>> 0) - IN_BYTES - payloadBytes;
    const fixedBytes = Math.max(0, Math.min(claimed, OP_IN_BYTES));
    for (let i = 0; i < word(IN_BYTES); i += 1) words[word(WHOLE_AT) + i] = words[i] ?? 0;
    if (payloadBytes > MAX_MOVED_BYTES) {
      return [this.#whole(IN_BYTES + fixedBytes), bytes.subarray(PAYLOAD_AT, PAYLOAD_AT + payloadBytes)];
    }
    const namesAt = OP_IN + fixedBytes;
    for (let i = 0; i < payloadBytes; i += 1) bytes[namesAt + i] = bytes[PAYLOAD_AT + i] ?? 0;
    return [this.#whole(IN_BYTES + fixedBytes + payloadBytes)];
  }

  #whole(lengthBytes: number): Uint8Array {
    const known = this.#wholes[lengthBytes];
    if (known !== undefined) return known;
    const made = this.#bytes.subarray(WHOLE_AT, WHOLE_AT + lengthBytes);
    this.#wholes[lengthBytes] = made;
    return made;
  }

  payload(lengthBytes: number): readonly Uint8Array[] {
    return [this.#bytes.subarray(PAYLOAD_AT, PAYLOAD_AT + lengthBytes)];
  }

  commit(frameBytes: number, payloadBytes: number): boolean {
    const words = this.#words;
    for (let i = 0; i < word(OUT_HEADER_BYTES); i += 1) words[i] = words[word(REPLY_AT) + i] ?? 0;
    words[word(PAYLOAD_SZ)] = frameBytes + payloadBytes - OUT_HEADER_BYTES;
    this.isCommitted = true;
    this.#onCommit();
    return true;
  }

  /** Gives the entry back where the request has no answer. */
  commitNothing(): void {
    const words = this.#words;
    const { view } = this.frame;
    view.setUint32(OUT.len, OUT_HEADER_BYTES, true);
    view.setInt32(OUT.error, 0, true);
    for (let i = 0; i < 2; i += 1) {
      words[word(REPLY_AT + OUT.unique) + i] = words[word(WHOLE_AT + IN.unique) + i] ?? 0;
    }
    this.commit(OUT_HEADER_BYTES, 0);
  }
}
