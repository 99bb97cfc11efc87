/** Runs a machine's vCPUs, each in a thread of its own, and emits their messages as events. The other side of vcpu-thread. */
import { Worker } from "node:worker_threads";
import { vmmParts } from "../../../language/src/index.ts";
import { compiledEntry, lookAtThread, type ThreadLook } from "../../../sys/src/index.ts";
import type { RunnableMachine } from "../machine.ts";
import type { PolicyName } from "../policy/policy.ts";
import {
  command,
  controlWord,
  controlWords,
  kickAll,
  monotonicMs,
  type VcpuMessage,
  type VcpuThreadInput,
} from "./messages.ts";
import { watchSleep } from "./watch-sleep.ts";

/** Four of these make the watchdog's proof: a tenth of a second, in which KVM takes thousands of faults. */
const TICK_MS = 25;

export type VmRunner = {
  /** KVM_RUN again, on all vCPUs, after `stopped`. */
  resume(): void;
  /** Ends the threads of all vCPUs; `ended` of each follows, also out of an endless loop. */
  stop(): void;
  /** What the vCPUs do from now on where KVM_RUN gives up on a page; the machine's own policy until then. */
  setPolicy(policy: PolicyName): void;
  /** A look at the thread of each vCPU, by `monotonicMs`; null before it is there, once it has ended, and where the kernel keeps no figures. */
  lookAtThreads(): readonly (ThreadLook | null)[];
  /** Settles when all threads have ended, after `ended`. Rejects if one died of something else. */
  readonly exited: Promise<void>;
};

export type VmRunnerOptions = {
  /** No page's I/O takes longer (milliseconds); not known, if left out. See `WatchdogOptions`. */
  readonly ioPatienceMs?: number;
  /** Is every I/O answered? Not known, if left out. See `WatchdogOptions`. */
  readonly isIoAnswered?: boolean;
  /** See `VcpuThreadInput`; it does not, if left out. */
  readonly isToldEarly?: boolean;
};

/** Threads that have run a vCPU to its end and wait for another: each is an instance of Node, slow to start. */
const idleThreads: Worker[] = [];

/** Runs a vCPU in a thread. Resolves when the thread has done with it, after `ended`; rejects if it died of something else. */
function runVcpu(input: VcpuThreadInput, onMessage: (message: VcpuMessage) => void): Promise<void> {
  // Its descriptors come from ioctl(2): Node has not opened what it is asked to close.
  const options = { trackUnmanagedFds: false, resourceLimits: { maxYoungGenerationSizeMb: 2 } };
  const worker = idleThreads.pop() ?? new Worker(compiledEntry(import.meta.url, "./vcpu-thread.ts"), options);
  worker.ref();
  return new Promise((resolve, reject) => {
    const listeners = {
      message(message: VcpuMessage): void {
        onMessage(message);
        if (message.type !== "ended") return;
        // One by one: a Worker without any listener, its own included, receives nothing.
        for (const [event, listener] of Object.entries(listeners)) worker.off(event, listener);
        // Idle, it keeps no process alive.
        worker.unref();
        idleThreads.push(worker);
        resolve();
      },
      error: reject,
      exit: () => resolve(),
    };
    for (const [event, listener] of Object.entries(listeners)) worker.on(event, listener);
    worker.postMessage(input);
  });
}

export function startVm(
  machine: RunnableMachine,
  onMessage: (message: VcpuMessage) => void,
  {
    ioPatienceMs = Number.POSITIVE_INFINITY,
    isIoAnswered = false,
    isToldEarly = false,
  }: VmRunnerOptions = {},
): VmRunner {
  const control = new SharedArrayBuffer(4 * controlWords);
  const words = new Int32Array(control);
  const setPolicy = (policy: PolicyName): void => {
    Atomics.store(words, controlWord.policy, vmmParts.indexOf(policy));
  };
  setPolicy(machine.policy);
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
      pageStates: machine.pageStates,
      maxRepeats: machine.maxRepeats,
      vcpuFd: vcpu.fd,
      runBytes: vcpu.runBytes,
      ramAddress: machine.ramAddress,
      memslots: machine.vm.memslots,
      guest: machine.guest,
      control,
      tickMs: TICK_MS,
      ioPatienceMs,
      isIoAnswered,
      isToldEarly,
    };
    return runVcpu(input, (message) => {
      onMessage(message);
      // One vCPU's end is the end of the VM.
      if (message.type === "ended") stop();
    }).catch((error: unknown) => {
      stop();
      throw error;
    });
  });
  const threadOf = (cpu: number): number | null => Atomics.load(words, controlWord.threadIds + cpu) || null;
  const unwatch = watchSleep({ cpus: machine.vcpus.length, threadOf, patienceMs: ioPatienceMs }, onMessage);
  const lookAtThreads = (): readonly (ThreadLook | null)[] =>
    machine.vcpus.map((_, cpu) => {
      const tid = Atomics.load(words, controlWord.threadIds + cpu);
      return tid === 0 ? null : lookAtThread(tid, monotonicMs);
    });
  return {
    resume,
    stop,
    setPolicy,
    lookAtThreads,
    exited: Promise.all(threads)
      .then(() => {})
      .finally(unwatch),
  };
}
