/**
 * Content between files and /dev/fuse without a way through our memory (splice(2)): the kernel copies it once, from
 * the source's page into the client's or back. A pipe holds references to pages meanwhile.
 */
import { addressOf, files, PAGE_SIZE } from "../../../../sys/src/index.ts";
import { TransportError } from "../../core/errors.ts";
import { MAX_WRITE_BYTES } from "../../core/init.ts";
import { type Frame, frameOf, OUT_HEADER_BYTES, type ReplySink } from "../../core/reply.ts";
import type { PipedPayload } from "../../core/request.ts";
import { failure } from "../../fs/errors.ts";

/** A slot of a pipe holds a page or less: header, structure, and content that begins and ends within pages. */
const SPARE_BYTES = 4 * PAGE_SIZE;
/** What is asked for, best first. Without CAP_SYS_RESOURCE, fs.pipe-max-size is the limit: 1 MiB unless changed. */
const PIPE_BYTES = [2 * MAX_WRITE_BYTES, MAX_WRITE_BYTES];
const DRAIN_BYTES = 64 * 1024;
const ENOENT = -failure("ENOENT").errno;
const EINVAL = -failure("EINVAL").errno;
const ENODEV = -failure("ENODEV").errno;

/** A pipe that never waits. Empty between two requests. */
export class Pipe {
  readonly out: number;
  readonly into: number;
  /** Most content that a message in it may have. The kernel takes no request into a pipe that it does not fit in. */
  readonly contentBytes: number;

  private constructor([out, into]: readonly [number, number], capacityBytes: number) {
    this.out = out;
    this.into = into;
    this.contentBytes = Math.min(capacityBytes - SPARE_BYTES, MAX_WRITE_BYTES);
  }

  /** A large one, or null where there are none to be had. */
  static open(): Pipe | null {
    const pair = files.pipe();
    if (typeof pair === "number") return null;
    for (const wanted of PIPE_BYTES) {
      const capacityBytes = files.setPipeSize(pair[0], wanted);
      if (capacityBytes >= wanted) return new Pipe(pair, capacityBytes);
    }
    for (const fd of pair) files.close(fd);
    return null;
  }

  drain(): void {
    const bytes = new Uint8Array(DRAIN_BYTES);
    while (files.read(this.out, bytes) > 0);
  }

  close(): void {
    files.close(this.out);
    files.close(this.into);
  }
}

/** The rest of a WRITE that came through a pipe. */
export class PipedContent implements PipedPayload {
  readonly lengthBytes: number;
  readonly #pipe: Pipe;
  #left: number;

  constructor(pipe: Pipe, lengthBytes: number) {
    this.#pipe = pipe;
    this.lengthBytes = lengthBytes;
    this.#left = lengthBytes;
  }

  moveTo(fd: number, offset: bigint): number | null {
    let moved = 0;
    while (this.#left > 0) {
      const result = files.spliceInto(this.#pipe.out, fd, offset + BigInt(moved), this.#left);
      if (result <= 0) break;
      moved += result;
      this.#left -= result;
    }
    return moved === 0 ? null : moved;
  }

  bytes(): Uint8Array {
    const bytes = new Uint8Array(this.#left);
    let filled = 0;
    while (filled < bytes.length) {
      const got = files.read(this.#pipe.out, bytes.subarray(filled));
      if (got <= 0) throw new Error(`a pipe with ${bytes.length} bytes gave ${filled}`);
      filled += got;
    }
    this.#left = 0;
    return bytes;
  }

  /** Drops unread content, which would be taken for the next request. */
  discard(): void {
    if (this.#left > 0) this.#pipe.drain();
    this.#left = 0;
  }
}

/** Sends answers to one descriptor of a connection, from memory or from a file. */
export class DeviceSink implements ReplySink {
  readonly frame: Frame;
  readonly capacityBytes: number;
  readonly device: number;
  readonly #pipe: Pipe | null;
  readonly #frameAddress: bigint;
  /** Bytes in the pipe: the header by reference, then content. */
  #pipedBytes = 0;

  constructor(fd: number, bytes: Uint8Array, pipe: Pipe | null) {
    this.device = fd;
    this.frame = frameOf(bytes);
    this.capacityBytes = bytes.length;
    this.#pipe = pipe;
    this.#frameAddress = addressOf(bytes);
  }

  payload(lengthBytes: number): readonly Uint8Array[] {
    return [this.frame.bytes.subarray(OUT_HEADER_BYTES, OUT_HEADER_BYTES + lengthBytes)];
  }

  moveFrom(fd: number, offset: bigint, lengthBytes: number): number | null {
    const pipe = this.#pipe;
    if (pipe === null || lengthBytes > pipe.contentBytes) return null;
    // The header is filled in when the answer is complete: what the pipe refers to is our memory.
    if (files.vmsplice(pipe.into, this.#frameAddress, OUT_HEADER_BYTES) !== OUT_HEADER_BYTES) return null;
    let taken = 0;
    while (taken < lengthBytes) {
      const moved = files.spliceFrom(fd, offset + BigInt(taken), pipe.into, lengthBytes - taken);
      if (moved === 0) break;
      if (moved < 0) {
        // Not a file that can be spliced, or a real error: read(2) shows which.
        pipe.drain();
        return null;
      }
      taken += moved;
    }
    this.#pipedBytes = OUT_HEADER_BYTES + taken;
    return taken;
  }

  commit(frameBytes: number, payloadBytes: number): boolean {
    const lengthBytes = frameBytes + payloadBytes;
    const piped = this.#pipedBytes;
    this.#pipedBytes = 0;
    if (this.#pipe === null || piped === 0) {
      return delivered(files.write(this.device, this.frame.bytes.subarray(0, lengthBytes)));
    }
    const result = files.splice(this.#pipe.out, this.device, piped);
    // What the kernel did not take must not go out before the next answer.
    if (result !== piped) this.#pipe.drain();
    return delivered(result);
  }
}

/** Whether the client took an answer, by the result of the call that sent it. */
function delivered(result: number): boolean {
  if (result >= 0) return true;
  // ENOENT: the client was interrupted and no longer waits. EINVAL: the kernel did not like the reply.
  if (result === ENOENT || result === EINVAL) return false;
  throw new TransportError(result === ENODEV ? "unmounted" : `write to /dev/fuse: ${failure(-result).code}`);
}
