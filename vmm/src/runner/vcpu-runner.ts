/** Runs a machine's vCPU in a thread of its own and gives its news as events. The conductor's side of vcpu-thread. */
import { Worker } from "node:worker_threads";
import { compiledEntry, SyscallError, signalThread } from "../../../sys/src/index.ts";
import type { TaskProgram } from "../guest/channel.ts";
import type { Machine } from "../machine.ts";
import { KICK_SIGNAL } from "./kick.ts";
import { command, controlWord, controlWords, type VcpuMessage } from "./messages.ts";

/** Four of these make the watchdog's proof: a tenth of a second, in which KVM takes thousands of faults. */
const TICK_MS = 25;

export type VcpuRunner = {
  /** KVM_RUN again after `stopped`. */
  resume(): void;
  /** Ends the vCPU's thread; `ended` follows, also out of an endless loop. */
  stop(): void;
  /** Settles when the thread is gone, after `ended`. Rejects if it died of something else. */
  readonly exited: Promise<void>;
};

export function startVcpu(
  machine: Machine,
  programs: readonly TaskProgram[],
  onMessage: (message: VcpuMessage) => void,
): VcpuRunner {
  const control = new SharedArrayBuffer(4 * controlWords);
  const words = new Int32Array(control);
  const worker = new Worker(compiledEntry(import.meta.url, "./vcpu-thread.ts"), {
    workerData: {
      vmFd: machine.vm.fd,
      lapicInKernel: machine.vm.options.lapicInKernel,
      window: machine.window,
      policy: machine.policy,
      vcpuFd: machine.vcpu.fd,
      runBytes: machine.vcpu.runBytes,
      ramAddress: machine.ramAddress,
      memslots: machine.vm.memslots,
      programs,
      control,
      tickMs: TICK_MS,
    },
  });
  worker.on("message", onMessage);
  const exited = new Promise<void>((resolve, reject) => {
    worker.on("error", reject);
    worker.on("exit", () => resolve());
  });
  const send = (value: number) => {
    Atomics.store(words, controlWord.command, value);
    Atomics.notify(words, controlWord.command);
  };
  return {
    resume: () => send(command.resume),
    stop: () => {
      send(command.stop);
      kick(Atomics.load(words, controlWord.threadId));
    },
    exited,
  };
}

/** Gets the thread out of KVM_RUN. Already gone is fine: then nobody is in KVM_RUN. */
function kick(tid: number): void {
  if (tid === 0) return;
  try {
    signalThread(tid, KICK_SIGNAL);
  } catch (error) {
    if (!(error instanceof SyscallError) || error.code !== "ESRCH") throw error;
  }
}
