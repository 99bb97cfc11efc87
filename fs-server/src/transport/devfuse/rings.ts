/**
 * FUSE over io_uring: the requests of the callers on one CPU, by a queue of their own (Documentation/filesystems/fuse/
 * fuse-io-uring.rst; fs/fuse/dev_uring.c; include/uapi/linux/fuse.h, struct fuse_uring_req_header).
 *
 * The kernel wants a queue for each possible CPU, with entries of a header and a payload in our memory. An entry is
 * registered once; its completion is a request, and FUSE_IO_URING_CMD_COMMIT_AND_FETCH sends the answer and asks for the
 * next one: one system call a request, on the CPU of the caller. INIT, FORGET, INTERRUPT and notifications go by /dev/fuse.
 *
 * A thread has one entry (ring-crew.ts says why), so a request that is kept for later (faults, a gate) keeps its thread, too.
 */
import { readFileSync } from "node:fs";
import { addressOf, errnoNumber, files, IoUring, pinThread } from "../../../../sys/src/index.ts";
import type { Session } from "../../core/session.ts";
import type { RingSeat } from "./ring-crew.ts";
import { RingEntry } from "./ring-entry.ts";

const IORING_OP_STATX = 21;
const IORING_OP_URING_CMD = 46;
const IOSQE_FIXED_FILE = 1;
const CMD_REGISTER = 1;
const CMD_COMMIT_AND_FETCH = 2;
/** struct io_uring_sqe: opcode, flags, fd, off or cmd_op, addr, len, statx_flags, user_data, cmd. */
const SQE = {
  opcode: 0,
  flags: 1,
  fd: 4,
  off: 8,
  cmdOp: 8,
  addr: 16,
  len: 24,
  statxFlags: 28,
  userData: 32,
  cmd: 48,
} as const;
/** struct fuse_uring_cmd_req: flags, commit_id, qid. */
const CMD = { commitId: SQE.cmd + 8, qid: SQE.cmd + 16 } as const;
/** The submissions, and their user_data: the one that goes again and again, and one that goes once. */
const COMMAND = 0;
const KNOCK = 1;
/** The server is asked whatever the kernel has cached. */
const AT_STATX_FORCE_SYNC = 0x2000;
const STATX_BASIC_STATS = 0x7ff;
const ENDED: ReadonlySet<number> = new Set(
  ["ENOTCONN", "ECONNABORTED", "ECANCELED", "ENODEV"].map((name) => -errnoNumber(name)),
);
/** The kernel has not seen the answer to INIT yet. */
const EAGAIN = -errnoNumber("EAGAIN");

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

export type QueueHooks = {
  /** The entry is registered. */
  readonly onReady: () => void;
  /** After each request: others may close what it used. */
  readonly letGo: () => void;
};

export type Queue = {
  readonly device: number;
  readonly number: number;
  readonly seat: RingSeat;
  /** Where it is mounted, for a thread that joins a queue in use; null: the queue is new. */
  readonly joins: string | null;
};

/** Registers an entry of the queue, reports that with `onReady`, and serves until the mount ends. Returns why it ended. */
export function serveQueue(queue: Queue, session: Session, hooks: QueueHooks): string {
  return new RingLoop(queue, session, hooks).run();
}

class RingLoop {
  readonly #queue: Queue;
  readonly #session: Session;
  readonly #hooks: QueueHooks;
  readonly #ring: IoUring;
  readonly #entry: RingEntry;
  /** What the kernel reads and writes while it knocks. */
  readonly #path: Uint8Array;
  readonly #statx = new Uint8Array(files.STATX_BYTES);

  constructor(queue: Queue, session: Session, hooks: QueueHooks) {
    // A CPU that is not there, or not allowed: its queue is served from anywhere.
    pinThread(queue.number);
    this.#queue = queue;
    this.#session = session;
    this.#hooks = hooks;
    this.#ring = new IoUring(2);
    this.#ring.registerFiles([queue.device]);
    this.#path = files.pathBytes(queue.joins ?? "/");
    this.#entry = new RingEntry(() => this.#ring.push(COMMAND));
  }

  run(): string {
    const ring = this.#ring;
    const first = this.#register();
    if (first !== null && first < 0) return this.#why(first);
    this.#prepare(CMD_COMMIT_AND_FETCH, () => undefined);
    this.#queue.seat.begin();
    this.#hooks.onReady();
    if (first !== null) this.#serve();
    if (this.#queue.joins !== null) this.#knock();
    for (;;) {
      ring.submit(1);
      while (ring.next()) {
        if (ring.userData === KNOCK) continue;
        if (ring.result < 0) return this.#why(ring.result);
        this.#serve();
      }
    }
  }

  /** Registers the entry. Returns the result of a completion that came at once: a request or a failure. */
  #register(): number | null {
    const ring = this.#ring;
    this.#prepare(CMD_REGISTER, (sqe) => {
      sqe.setBigUint64(SQE.addr, addressOf(this.#entry.vectors), true);
      sqe.setUint32(SQE.len, 2, true);
    });
    for (;;) {
      ring.push(COMMAND);
      ring.submit(0);
      if (!ring.next()) return null;
      if (ring.result !== EAGAIN) return ring.result;
    }
  }

  /**
   * Asks for the mount's attributes, from this CPU. A new entry gets new requests only (fuse_uring_do_register()); those
   * that found no entry before wait until one of their queue is given back, and this request is what it is given back for.
   */
  #knock(): void {
    this.#ring.keepWorkersOn(this.#queue.number);
    this.#ring.prepare(KNOCK, (sqe) => {
      sqe.setUint8(SQE.opcode, IORING_OP_STATX);
      sqe.setInt32(SQE.fd, files.AT_FDCWD, true);
      sqe.setBigUint64(SQE.off, addressOf(this.#statx), true);
      sqe.setBigUint64(SQE.addr, addressOf(this.#path), true);
      sqe.setUint32(SQE.len, STATX_BASIC_STATS, true);
      sqe.setUint32(SQE.statxFlags, AT_STATX_FORCE_SYNC, true);
      sqe.setUint32(SQE.userData, KNOCK, true);
    });
    this.#ring.push(KNOCK);
  }

  #why(result: number): string {
    return ENDED.has(result) ? "unmounted" : `queue ${this.#queue.number} of io_uring: errno ${-result}`;
  }

  #prepare(command: number, fill: (sqe: DataView) => void): void {
    this.#ring.prepare(COMMAND, (sqe) => {
      sqe.setUint8(SQE.opcode, IORING_OP_URING_CMD);
      sqe.setUint8(SQE.flags, IOSQE_FIXED_FILE);
      sqe.setUint32(SQE.cmdOp, command, true);
      sqe.setUint16(CMD.qid, this.#queue.number, true);
      fill(sqe);
    });
  }

  #serve(): void {
    const entry = this.#entry;
    const { seat } = this.#queue;
    seat.serving(entry.uniqueLow, entry.uniqueHigh);
    entry.copyCommitId(this.#ring.sqes, CMD.commitId / Int32Array.BYTES_PER_ELEMENT);
    const result = this.#session.handle(entry.request(), entry);
    if (result.kind === "postponed") this.#handleKept();
    this.#hooks.letGo();
    // An opcode without a reply: the entry goes back all the same.
    if (!entry.isCommitted) entry.commitNothing();
    seat.served();
  }

  /** Until the request that was kept for later is answered. */
  #handleKept(): void {
    const session = this.#session;
    while (!this.#entry.isCommitted) {
      const wait = session.msUntilDue() ?? Number.POSITIVE_INFINITY;
      if (this.#queue.seat.isInterrupted(wait)) session.interrupt(this.#entry.unique);
      else session.handleDue();
    }
  }
}
