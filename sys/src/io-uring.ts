/**
 * One io_uring of a thread (io_uring(7), include/uapi/linux/io_uring.h), as far as commands of a device need it: 128-byte
 * submissions, filled in once and sent as often as needed, and one system call that submits and waits.
 *
 * Not thread-safe: the thread that opens it uses it (IORING_SETUP_SINGLE_ISSUER), and completions come while it waits only
 * (IORING_SETUP_DEFER_TASKRUN, Linux 6.1). The ring's own descriptor is registered where the kernel takes it, so that a call
 * does not count a reference to it.
 */
import { check, declare, errnoNumber, lastErrno, viewOf } from "./libc.ts";
import { MAP_SHARED, mmap, PROT_READ, PROT_WRITE } from "./memory.ts";

const NR_SETUP = 425;
const NR_ENTER = 426;
const NR_REGISTER = 427;
const SETUP_SQE128 = 1 << 10;
const SETUP_SINGLE_ISSUER = 1 << 12;
const SETUP_DEFER_TASKRUN = 1 << 13;
const ENTER_GETEVENTS = 1;
const ENTER_REGISTERED_RING = 1 << 4;
const REGISTER_FILES = 2;
const REGISTER_IOWQ_AFF = 17;
const REGISTER_RING_FDS = 20;
/** struct io_uring_rsrc_update: offset, reserved, data. The kernel chooses the place. */
const ANY_PLACE = 0xffff_ffff;
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
>("int syscall(int64 number, int fd, uint32 submit, uint32 wait, uint32 flags, void *set, uint64 size)");
const cRegister = declare<
  (number: number, fd: number, opcode: number, argument: Uint8Array, count: number) => number
>("int64 syscall(int64 number, int fd, uint32 opcode, void *argument, uint32 count)");

export class IoUring {
  readonly #fd: number;
  readonly #sq: Int32Array;
  readonly #cq: Int32Array;
  /** The submissions, for `prepare`'s callers to change a field of. */
  readonly sqes: Int32Array;
  readonly #sqArray: number;
  readonly #sqTail: number;
  readonly #sqMask: number;
  readonly #cqHead: number;
  readonly #cqTail: number;
  readonly #cqMask: number;
  readonly #cqesAt: number;
  #enterFd: number;
  #enterFlags = ENTER_GETEVENTS;
  #unsubmitted = 0;
  /** Of the completion that `next` took. */
  userData = 0;
  result = 0;

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
    this.sqes = this.#mapped(OFFSET_SQES, sqEntries * SQE_BYTES);
    this.#sqArray = arrayAt / 4;
    this.#sqTail = word(SQ_OFF + 4) / 4;
    this.#sqMask = sqEntries - 1;
    this.#cqHead = word(CQ_OFF) / 4;
    this.#cqTail = word(CQ_OFF + 4) / 4;
    this.#cqMask = cqEntries - 1;
    this.#enterFd = this.#fd;
    this.#registerSelf();
  }

  #mapped(offset: bigint, lengthBytes: number): Int32Array {
    const rounded = (lengthBytes + 4095) & ~4095;
    const prot = PROT_READ | PROT_WRITE;
    const flags = MAP_SHARED | MAP_POPULATE;
    const address = mmap({ lengthBytes: rounded, prot, flags, fd: this.#fd, fileOffset: offset });
    const bytes = viewOf(address, rounded);
    return new Int32Array(bytes.buffer, bytes.byteOffset, rounded / 4);
  }

  /** IORING_REGISTER_RING_FDS (Linux 5.18), for the calling thread. */
  #registerSelf(): void {
    const update = new Uint32Array([ANY_PLACE, 0, this.#fd, 0]);
    if (Number(cRegister(NR_REGISTER, this.#fd, REGISTER_RING_FDS, new Uint8Array(update.buffer), 1)) !== 1) {
      return;
    }
    this.#enterFd = update[0] ?? this.#fd;
    this.#enterFlags |= ENTER_REGISTERED_RING;
  }

  /** From now on submissions with IOSQE_FIXED_FILE name these descriptors by their index. Throws a SyscallError. */
  registerFiles(fds: readonly number[]): void {
    const list = new Uint8Array(new Int32Array(fds).buffer);
    check("io_uring_register", Number(cRegister(NR_REGISTER, this.#fd, REGISTER_FILES, list, fds.length)));
  }

  /** What the ring does on threads of the kernel's runs on this CPU (Linux 5.14). False: on any. */
  keepWorkersOn(cpu: number): boolean {
    const mask = cpuMask(cpu);
    return Number(cRegister(NR_REGISTER, this.#fd, REGISTER_IOWQ_AFF, mask, mask.length)) === 0;
  }

  /** Fills in submission `index` of the ring's entries, zeros before. It stays as it is until it is filled in again. */
  prepare(index: number, fill: (sqe: DataView) => void): void {
    const at = this.sqes.byteOffset + index * SQE_BYTES;
    new Uint8Array(this.sqes.buffer, at, SQE_BYTES).fill(0);
    fill(new DataView(this.sqes.buffer, at, SQE_BYTES));
  }

  /** Submission `index` goes with the next `submit`. No more than the ring's entries at once. */
  push(index: number): void {
    const tail = this.#sq[this.#sqTail] ?? 0;
    this.#sq[this.#sqArray + (tail & this.#sqMask)] = index;
    Atomics.store(this.#sq, this.#sqTail, (tail + 1) | 0);
    this.#unsubmitted += 1;
  }

  /** Submits what was pushed, and waits for `wait` completions, or for a signal. Throws a SyscallError. */
  submit(wait: number): void {
    const flags = this.#enterFlags;
    const result = cEnter(NR_ENTER, this.#enterFd, this.#unsubmitted, wait, flags, null, 0);
    if (result >= 0) this.#unsubmitted -= result;
    else if (lastErrno() !== EINTR) check("io_uring_enter", -1);
  }

  /** Takes the next completion: `userData` and `result` are its. False: there is none. */
  next(): boolean {
    const head = this.#cq[this.#cqHead] ?? 0;
    if (head === Atomics.load(this.#cq, this.#cqTail)) return false;
    const at = (this.#cqesAt + (head & this.#cqMask) * CQE_BYTES) / 4;
    this.userData = this.#cq[at] ?? 0;
    this.result = this.#cq[at + 2] ?? 0;
    Atomics.store(this.#cq, this.#cqHead, (head + 1) | 0);
    return true;
  }
}

const cSetAffinity = declare<(thread: number, size: number, mask: Uint8Array) => number>(
  "int sched_setaffinity(int thread, uint64 size, const void *mask)",
);

/** cpu_set_t of the C library with one CPU in it. */
function cpuMask(cpu: number): Uint8Array {
  const mask = new Uint8Array(128);
  mask[cpu >> 3] = 1 << (cpu & 7);
  return mask;
}

/** Keeps the calling thread on one CPU. False: it may not run there. */
export function pinThread(cpu: number): boolean {
  const mask = cpuMask(cpu);
  return cSetAffinity(0, mask.length, mask) === 0;
}
