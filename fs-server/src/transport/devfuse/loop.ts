/**
 * The request loop on a mounted /dev/fuse: one blocking read is one request, one write is one reply.
 * Occupies its thread until the mount is gone: run it in a worker or a process of its own. Several threads may serve one
 * mount, each by a loop of its own (crew.ts).
 */
import { performance } from "node:perf_hooks";
import { files } from "../../../../sys/src/index.ts";
import { offsetsOf, sizeOf } from "../../abi/layout.ts";
import { opcodeNamed } from "../../abi/opcodes.ts";
import { MAX_WRITE_BYTES } from "../../core/init.ts";
import { MIN_MOVED_BYTES } from "../../core/reply.ts";
import type { MessageResult, Session } from "../../core/session.ts";
import { failure } from "../../fs/errors.ts";
import { Arrivals, type Device } from "./arrivals.ts";
import type { Crew } from "./crew.ts";
import { DeviceSink, type Pipe, PipedContent } from "./splice.ts";

/** Room for headers and names beside the largest payload (the kernel asks for max_write and a page at least). */
const BUFFER_BYTES: number = MAX_WRITE_BYTES + 16 * 1024;
const IN = offsetsOf("fuse_in_header");
const WRITE = opcodeNamed("WRITE").number;
/** Everything of a WRITE but its content. */
const WRITE_HEAD_BYTES = sizeOf("fuse_in_header") + sizeOf("fuse_write_in");
const ENOENT = -failure("ENOENT").errno;
const ENODEV = -failure("ENODEV").errno;
const ECONNABORTED = -failure("ECONNABORTED").errno;
const EINTR = -failure("EINTR").errno;
const EAGAIN = -failure("EAGAIN").errno;

/** Requests that wait by nature, most of them for a disk. */
export const WAITING: ReadonlySet<number> = new Set(
  (["FSYNC", "FSYNCDIR", "SYNCFS", "FALLOCATE", "COPY_FILE_RANGE", "COPY_FILE_RANGE_64"] as const).map(
    (name) => opcodeNamed(name).number,
  ),
);

const FORGETS: ReadonlySet<number> = new Set(
  (["FORGET", "BATCH_FORGET"] as const).map((name) => opcodeNamed(name).number),
);
/**
 * Where FORGET comes without other requests, the next ones are waited for, and come as one BATCH_FORGET (fuse_read_forget()):
 * else each would wake the thread. An INTERRUPT waits, too.
 */
const FORGETS_MS = 1;
const NEVER = new Int32Array(new SharedArrayBuffer(4));

/** One of several threads. */
export type Companions = {
  /** null: the others do not receive from the device. */
  readonly crew: Crew | null;
  /** After each request: others may close what it used. */
  readonly letGo: () => void;
};

/** Serves until the mount ends. Returns why it ended. */
export function serveDevice(device: Device, session: Session, companions: Companions | null = null): string {
  return new DeviceLoop(device, session, companions).run();
}

class DeviceLoop {
  readonly #device: Device;
  readonly #session: Session;
  readonly #companions: Companions | null;
  readonly #pipe: Pipe | null;
  readonly #arrivals: Arrivals;
  readonly #request = new Uint8Array(BUFFER_BYTES);
  readonly #requestView = new DataView(this.#request.buffer);
  readonly #sink: DeviceSink;
  readonly #nowaitSink: DeviceSink;
  /** Large writes come in rows: after one, the next request is received by reference. */
  #piping = false;

  constructor(device: Device, session: Session, companions: Companions | null) {
    this.#device = device;
    this.#session = session;
    this.#companions = companions;
    const { pipe } = device;
    this.#pipe = pipe;
    // A thread that keeps requests for later stays awake for them.
    const rest = (): boolean => session.msUntilDue() === null && (companions?.crew?.rest() ?? false);
    this.#arrivals = new Arrivals(device, () => performance.now(), rest);
    const replyBytes = new Uint8Array(BUFFER_BYTES);
    this.#sink = new DeviceSink(device.fd, replyBytes, pipe);
    this.#nowaitSink = device.nowait === null ? this.#sink : new DeviceSink(device.nowait, replyBytes, pipe);
  }

  run(): string {
    const session = this.#session;
    this.#companions?.crew?.begin();
    for (;;) {
      const wait = session.msUntilDue();
      if (wait !== null) {
        const readable = files.pollReadable(this.#device.fd, Math.ceil(wait));
        this.#handleDue();
        if (readable === 0) continue;
      }
      const piping = this.#piping ? this.#pipe : null;
      const receive = (fd: number): number =>
        piping === null ? files.read(fd, this.#request) : files.splice(fd, piping.into, BUFFER_BYTES);
      // Another thread may have taken what was readable.
      const length = wait === null ? this.#arrivals.next(receive) : this.#arrivals.now(receive);
      if (length < 0) {
        // ENOENT: the request was interrupted between queueing and reading.
        if (length === ENOENT || length === EINTR || length === EAGAIN) continue;
        session.end();
        if (length === ENODEV || length === ECONNABORTED) return "unmounted";
        return `read of /dev/fuse: ${failure(-length).code}`;
      }
      // Never on the device; the end of a socket that stands for it.
      if (length === 0) return "closed";
      const result = piping === null ? this.#serve(length) : this.#servePiped(piping, length);
      if (result.kind === "ended") {
        session.end();
        return result.reason;
      }
    }
  }

  /** What was kept for later, and is due or interrupted. */
  #handleDue(): void {
    const interrupted = this.#companions?.crew?.mail() ?? null;
    if (interrupted !== null) this.#session.interrupt(interrupted);
    this.#session.handleDue();
    this.#companions?.letGo();
  }

  #serve(length: number, piped: PipedContent | null = null): MessageResult {
    const companions = this.#companions;
    if (companions === null) return this.#handled(length, piped);
    const { crew, letGo } = companions;
    if (crew === null) {
      const result = this.#handled(length, piped);
      letGo();
      if (FORGETS.has(this.#requestView.getUint32(IN.opcode, true))) Atomics.wait(NEVER, 0, 0, FORGETS_MS);
      return result;
    }
    const view = this.#requestView;
    const [low, high] = [view.getInt32(IN.unique, true), view.getInt32(IN.unique + 4, true)];
    crew.serving(low, high, this.#arrivals.wasQueued ? "queued" : "waited for");
    if (WAITING.has(view.getUint32(IN.opcode, true))) crew.willBlock();
    const result = this.#handled(length, piped);
    letGo();
    crew.served();
    return result;
  }

  #handled(length: number, piped: PipedContent | null): MessageResult {
    const isWrite = this.#requestView.getUint32(IN.opcode, true) === WRITE;
    this.#piping = isWrite && length + (piped?.lengthBytes ?? 0) >= MIN_MOVED_BYTES;
    const sink = this.#arrivals.from === this.#device.fd ? this.#sink : this.#nowaitSink;
    return this.#session.handle([this.#request.subarray(0, length)], sink, piped);
  }

  /** A request that lies in the pipe: of a large WRITE only the head is taken out of it. */
  #servePiped(pipe: Pipe, length: number): MessageResult {
    const head = files.read(pipe.out, this.#request.subarray(0, Math.min(length, WRITE_HEAD_BYTES)));
    const isWrite = this.#requestView.getUint32(IN.opcode, true) === WRITE;
    if (isWrite && length >= MIN_MOVED_BYTES) {
      const content = new PipedContent(pipe, length - head);
      const result = this.#serve(head, content);
      content.discard();
      return result;
    }
    let filled = head;
    while (filled < length) {
      const got = files.read(pipe.out, this.#request.subarray(filled, length));
      if (got <= 0) break;
      filled += got;
    }
    return this.#serve(filled);
  }
}
