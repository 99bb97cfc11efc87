/**
 * The thread that waits for lease-break signals.
 *
 * Why a thread: no other thread may receive the signal, which would kill the process or be lost. This thread owns the lease
 * (F_SETOWN_EX with F_OWNER_TID), blocks the signals and takes them by sigtimedwait(2), so there is no handler and Node's
 * own signal handling never sees them. A real-time signal is queued once for each lease; when the queue is full
 * (RLIMIT_SIGPENDING) the kernel sends a plain SIGIO instead (send_sigio_to_task(), fs/fcntl.c), whose default action kills
 * the process: this thread blocks SIGIO too, and answers it by checking every lease.
 */
import { parentPort, workerData } from "node:worker_threads";
import { blockSignal, SIGIO, SIGRTMIN, threadId, waitForSignal } from "../../../sys/src/index.ts";

/** Two above the watchdog's; unused otherwise in a Node process. */
export const LEASE_SIGNAL: number = SIGRTMIN + 5;

export type LeaseThreadInput = {
  /** Int32Array of one word: 1 asks the thread to end. */
  readonly stop: SharedArrayBuffer;
};

export type LeaseThreadMessage =
  | { readonly type: "ready"; readonly threadId: number }
  /** The lease on this descriptor is being broken; -1: some lease is. */
  | { readonly type: "break"; readonly fd: number };

/** How often the thread checks whether it must end. */
const LOOK_MS = 50;

function main({ stop }: LeaseThreadInput): void {
  const words = new Int32Array(stop);
  const post = (message: LeaseThreadMessage): void => parentPort?.postMessage(message);
  const signals = [LEASE_SIGNAL, SIGIO];
  for (const signal of signals) blockSignal(signal);
  post({ type: "ready", threadId: threadId() });
  while (Atomics.load(words, 0) === 0) {
    const seen = waitForSignal(signals, LOOK_MS);
    if (seen !== null) post({ type: "break", fd: seen.signal === LEASE_SIGNAL ? seen.fd : -1 });
  }
}

if (parentPort !== null) main(workerData as LeaseThreadInput);
