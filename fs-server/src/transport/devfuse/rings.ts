/**
 * FUSE over io_uring: the requests of the callers on one CPU, by a queue of their own (Documentation/filesystems/fuse/
 * fuse-io-uring.rst; fs/fuse/dev_uring.c; include/uapi/linux/fuse.h, struct fuse_uring_req_header).
 *
 * The kernel wants a queue for each possible CPU. Each has a few entries, of a header and a payload in our memory. An entry
 * is registered once; its completion is a request, and FUSE_IO_URING_CMD_COMMIT_AND_FETCH sends the answer and asks for the
 * next one: one system call a request, on the CPU of the caller. INIT, FORGET, INTERRUPT and notifications go by /dev/fuse.
 *
 * A thread serves a queue, so a call that blocks holds up the requests of that CPU: without `--io-uring` it does not
 * (crew.ts). Nothing may be kept for later here: no faults, no gate.
 */
import { readFileSync } from "node:fs";
import {
  addressOf,
  errnoNumber,
  IoUring,
  mapAnonymous,
  PAGE_SIZE,
  pinThread,
} from "../../../../sys/src/index.ts";
import { offsetsOf, sizeOf } from "../../abi/layout.ts";
import { MAX_WRITE_BYTES } from "../../core/init.ts";
import { ContiguousSink, OUT_HEADER_BYTES } from "../../core/reply.ts";
import type { Session } from "../../core/session.ts";

/** Requests of one CPU under way at once: as many as libfuse has. */
const DEPTH = 8;
const IORING_OP_URING_CMD = 46;
const CMD_REGISTER = 1;
const CMD_COMMIT_AND_FETCH = 2;
/** struct io_uring_sqe: opcode, fd, cmd_op, addr, len, user_data, cmd. */
const SQE = { opcode: 0, fd: 4, cmdOp: 8, addr: 16, len: 24, userData: 32, cmd: 48 } as const;
/** struct fuse_uring_cmd_req: flags, commit_id, qid. */
const CMD = { commitId: SQE.cmd + 8, qid: SQE.cmd + 16 } as const;
/** struct fuse_uring_req_header: in_out, op_in, ring_ent_in_out with flags, commit_id, payload_sz. */
const OP_IN = 128;
const OP_IN_BYTES = 128;
const COMMIT_ID = 256 + 8;
const PAYLOAD_SZ = 256 + 16;
const REQ_HEADER_BYTES = 256 + 32;
/** Before the payload: so that an answer is one piece of memory, and its body lies where the kernel takes it from. */
const REPLY_AT = PAGE_SIZE - OUT_HEADER_BYTES;
const PAYLOAD_AT = PAGE_SIZE;
const ENDED: ReadonlySet<number> = new Set(
  ["ENOTCONN", "ECONNABORTED", "ECANCELED", "ENODEV"].map((name) => -errnoNumber(name)),
);

const IN = offsetsOf("fuse_in_header");
const IN_BYTES = sizeOf("fuse_in_header");
const OUT = offsetsOf("fuse_out_header");

const SWITCH = "/sys/module/fuse/parameters/enable_uring";

/** Why this kernel offers no FUSE over io_uring, or null. */
export function noUringBecause(): string | null {
  try {
    if (readFileSync(SWITCH, "utf8").trim() === "Y") return null;
    return `FUSE over io_uring is switched off in this kernel. Next: echo Y > ${SWITCH}`;
  } catch {
    return "this kernel has no FUSE over io_uring (Linux 6.14, CONFIG_FUSE_IO_URING)";
  }
}

/** How many queues the kernel wants: one for each possible CPU. */
export function queueCount(): number {
  const ranges = readFileSync("/sys/devices/system/cpu/possible", "utf8").trim().split(",");
  return Math.max(...ranges.map((range) => Number(range.split("-").at(-1)))) + 1;
}

type Entry = {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly sink: ContiguousSink;
  /** Holds iovecs of header and payload. */
  readonly vectors: BigUint64Array;
  isCommitted: boolean;
};

export type Queue = { readonly device: number; readonly number: number };

/** Registers the queue's entries, reports that with `onReady`, and serves until the mount ends. Returns why it ended. */
export function serveQueue(queue: Queue, session: Session, hooks: QueueHooks): string {
  return new RingQueue(queue, session, hooks).run();
}

export type QueueHooks = {
  readonly onReady: () => void;
  /** After each request: others may close what it used. */
  readonly letGo: () => void;
};

class RingQueue {
  readonly #queue: Queue;
  readonly #session: Session;
  readonly #hooks: QueueHooks;
  readonly #ring: IoUring;
  readonly #entries: readonly Entry[];

  constructor(queue: Queue, session: Session, hooks: QueueHooks) {
    // A CPU that is not there, or not allowed: its queue is served from anywhere.
    pinThread(queue.number);
    this.#queue = queue;
    this.#session = session;
    this.#hooks = hooks;
    this.#ring = new IoUring(DEPTH);
    this.#entries = Array.from({ length: DEPTH }, (_, index) => this.#entry(index));
  }

  #entry(index: number): Entry {
    const { bytes, address } = mapAnonymous(PAYLOAD_AT + MAX_WRITE_BYTES);
    const payload = address + BigInt(PAYLOAD_AT);
    const vectors = new BigUint64Array([address, BigInt(REQ_HEADER_BYTES), payload, BigInt(MAX_WRITE_BYTES)]);
    const sink = new ContiguousSink(bytes.subarray(REPLY_AT), (message) => {
      this.#commit(index, message.length - OUT_HEADER_BYTES);
      return true;
    });
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    return { bytes, view, sink, vectors, isCommitted: true };
  }

  run(): string {
    for (const [index, { vectors }] of this.#entries.entries()) {
      this.#push(CMD_REGISTER, index, 0n, (sqe, at) => {
        sqe.setBigUint64(at + SQE.addr, addressOf(vectors), true);
        sqe.setUint32(at + SQE.len, 2, true);
      });
    }
    this.#ring.submit(0);
    this.#hooks.onReady();
    for (;;) {
      this.#ring.submit(1);
      for (let done = this.#ring.next(); done !== null; done = this.#ring.next()) {
        if (ENDED.has(done.result)) return "unmounted";
        if (done.result < 0) return `queue ${this.#queue.number} of io_uring: errno ${-done.result}`;
        this.#serve(done.userData);
      }
    }
  }

  #push(command: number, index: number, commitId: bigint, fill: (sqe: DataView, at: number) => void): void {
    this.#ring.push((sqe, at) => {
      sqe.setUint8(at + SQE.opcode, IORING_OP_URING_CMD);
      sqe.setInt32(at + SQE.fd, this.#queue.device, true);
      sqe.setUint32(at + SQE.cmdOp, command, true);
      sqe.setUint32(at + SQE.userData, index, true);
      sqe.setBigUint64(at + CMD.commitId, commitId, true);
      sqe.setUint16(at + CMD.qid, this.#queue.number, true);
      fill(sqe, at);
    });
  }

  #serve(index: number): void {
    const entry = this.#entries[index];
    if (entry === undefined) return;
    const { bytes, view, sink } = entry;
    entry.isCommitted = false;
    const payloadBytes = Math.min(view.getUint32(PAYLOAD_SZ, true), MAX_WRITE_BYTES);
    const fixed = view.getUint32(IN.len, true) - IN_BYTES - payloadBytes;
    const spans = [
      bytes.subarray(0, IN_BYTES),
      bytes.subarray(OP_IN, OP_IN + Math.max(0, Math.min(fixed, OP_IN_BYTES))),
      bytes.subarray(PAYLOAD_AT, PAYLOAD_AT + payloadBytes),
    ];
    const unique = view.getBigUint64(IN.unique, true);
    this.#session.handle(spans, sink);
    this.#hooks.letGo();
    // An opcode without a reply: the entry goes back all the same.
    if (entry.isCommitted) return;
    view.setUint32(REPLY_AT + OUT.len, OUT_HEADER_BYTES, true);
    view.setInt32(REPLY_AT + OUT.error, 0, true);
    view.setBigUint64(REPLY_AT + OUT.unique, unique, true);
    this.#commit(index, 0);
  }

  #commit(index: number, bodyBytes: number): void {
    const entry = this.#entries[index];
    if (entry === undefined) return;
    const { bytes, view } = entry;
    entry.isCommitted = true;
    bytes.copyWithin(0, REPLY_AT, REPLY_AT + OUT_HEADER_BYTES);
    view.setUint32(PAYLOAD_SZ, bodyBytes, true);
    this.#push(CMD_COMMIT_AND_FETCH, index, view.getBigUint64(COMMIT_ID, true), () => undefined);
  }
}
