/**
 * The thread that waits for lease-break signals, and for nothing else.
 *
 * Why a thread: the signal must reach nobody who could die of it or swallow it. The lease's owner is this thread
 * (F_SETOWN_EX with F_OWNER_TID), where the signals are blocked and taken by sigtimedwait(2); no handler exists, no other
 * thread is asked, and Node's own signal handling never sees them. A real-time signal is queued once for each lease; when
 * the queue is full (RLIMIT_SIGPENDING) the kernel sends a plain SIGIO instead (send_sigio_to_task(), fs/fcntl.c), which
 * kills a process that does not expect it: it is blocked here too, and means that every lease has to be looked at.
 */
import { parentPort, workerData } from "node:worker_threads";
import { blockSignal, SIGIO, SIGRTMIN, threadId, waitForSignal } from "../../../sys/src/index.ts";

/** Two above the watchdog's: nobody else in a Node process uses it. */
export const LEASE_SIGNAL: number = SIGRTMIN + 5;

export type LeaseThreadInput = {
  /** Int32Array of one word: 1 asks the thread to end. */
  readonly stop: SharedArrayBuffer;
};

export type LeaseThreadMessage =
  | { readonly type: "ready"; readonly threadId: number }
  /** The lease on this descriptor is being broken; -1: some lease is. */
  | { readonly type: "break"; readonly fd: number };

/** How long the end may be waited for. */
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
