/**
 * The guard `kernel-lease`: the kernel's own leases (F_SETLEASE) block open(2) and truncate(2) by path until the mapping is
 * gone.
 *
 * A lease break names neither the opener nor its intent, so the guard recalls the whole file, even for an open to read.
 * It then retries F_SETLEASE until no other process has the file open, and only then lets the holder map again. Arming is
 * refused if the lease cannot be taken at the start (another opener, a file system without leases).
 */
import { fstatSync } from "node:fs";
import { Worker } from "node:worker_threads";
import {
  compiledEntry,
  holdsWriteLease,
  releaseLease,
  SyscallError,
  takeWriteLease,
} from "../../../sys/src/index.ts";
import { LEASE_SIGNAL, type LeaseThreadInput, type LeaseThreadMessage } from "./kernel-lease-thread.ts";
import { Recalls } from "./recalls.ts";
import {
  type ArmedFile,
  type GuardedFile,
  type GuardOptions,
  GuardRefused,
  type MappingHolder,
  type TruncationGuard,
} from "./truncation-guard.ts";

/** Delay between two attempts to take the lease again: first and longest, doubling. */
const REARM_MS = { first: 1, longest: 20 } as const;

type Leased = {
  readonly fd: number;
  readonly recalls: Recalls;
  /** `broken`: recalled or about to be, the lease not taken again yet. */
  state: "held" | "broken" | "disarmed";
  timer: NodeJS.Timeout | null;
};

const refusals: Readonly<Record<string, string>> = {
  EAGAIN: "somebody else has the file open; close it, or use pre-content, which does not mind",
  EINVAL: "the file system of this file has no leases (FUSE, NFS, or one that does not opt in)",
  EACCES: "the file belongs to another user and this process has no CAP_LEASE",
};

export class KernelLeaseGuard implements TruncationGuard {
  readonly name = "kernel-lease" as const;
  readonly #options: GuardOptions;
  readonly #worker: Worker;
  readonly #stop: Int32Array;
  readonly #threadId: number;
  readonly #leased = new Map<number, Leased>();

  private constructor(options: GuardOptions, worker: Worker, stop: Int32Array, threadId: number) {
    this.#options = options;
    this.#worker = worker;
    this.#stop = stop;
    this.#threadId = threadId;
    worker.on("message", (message: LeaseThreadMessage) => {
      if (message.type === "break") this.#broken(message.fd);
    });
  }

  /** Starts the signal thread. */
  static async open(options: GuardOptions): Promise<KernelLeaseGuard> {
    const stop = new SharedArrayBuffer(4);
    const workerData: LeaseThreadInput = { stop };
    const worker = new Worker(compiledEntry(import.meta.url, "./kernel-lease-thread.ts"), {
      workerData,
      // Flags for this process (--input-type, a debugger) are not for the thread.
      execArgv: [],
    });
    const threadId = await new Promise<number>((resolve, reject) => {
      worker.once("error", reject);
      worker.once("message", (message: LeaseThreadMessage) => {
        if (message.type === "ready") resolve(message.threadId);
      });
    });
    worker.unref();
    return new KernelLeaseGuard(options, worker, new Int32Array(stop), threadId);
  }

  arm({ fd }: GuardedFile, holder: MappingHolder): ArmedFile {
    try {
      this.#takeLease(fd);
    } catch (error) {
      const code = error instanceof SyscallError ? error.code : null;
      throw new GuardRefused(this.name, (code !== null && refusals[code]) || String(error), code, error);
    }
    const leased: Leased = {
      fd,
      recalls: new Recalls(holder, this.#options),
      state: "held",
      timer: null,
    };
    this.#leased.set(fd, leased);
    return { fd, disarm: () => this.#disarm(leased) };
  }

  #takeLease(fd: number): void {
    takeWriteLease(fd, { threadId: this.#threadId, signal: LEASE_SIGNAL });
  }

  /** The signal names the descriptor; a plain SIGIO (the signal queue was full) does not, and every lease is checked. */
  #broken(fd: number): void {
    const named = this.#leased.get(fd);
    for (const leased of named === undefined ? this.#leased.values() : [named]) {
      // A second break during the first (a writer behind a reader) needs no second recall: the lease is released anyway.
      if (leased.state !== "held" || holdsWriteLease(leased.fd)) continue;
      leased.state = "broken";
      void this.#giveWay(leased);
    }
  }

  async #giveWay(leased: Leased): Promise<void> {
    const end = await leased.recalls.recall({ fromBytes: 0n, by: "another opener of the file" });
    if (leased.state === "disarmed") return;
    releaseLease(leased.fd);
    if (end === "acknowledged") this.#rearm(leased, REARM_MS.first);
  }

  #rearm(leased: Leased, delayMs: number): void {
    leased.timer = setTimeout(() => {
      leased.timer = null;
      try {
        this.#takeLease(leased.fd);
      } catch (error) {
        if (error instanceof SyscallError && error.code === "EAGAIN") {
          this.#rearm(leased, Math.min(2 * delayMs, REARM_MS.longest));
        } else leased.recalls.cutOff(`the lease cannot be had again: ${String(error)}`);
        return;
      }
      leased.state = "held";
      // Read the size after taking the lease: any later change of it breaks the lease first.
      leased.recalls.settle(BigInt(fstatSync(leased.fd).size));
    }, delayMs);
    leased.timer.unref();
  }

  #disarm(leased: Leased): void {
    if (leased.state === "disarmed") return;
    leased.state = "disarmed";
    if (leased.timer !== null) clearTimeout(leased.timer);
    this.#leased.delete(leased.fd);
    releaseLease(leased.fd);
  }

  caughtUp(): Promise<void> {
    return Promise.resolve();
  }

  lost(): Promise<null> {
    return Promise.resolve(null);
  }

  async close(): Promise<void> {
    for (const leased of [...this.#leased.values()]) this.#disarm(leased);
    const ended = new Promise((resolve) => this.#worker.once("exit", resolve));
    // The worker is unreferenced: without this the process could exit before its end.
    this.#worker.ref();
    Atomics.store(this.#stop, 0, 1);
    await ended;
  }
}
