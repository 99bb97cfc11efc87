/** Runs a machine's vCPUs, each in a thread of its own, and gives their news as events. The conductor's side of vcpu-thread. */
import { Worker } from "node:worker_threads";
import { compiledEntry } from "../../../sys/src/index.ts";
import type { TaskProgram } from "../guest/channel.ts";
import type { Machine } from "../machine.ts";
import {
  command,
  controlWord,
  controlWords,
  kickAll,
  type VcpuMessage,
  type VcpuThreadInput,
} from "./messages.ts";

/** Four of these make the watchdog's proof: a tenth of a second, in which KVM takes thousands of faults. */
const TICK_MS = 25;

export type VmRunner = {
  /** KVM_RUN again, on all vCPUs, after `stopped`. */
  resume(): void;
  /** Ends the threads of all vCPUs; `ended` of each follows, also out of an endless loop. */
  stop(): void;
  /** Settles when all threads are gone, after `ended`. Rejects if one died of something else. */
  readonly exited: Promise<void>;
};

export function startVm(
  machine: Machine,
  programs: readonly TaskProgram[],
  onMessage: (message: VcpuMessage) => void,
): VmRunner {
  const control = new SharedArrayBuffer(4 * controlWords);
  const words = new Int32Array(control);
  const resume = () => {
    // Not over a `stop` that came first.
    Atomics.compareExchange(words, controlWord.command, command.pause, command.run);
    Atomics.notify(words, controlWord.command);
  };
  const stop = () => {
    Atomics.store(words, controlWord.command, command.stop);
    Atomics.notify(words, controlWord.command);
    kickAll(words);
  };
  const threads = machine.vcpus.map((vcpu, cpu) => {
    const input: VcpuThreadInput = {
      cpu,
      vmFd: machine.vm.fd,
      lapicInKernel: machine.vm.options.lapicInKernel,
      window: machine.window,
      policy: machine.policy,
      pageStates: machine.pageStates,
      maxRepeats: machine.maxRepeats,
      vcpuFd: vcpu.fd,
      runBytes: vcpu.runBytes,
      ramAddress: machine.ramAddress,
      memslots: machine.vm.memslots,
      programs,
      control,
      tickMs: TICK_MS,
    };
    const worker = new Worker(compiledEntry(import.meta.url, "./vcpu-thread.ts"), { workerData: input });
    worker.on("message", (message: VcpuMessage) => {
      onMessage(message);
      // One vCPU's end is the end of the VM.
      if (message.type === "ended") stop();
    });
    return new Promise<void>((resolve, reject) => {
      worker.on("error", (error) => {
        stop();
        reject(error);
      });
      worker.on("exit", () => resolve());
    });
  });
  return { resume, stop, exited: Promise.all(threads).then(() => {}) };
}
