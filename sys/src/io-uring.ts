/**
 * One io_uring of a thread (io_uring(7), include/uapi/linux/io_uring.h), as far as commands of a device need it: 128-byte
 * submissions, one system call that submits and waits. Not thread-safe: the thread that opens it uses it
 * (IORING_SETUP_SINGLE_ISSUER), and completions come while it waits only (IORING_SETUP_DEFER_TASKRUN, Linux 6.1).
 */
import { check, declare, errnoNumber, lastErrno, viewOf } from "./libc.ts";
import { MAP_SHARED, mmap, PROT_READ, PROT_WRITE } from "./memory.ts";

const NR_SETUP = 425;
const NR_ENTER = 426;
const SETUP_SQE128 = 1 << 10;
const SETUP_SINGLE_ISSUER = 1 << 12;
const SETUP_DEFER_TASKRUN = 1 << 13;
const ENTER_GETEVENTS = 1;
const OFFSET_SQ_RING = 0n;
const OFFSET_CQ_RING = 0x8000000n;
const OFFSET_SQES = 0x10000000n;
const MAP_POPULATE = 0x8000;
const EINTR = errnoNumber("EINTR");

export const SQE_BYTES = 128;
const CQE_BYTES = 16;
const PARAMS_BYTES = 120;
/** struct io_uring_params: sq_off and cq_off. */
const SQ_OFF = 40;
const CQ_OFF = 80;

const cSetup = declare<(number: number, entries: number, params: Uint8Array) => number>(
  "int64 syscall(int64 number, uint32 entries, void *params)",
);
const cEnter = declare<
  (number: number, fd: number, submit: number, wait: number, flags: number, set: null, size: number) => number
>("int64 syscall(int64 number, int fd, uint32 submit, uint32 wait, uint32 flags, void *set, uint64 size)");

export type Completion = { readonly userData: number; readonly result: number };

export class IoUring {
  readonly #fd: number;
  readonly #sq: Int32Array;
  readonly #cq: Int32Array;
  readonly #sqes: DataView;
  readonly #sqTail: number;
  readonly #sqMask: number;
  readonly #cqHead: number;
  readonly #cqTail: number;
  readonly #cqMask: number;
  readonly #cqesAt: number;
  #unsubmitted = 0;

  /** @param entries a power of two. Throws a SyscallError. */
  constructor(entries: number) {
    const params = new DataView(new ArrayBuffer(PARAMS_BYTES));
    params.setUint32(8, SETUP_SQE128 | SETUP_SINGLE_ISSUER | SETUP_DEFER_TASKRUN, true);
    this.#fd = check("io_uring_setup", Number(cSetup(NR_SETUP, entries, new Uint8Array(params.buffer))));
    const word = (at: number): number => params.getUint32(at, true);
    const [sqEntries, cqEntries] = [word(0), word(4)];
    const arrayAt = word(SQ_OFF + 24);
    this.#sq = this.#mapped(OFFSET_SQ_RING, arrayAt + 4 * sqEntries);
    this.#cqesAt = word(CQ_OFF + 20);
    this.#cq = this.#mapped(OFFSET_CQ_RING, this.#cqesAt + cqEntries * CQE_BYTES);
    const sqes = this.#mapped(OFFSET_SQES, sqEntries * SQE_BYTES);
    this.#sqes = new DataView(sqes.buffer, sqes.byteOffset, sqEntries * SQE_BYTES);
    this.#sqTail = word(SQ_OFF + 4) / 4;
    this.#sqMask = sqEntries - 1;
    this.#cqHead = word(CQ_OFF) / 4;
    this.#cqTail = word(CQ_OFF + 4) / 4;
    this.#cqMask = cqEntries - 1;
    for (let i = 0; i < sqEntries; i += 1) this.#sq[arrayAt / 4 + i] = i;
  }

  #mapped(offset: bigint, lengthBytes: number): Int32Array {
    const rounded = (lengthBytes + 4095) & ~4095;
    const prot = PROT_READ | PROT_WRITE;
    const flags = MAP_SHARED | MAP_POPULATE;
    const address = mmap({ lengthBytes: rounded, prot, flags, fd: this.#fd, fileOffset: offset });
    const bytes = viewOf(address, rounded);
    return new Int32Array(bytes.buffer, bytes.byteOffset, rounded / 4);
  }

  /** A submission, zeros, filled in by `fill` and sent with the next `submit`. No more than the ring's entries at once. */
  push(fill: (sqe: DataView, at: number) => void): void {
    const tail = this.#sq[this.#sqTail] ?? 0;
    const at = (tail & this.#sqMask) * SQE_BYTES;
    for (let i = 0; i < SQE_BYTES; i += 8) this.#sqes.setBigUint64(at + i, 0n, true);
    fill(this.#sqes, at);
    Atomics.store(this.#sq, this.#sqTail, (tail + 1) | 0);
    this.#unsubmitted += 1;
  }

  /** Submits what was pushed, and waits for `wait` completions. Throws a SyscallError. */
  submit(wait: number): void {
    const result = Number(cEnter(NR_ENTER, this.#fd, this.#unsubmitted, wait, ENTER_GETEVENTS, null, 0));
    if (result >= 0) this.#unsubmitted -= result;
    else if (lastErrno() !== EINTR) check("io_uring_enter", -1);
  }

  /** The next completion, or null. */
  next(): Completion | null {
    const head = this.#cq[this.#cqHead] ?? 0;
    if (head === Atomics.load(this.#cq, this.#cqTail)) return null;
    const at = (this.#cqesAt + (head & this.#cqMask) * CQE_BYTES) / 4;
    const completion = { userData: this.#cq[at] ?? 0, result: this.#cq[at + 2] ?? 0 };
    Atomics.store(this.#cq, this.#cqHead, (head + 1) | 0);
    return completion;
  }
}

const cSetAffinity = declare<(thread: number, size: number, mask: Uint8Array) => number>(
  "int sched_setaffinity(int thread, uint64 size, const void *mask)",
);

/** Keeps the calling thread on one CPU. False: it may not run there. */
export function pinThread(cpu: number): boolean {
  const mask = new Uint8Array(128);
  mask[cpu >> 3] = 1 << (cpu & 7);
  return cSetAffinity(0, mask.length, mask) === 0;
}
