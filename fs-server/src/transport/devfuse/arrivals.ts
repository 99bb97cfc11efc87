/**
 * Waiting for the next request: a short look first, then sleep.
 *
 * Waking a thread on an idle CPU costs more than serving most requests (15 to 45 us measured here, against 8 us), and a
 * client that works through files sends its next request within microseconds of the last answer. So the loop looks
 * again for a moment before it sleeps, as KVM does before it lets go of a halted vCPU (halt polling,
 * virt/kvm/kvm_main.c, kvm_vcpu_halt()). Where looking is in vain - the client thinks, or needs this very CPU to go on -
 * it is left out for a while, twice as long each time.
 *
 * On a busy CPU looking is worse than in vain: it uses up the thread's share, and when a request comes, the scheduler lets
 * others run first, for milliseconds; one that has slept runs before them. So a look that lost its CPU ends looking for long.
 */
import { performance } from "node:perf_hooks";
import { failure } from "../../fs/errors.ts";
import type { Pipe } from "./splice.ts";

const EAGAIN = -failure("EAGAIN").errno;
/** Longest look: one wake-up, the client's, and what it does then. */
const LOOK_MS = 0.06;
/** Most requests in a row that are waited for asleep at once: a look in vain then costs 0.1 us a request. */
const MAX_SKIPPED = 512;

/** Between two tries of a look: more than a try and an interrupt take, less than another thread's slice of the CPU. */
const LOST_MS = 1;

/** A mounted connection, as mountDevice makes it. */
export type Device = {
  readonly fd: number;
  /** The same connection by a descriptor that never waits (FUSE_DEV_IOC_CLONE); null: always sleep. */
  readonly nowait: number | null;
  /** For content by reference; null: all content goes by memory. The session agrees on no larger writes than it holds. */
  readonly pipe: Pipe | null;
};

export class Arrivals {
  readonly #device: Device;
  readonly #now: () => number;
  readonly #beforeSleep: () => boolean;
  /** Requests still to be waited for asleep, and how many it will be after the next look in vain. */
  #skip = 0;
  #penalty = 1;
  /** Where the last request came from: its answer has to go there (fs/fuse/dev.c keeps a list for each descriptor). */
  from: number;
  /** The last request was there before it was looked for. */
  wasQueued = false;

  /** @param beforeSleep true: the caller has slept otherwise, and comes back; `next` is EAGAIN then */
  constructor(
    device: Device,
    now: () => number = () => performance.now(),
    beforeSleep: () => boolean = () => false,
  ) {
    this.#device = device;
    this.#now = now;
    this.#beforeSleep = beforeSleep;
    this.from = device.fd;
  }

  /** The next request, by `receive` from one of the descriptors: its length, or the negative errno. */
  next(receive: (fd: number) => number): number {
    const { fd, nowait } = this.#device;
    this.wasQueued = false;
    if (nowait !== null) {
      if (this.#skip > 0) this.#skip -= 1;
      else {
        const length = this.#look(nowait, receive);
        if (length !== EAGAIN) {
          this.from = nowait;
          return length;
        }
      }
    }
    if (this.#beforeSleep()) return EAGAIN;
    this.from = fd;
    return receive(fd);
  }

  /** A request that is there, where that can be asked for; else the next one. */
  now(receive: (fd: number) => number): number {
    this.wasQueued = false;
    this.from = this.#device.nowait ?? this.#device.fd;
    return receive(this.from);
  }

  #look(nowait: number, receive: (fd: number) => number): number {
    let length = receive(nowait);
    // A request that was already there does not count for or against looking.
    if (length !== EAGAIN) {
      this.wasQueued = true;
      return length;
    }
    let before = this.#now();
    const end = before + LOOK_MS;
    let isLost = false;
    while (length === EAGAIN && before < end) {
      length = receive(nowait);
      const now = this.#now();
      isLost ||= now - before > LOST_MS;
      before = now;
    }
    if (isLost) this.#penalty = MAX_SKIPPED;
    if (isLost || length === EAGAIN) {
      this.#skip = this.#penalty;
      this.#penalty = Math.min(this.#penalty * 2, MAX_SKIPPED);
    } else this.#penalty = 1;
    return length;
  }
}
