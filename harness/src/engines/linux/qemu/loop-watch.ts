/**
 * Proves an endless loop of page faults in a VMM that is not ours, by KVM's counters of its vCPUs and the steps that are under
 * way in the channel: the watchdog of our own VMM's threads (vmm/src/runner/watchdog.ts), from outside.
 */
import {
  type Channel,
  channelLayout,
  defaultWatchdogOptions,
  FAULT_COUNTER,
  type PendingAccess,
  type Place,
  type VcpuMessage,
  Watchdog,
} from "../../../../../vmm/src/index.ts";

export type PendingStep = {
  readonly task: number;
  readonly step: number;
  readonly gva: bigint;
  readonly began: bigint;
};

/** The accesses that are under way, by task. */
export function pendingSteps(channel: Channel): readonly PendingStep[] {
  const count = Math.min(channel.taskCount, channelLayout.MAX_TASKS);
  return Array.from({ length: count }, (_, task) => task).flatMap((task) => {
    const step = channel.currentStep(task);
    const { status, began } = channel.result(task, step);
    if (status !== "started") return [];
    return [{ task, step, gva: channel.address(task, step) ?? 0n, began }];
  });
}

function begunSteps(channel: Channel): number {
  const count = Math.min(channel.taskCount, channelLayout.MAX_TASKS);
  let begun = 0;
  for (let task = 0; task < count; task++) {
    const step = channel.currentStep(task);
    begun += step + (channel.result(task, step).status === "not-reached" ? 0 : 1);
  }
  return begun;
}

/** No register can be read while the vCPU runs: QEMU would stop the VM for that. */
function placeOf({ task, step, gva }: PendingStep): Place {
  return { rip: 0n, cpl: 3, task, step, gva, gpa: null, hva: null };
}

type LoopNews = Extract<VcpuMessage, { type: "looping" | "unstuck" }>;

export type LoopWatchOptions = {
  readonly cpus: number;
  readonly ioPatienceMs: number;
  readonly isIoAnswered: boolean;
};

const nameOf = ({ task, step, began }: PendingStep): string => `${task}/${step}/${began}`;

export class LoopWatch {
  readonly #channel: Channel;
  readonly #watchdogs: readonly Watchdog[];
  /** By vCPU: the access last reported to loop. */
  readonly #reported = new Map<number, string>();
  readonly #nowMs: () => number;

  constructor(
    channel: Channel,
    { cpus, ioPatienceMs, isIoAnswered }: LoopWatchOptions,
    nowMs: () => number = () => performance.now(),
  ) {
    this.#channel = channel;
    this.#nowMs = nowMs;
    const options = { ...defaultWatchdogOptions, ioPatienceMs, isIoAnswered };
    this.#watchdogs = Array.from({ length: cpus }, () => new Watchdog(options));
  }

  /** @param counters KVM's, by vCPU */
  sample(counters: readonly Readonly<Record<string, bigint>>[]): readonly LoopNews[] {
    const steps = pendingSteps(this.#channel);
    const pending = new Map<number, PendingAccess>(
      steps.map(({ task, step, began }) => [task, { step, began }]),
    );
    const begun = begunSteps(this.#channel);
    return this.#watchdogs.flatMap((watchdog, cpu): readonly LoopNews[] => {
      const known = this.#reported.get(cpu);
      const isOver = known !== undefined && !steps.some((step) => nameOf(step) === known);
      if (isOver) this.#reported.delete(cpu);
      const news: readonly LoopNews[] = isOver ? [{ type: "unstuck", cpu }] : [];
      const pageFaults = counters[cpu]?.[FAULT_COUNTER];
      if (pageFaults === undefined) return news;
      const sample = { atMs: this.#nowMs(), pageFaults, notPresentEvents: 0, ticks: null, begun, pending };
      const loop = watchdog.sample(sample);
      const step = loop === null ? undefined : steps.find(({ task }) => task === loop.task);
      if (loop === null || step === undefined || this.#reported.get(cpu) === nameOf(step)) return news;
      this.#reported.set(cpu, nameOf(step));
      const { proof, faultsPerSecond, overMs } = loop;
      return [...news, { type: "looping", cpu, proof, faultsPerSecond, overMs, place: placeOf(step) }];
    });
  }
}
