/**
 * The host's side of the channel to the micro-guest or to the Linux program (linux-case.ts): mirrors
 * vmm/guest/step/channel.h, number by number.
 *
 * `vmm/test/guest/channel.test.ts` compiles a C program against that header and compares `channelLayout`.
 * The guest is not trusted: everything read from the channel is masked or bounded here.
 */

import {
  type GuestStep,
  guestVerbs,
  onlyReads,
  type SigbusReaction,
  sigbusReactions,
  type Touch,
} from "../../../language/src/index.ts";

export const channelLayout = {
  CHANNEL_MAGIC: 0x3154534547584144n,
  WINDOW_ADDRESS: 0x40000000n,
  CONFIGURE_LAPIC: 1,
  CONFIGURE_APF: 2,
  CONFIGURE_TIMER: 4,
  CONFIGURE_NMI_IS_SIGBUS: 8,
  CONFIGURE_MCE_SAFE_READS: 16,
  CONFIGURE_MCE_SAFE_WRITES: 32,
  CONFIGURE_PF_IS_ERROR: 64,
  CONFIGURE_APF_ERROR: 128,
  CONFIGURE_APF_SLEEPS_LATE: 256,
  CONFIGURE_NMI_BEFORE_READING: 512,
  CONFIGURE_NMI_SAVES_CR2: 1024,
  CONFIGURE_NMI_SAVES_FLAGS: 2048,
  CONFIGURE_APF_SEND_ALWAYS: 4096,
  CONFIGURE_VE_INFO: 8192,
  CONFIGURE_NMI_READS_PAGE: 16384,
  TASK_INTERRUPTS_OFF: 1,
  TASK_NESTED: 2,
  TASK_SIGSEGV_IS_SIGBUS: 4,
  STEP_INTERRUPTS_OFF: 1,
  STEP_NO_FIXUP: 2,
  STEP_REPEATS: 4,
  STEP_TALLIES: 8,
  SIGBUS_ADRERR: 2,
  SIGBUS_MCEERR_AR: 4,
  MAX_CPUS: 2,
  MAX_TASKS: 104,
  MAX_STEPS: 64,
  MAX_SIGNALS: 16,
  MAX_EVENTS: 256,
  MAX_ACCESS_BYTES: 64,
  sizeofStep: 24,
  sizeofResult: 88,
  sizeofTaskProgram: 1544,
  sizeofTaskReport: 5656,
  sizeofEvent: 48,
  sizeofChannel: 773536,
  offsetofConfiguration: 8,
  offsetofTaskCount: 12,
  offsetofSignals: 16,
  offsetofCpus: 80,
  offsetofPrograms: 24736,
  offsetofReports: 185312,
  sizeofCpuReport: 12328,
  offsetofCpuEventCount: 0,
  offsetofCpuApfNotPresentCount: 4,
  offsetofCpuApfReadyCount: 8,
  offsetofCpuNmiCount: 12,
  offsetofCpuCurrentTask: 16,
  offsetofCpuHeartbeat: 20,
  offsetofCpuOutstanding: 24,
  offsetofCpuEarlyTokens: 28,
  offsetofCpuOopsCount: 32,
  offsetofCpuEvents: 40,
  offsetofReportCurrentStep: 4,
  offsetofReportCount: 8,
  offsetofReportRip: 16,
  offsetofReportResults: 24,
  offsetofResultCode: 4,
  offsetofResultBytes: 8,
  offsetofResultBegan: 72,
  offsetofResultEnded: 80,
  offsetofProgramOnSigbus: 1,
  offsetofProgramCpu: 2,
  offsetofProgramFlags: 3,
  offsetofProgramStepCount: 4,
  offsetofProgramSteps: 8,
} as const;

/** Guest virtual = guest physical address of the window: 1 GiB, clear of RAM, of the PCI hole and of the local APIC. */
export const WINDOW_BASE: bigint = channelLayout.WINDOW_ADDRESS;

/** `again`: from the first step, for ever; for measurements, not in scenarios. */
export type GuestVerb = GuestStep["verb"] | "again";

/** enum verb. */
export const verbNumber: Readonly<Record<GuestVerb, number>> = {
  ...(Object.fromEntries(Object.entries(guestVerbs).map(([verb, { number }]) => [verb, number])) as Record<
    GuestStep["verb"],
    number
  >),
  again: 14,
};

const verbOfNumber: ReadonlyMap<number, GuestVerb> = new Map(
  Object.entries(verbNumber).map(([verb, number]) => [number, verb as GuestVerb]),
);

/** Is it a system call of the Linux program alone? */
export function isLinuxVerb(verb: GuestVerb): boolean {
  return verb !== "again" && guestVerbs[verb].touch?.instruction === null;
}

/** Is the file mapped for reading only where a task has it? */
export function isReadOnlyVerb(verb: GuestVerb): boolean {
  return verb !== "again" && onlyReads(verb);
}

/** How a step touches the window; null: it does not, and cannot be stuck in a page fault. */
export function touchOfStep({ verb }: ProgramStep): Touch | null {
  const touch = verb === "again" ? null : guestVerbs[verb].touch;
  return touch === null || touch.instruction === null ? null : touch;
}

/** One step as the guest executes it. */
export type ProgramStep = {
  readonly verb: GuestVerb;
  /** Bytes; 0 for verbs that touch nothing. */
  readonly size: number;
  /** Guest virtual address, or the number of the signal or of the task to be killed. */
  readonly address: bigint;
  /** For stores: little-endian, zero-extended to the size. */
  readonly value: bigint;
  /** The access is done again and again until this signal is seen, then once more. */
  readonly until?: number;
  /** With 8 bytes: counts what it sees (`Channel.tally`); `Channel.setValue` changes its value meanwhile. */
  readonly tallies?: boolean;
  /** For the guest kernel's copies: runs with IF = 0; has no exception-table entry. */
  readonly interruptsOff?: boolean;
  readonly noFixup?: boolean;
};

/** struct tally: of a step that tallies, since it began. */
export type Tally = {
  readonly accesses: bigint;
  readonly zeros: bigint;
  /** Words that were gone from the file before the load began. */
  readonly stale: bigint;
  readonly sigbusCount: bigint;
  /** The last stale word, and the least that would not have been. */
  readonly lastStale: bigint;
  readonly lastValue: bigint;
};

export type TaskProgram = {
  readonly cpl: 0 | 3;
  /** The vCPU that runs it; 0 by default. */
  readonly cpu?: number;
  /** Runs with IF = 0: nothing preempts it. */
  readonly interruptsOff?: boolean;
  /** Of the Linux program in a guest: its accesses are made in a VM of that guest's KVM. */
  readonly nested?: boolean;
  readonly steps: readonly ProgramStep[];
  /** The task's reaction to SIGBUS: it ends (the default), or its handler goes on with the next step. */
  readonly onSigbus?: SigbusReaction;
  /** Of the Linux program: `onSigbus` holds for SIGSEGV, too, which is what Linux makes of a #PF that reports a loss. */
  readonly sigsegvIsSigbus?: boolean;
};

export type Doorbell =
  /** `task`: of the Linux program, whose tasks run at the same time. */
  | { readonly kind: "signal"; readonly number: number; readonly task?: number }
  | { readonly kind: "finished" }
  | { readonly kind: "panic"; readonly reason: string }
  /** The handler of an event wants an NMI before it reads what the event was about. */
  | { readonly kind: "nmi" }
  /** The Linux program has mapped the window. */
  | { readonly kind: "ready" }
  /** The Linux program, as the first process of a guest, has ended its case. */
  | { readonly kind: "idle" }
  /** A task of the Linux program waits until all results so far have been taken: it changes the file then. */
  | { readonly kind: "results"; readonly task: number }
  | { readonly kind: "unknown"; readonly value: number };

const panicReasons: Readonly<Record<number, string>> = {
  1: "exception in the guest kernel",
  2: "bad configuration",
  3: "bad step",
  4: "async page faults asked for, but CPUID offers no page-ready interrupt (KVM_FEATURE_ASYNC_PF_INT)",
  5: "page-not-present event at CPL 0",
  6: "machine check in the guest kernel",
  7: "#VE by KVM asked for, but CPUID does not offer it (KVM_FEATURE_VE_INFO)",
};

function decodeSignal(argument: number): Doorbell | null {
  const number = argument & 0xff;
  const task = (argument >>> 8) - 1;
  if (number >= channelLayout.MAX_SIGNALS || task >= channelLayout.MAX_TASKS) return null;
  return task < 0 ? { kind: "signal", number } : { kind: "signal", number, task };
}

function decodeResults(argument: number): Doorbell | null {
  const task = (argument >>> 8) - 1;
  return task < 0 || task >= channelLayout.MAX_TASKS ? null : { kind: "results", task };
}

/** Decodes what was written to the doorbell port, or to the Linux program's pipe. */
export function decodeDoorbell(value: number): Doorbell {
  const argument = value >>> 8;
  switch (value & 0xff) {
    case 1:
      return decodeSignal(argument) ?? { kind: "unknown", value };
    case 2:
      return { kind: "finished" };
    case 3:
      return { kind: "panic", reason: panicReasons[argument] ?? `unknown reason ${argument}` };
    case 4:
      return { kind: "nmi" };
    case 5:
      return { kind: "ready" };
    case 6:
      return { kind: "idle" };
    case 7:
      return decodeResults(argument) ?? { kind: "unknown", value };
    default:
      return { kind: "unknown", value };
  }
}

const taskStates = ["unused", "ready", "sleeping", "done", "killed"] as const;
export type TaskState = (typeof taskStates)[number];

/** The last three: of the Linux program; `errno` and `short` of its system calls. */
const resultStatuses = [
  "not-reached",
  "started",
  "done",
  "efault",
  "sigbus",
  "sigsegv",
  "errno",
  "short",
] as const;
export type ResultStatus = (typeof resultStatuses)[number];

export type StepResult = {
  readonly status: ResultStatus;
  /** Of `sigbus` and `sigsegv` the si_code, of `errno` the errno, of `short` how many bytes. */
  readonly number: number;
  /** MAX_ACCESS_BYTES bytes; as many as the step's size mean something. A copy. */
  readonly bytes: Uint8Array;
  /** Time stamps of the guest (`guestTimeMs`), 0 if it never came to that: just before the access, and just after it or when its failure was reported to its task. */
  readonly began: bigint;
  readonly ended: bigint;
};

/** By enum event_kind, from 1. */
const eventKinds = [
  "unknown",
  "exception",
  "apf-not-present",
  "apf-ready",
  "machine-check",
  "virtualization-exception",
  "nmi",
  "pv-error",
  "sigbus",
  "fixup",
  "sigsegv",
] as const;

export type GuestEvent = {
  readonly kind: (typeof eventKinds)[number];
  readonly cpu: number;
  readonly task: number;
  readonly vector: number;
  readonly cpl: number;
  /** Pushed by the processor; MCi_STATUS; the exit qualification of #VE; si_code of SIGBUS and SIGSEGV. */
  readonly errorCode: bigint;
  /** CR2 of a #PF; MCi_ADDR; guest physical address of #VE; the token of an async page fault; the address of SIGBUS and SIGSEGV. */
  readonly cr2: bigint;
  readonly rip: bigint;
  readonly tsc: bigint;
};

function stepFlags({ interruptsOff, noFixup, until, tallies }: ProgramStep): number {
  const at = channelLayout;
  return (
    (interruptsOff ? at.STEP_INTERRUPTS_OFF : 0) |
    (noFixup ? at.STEP_NO_FIXUP : 0) |
    (until === undefined ? 0 : at.STEP_REPEATS) |
    (tallies ? at.STEP_TALLIES : 0)
  );
}

function taskFlags({ interruptsOff, nested, sigsegvIsSigbus }: TaskProgram): number {
  const at = channelLayout;
  return (
    (interruptsOff ? at.TASK_INTERRUPTS_OFF : 0) |
    (nested ? at.TASK_NESTED : 0) |
    (sigsegvIsSigbus ? at.TASK_SIGSEGV_IS_SIGBUS : 0)
  );
}

/** How many vCPUs the programs are for: one more than the highest number. Throws a RangeError beyond the limit. */
export function cpuCount(programs: readonly TaskProgram[]): number {
  const count = 1 + Math.max(0, ...programs.map(({ cpu }) => cpu ?? 0));
  if (count > channelLayout.MAX_CPUS)
    throw new RangeError(`${count} vCPUs: at most ${channelLayout.MAX_CPUS}`);
  return count;
}

/** A typed view of the channel in the guest's memory. */
export class Channel {
  readonly #view: DataView;

  /** @param memory the bytes of `struct channel`, and maybe more behind them */
  constructor(memory: Uint8Array) {
    this.#view = new DataView(memory.buffer, memory.byteOffset, channelLayout.sizeofChannel);
  }

  /** Writes configuration and programs. Before the guest's first instruction. */
  configure(configuration: number, programs: readonly TaskProgram[]): void {
    const at = channelLayout;
    if (programs.length === 0 || programs.length > at.MAX_TASKS) {
      throw new RangeError(`${programs.length} guest tasks: expected 1 to ${at.MAX_TASKS}`);
    }
    this.#view.setBigUint64(0, at.CHANNEL_MAGIC, true);
    this.#view.setUint32(at.offsetofConfiguration, configuration, true);
    this.#view.setUint32(at.offsetofTaskCount, programs.length, true);
    for (const [index, program] of programs.entries()) this.#writeProgram(index, program);
  }

  #writeProgram(task: number, program: TaskProgram): void {
    const at = channelLayout;
    if (program.steps.length > at.MAX_STEPS) {
      throw new RangeError(`${program.steps.length} steps for guest task ${task}: at most ${at.MAX_STEPS}`);
    }
    const base = at.offsetofPrograms + task * at.sizeofTaskProgram;
    this.#view.setUint8(base, program.cpl);
    this.#view.setUint8(
      base + at.offsetofProgramOnSigbus,
      sigbusReactions.indexOf(program.onSigbus ?? "killed"),
    );
    this.#view.setUint8(base + at.offsetofProgramCpu, program.cpu ?? 0);
    this.#view.setUint8(base + at.offsetofProgramFlags, taskFlags(program));
    this.#view.setUint32(base + at.offsetofProgramStepCount, program.steps.length, true);
    for (const [index, step] of program.steps.entries()) {
      const offset = base + at.offsetofProgramSteps + index * at.sizeofStep;
      this.#view.setUint16(offset, verbNumber[step.verb], true);
      this.#view.setUint16(offset + 2, stepFlags(step), true);
      this.#view.setUint16(offset + 4, step.size, true);
      this.#view.setUint16(offset + 6, step.until ?? 0, true);
      this.#view.setBigUint64(offset + 8, step.address, true);
      this.#view.setBigUint64(offset + 16, BigInt.asUintN(64, step.value), true);
    }
  }

  /** Changes the value of a step that tallies, while it runs. */
  setValue(task: number, step: number, value: bigint): void {
    const at = channelLayout;
    const program = at.offsetofPrograms + task * at.sizeofTaskProgram + at.offsetofProgramSteps;
    this.#view.setBigUint64(program + step * at.sizeofStep + 16, value, true);
  }

  tally(task: number, step: number): Tally {
    const at = channelLayout;
    const base =
      this.#report(task) + at.offsetofReportResults + step * at.sizeofResult + at.offsetofResultBytes;
    const word = (index: number): bigint => this.#view.getBigUint64(base + 8 * index, true);
    return {
      accesses: word(1),
      zeros: word(2),
      stale: word(3),
      lastStale: word(4),
      lastValue: word(5),
      sigbusCount: word(6),
    };
  }

  /** Raises a signal that guest tasks may be waiting for. */
  raise(signal: number): void {
    if (signal < 0 || signal >= channelLayout.MAX_SIGNALS) {
      throw new RangeError(`signal ${signal}: expected 0 to ${channelLayout.MAX_SIGNALS - 1}`);
    }
    this.#view.setUint32(channelLayout.offsetofSignals + 4 * signal, 1, true);
  }

  /** Takes a signal back, for the next round of a task that goes on `again`. */
  lower(signal: number): void {
    if (signal < 0 || signal >= channelLayout.MAX_SIGNALS) {
      throw new RangeError(`signal ${signal}: expected 0 to ${channelLayout.MAX_SIGNALS - 1}`);
    }
    this.#view.setUint32(channelLayout.offsetofSignals + 4 * signal, 0, true);
  }

  #report(task: number): number {
    return channelLayout.offsetofReports + task * channelLayout.sizeofTaskReport;
  }

  taskState(task: number): TaskState {
    return taskStates[this.#view.getUint32(this.#report(task), true)] ?? "unused";
  }

  #cpu(cpu: number): number {
    if (cpu < 0 || cpu >= channelLayout.MAX_CPUS) {
      throw new RangeError(`vCPU ${cpu}: expected 0 to ${channelLayout.MAX_CPUS - 1}`);
    }
    return channelLayout.offsetofCpus + cpu * channelLayout.sizeofCpuReport;
  }

  #cpuWord(cpu: number, offset: number): number {
    return this.#view.getUint32(this.#cpu(cpu) + offset, true);
  }

  #sumOverCpus(offset: number): number {
    const cpus = Array.from({ length: channelLayout.MAX_CPUS }, (_, cpu) => cpu);
    return cpus.reduce((sum, cpu) => sum + this.#cpuWord(cpu, offset), 0);
  }

  /** The task on the vCPU, or the last that was. */
  currentTask(cpu: number): number {
    return Math.min(this.#cpuWord(cpu, channelLayout.offsetofCpuCurrentTask), channelLayout.MAX_TASKS - 1);
  }

  /** Index of the step that the task is at, clamped to the program's bounds. */
  currentStep(task: number): number {
    const step = this.#view.getUint32(this.#report(task) + channelLayout.offsetofReportCurrentStep, true);
    return Math.min(step, channelLayout.MAX_STEPS - 1);
  }

  /** As configured, clamped to what there is room for. */
  get taskCount(): number {
    const count = this.#view.getUint32(channelLayout.offsetofTaskCount, true);
    return Math.min(count, channelLayout.MAX_TASKS);
  }

  /** Where a step's access begins, guest virtual. */
  address(task: number, step: number): bigint {
    const at = channelLayout;
    const program = at.offsetofPrograms + task * at.sizeofTaskProgram + at.offsetofProgramSteps;
    return this.#view.getBigUint64(program + step * at.sizeofStep + 8, true);
  }

  /** Is the step an instruction of the task itself that touches the window, and not in a VM of the task's own? */
  isOwnAccess(task: number, step: number): boolean {
    const at = channelLayout;
    const program = at.offsetofPrograms + task * at.sizeofTaskProgram;
    const flags = this.#view.getUint8(program + at.offsetofProgramFlags);
    const number = this.#view.getUint16(program + at.offsetofProgramSteps + step * at.sizeofStep, true);
    const verb = verbOfNumber.get(number);
    const touch = verb === undefined || verb === "again" ? null : guestVerbs[verb].touch;
    return (
      (flags & at.TASK_NESTED) === 0 && touch !== null && touch.instruction !== null && touch.by === "task"
    );
  }

  /** How often a counting task has counted. */
  count(task: number): bigint {
    return this.#view.getBigUint64(this.#report(task) + channelLayout.offsetofReportCount, true);
  }

  /** Where the task was when it last lost the processor; 0 if it never did. */
  savedRip(task: number): bigint {
    return this.#view.getBigUint64(this.#report(task) + channelLayout.offsetofReportRip, true);
  }

  result(task: number, step: number): StepResult {
    const at = channelLayout;
    const base = this.#report(task) + at.offsetofReportResults + step * at.sizeofResult;
    const start = this.#view.byteOffset + base + at.offsetofResultBytes;
    return {
      status: resultStatuses[this.#view.getUint32(base, true)] ?? "not-reached",
      number: this.#view.getInt32(base + at.offsetofResultCode, true),
      bytes: new Uint8Array(this.#view.buffer, start, at.MAX_ACCESS_BYTES).slice(),
      began: this.#view.getBigUint64(base + at.offsetofResultBegan, true),
      ended: this.#view.getBigUint64(base + at.offsetofResultEnded, true),
    };
  }

  /** Of all vCPUs, as the next two. */
  get apfNotPresentCount(): number {
    return this.#sumOverCpus(channelLayout.offsetofCpuApfNotPresentCount);
  }

  get apfReadyCount(): number {
    return this.#sumOverCpus(channelLayout.offsetofCpuApfReadyCount);
  }

  get oopsCount(): number {
    return this.#sumOverCpus(channelLayout.offsetofCpuOopsCount);
  }

  get nmiCount(): number {
    return this.#sumOverCpus(channelLayout.offsetofCpuNmiCount);
  }

  /** Scheduling decisions of the micro-kernel: grows while it is alive. */
  get heartbeat(): number {
    return this.#sumOverCpus(channelLayout.offsetofCpuHeartbeat);
  }

  /** The same of one vCPU. */
  heartbeatOf(cpu: number): number {
    return this.#cpuWord(cpu, channelLayout.offsetofCpuHeartbeat);
  }

  /** Page-not-present events without their page-ready so far. */
  get outstanding(): number {
    return this.#sumOverCpus(channelLayout.offsetofCpuOutstanding);
  }

  /** Page-ready events that are kept because they found no sleeper. */
  get earlyTokens(): number {
    return this.#sumOverCpus(channelLayout.offsetofCpuEarlyTokens);
  }

  /** All events that happened; only the first MAX_EVENTS of each vCPU are kept, which `events()` returns. */
  get eventCount(): number {
    return this.#sumOverCpus(channelLayout.offsetofCpuEventCount);
  }

  /** In order of time: the vCPUs' time-stamp counters agree. */
  events(): GuestEvent[] {
    const cpus = Array.from({ length: channelLayout.MAX_CPUS }, (_, cpu) => this.#eventsOf(cpu));
    return cpus.flat().sort((a, b) => (a.tsc < b.tsc ? -1 : a.tsc > b.tsc ? 1 : 0));
  }

  #eventsOf(cpu: number): GuestEvent[] {
    const at = channelLayout;
    const kept = Math.min(this.#cpuWord(cpu, at.offsetofCpuEventCount), at.MAX_EVENTS);
    return Array.from({ length: kept }, (_, index) => {
      const base = this.#cpu(cpu) + at.offsetofCpuEvents + index * at.sizeofEvent;
      return {
        kind: eventKinds[this.#view.getUint32(base, true)] ?? "unknown",
        cpu,
        task: this.#view.getUint32(base + 4, true),
        vector: this.#view.getUint32(base + 8, true),
        cpl: this.#view.getUint32(base + 12, true),
        errorCode: this.#view.getBigUint64(base + 16, true),
        cr2: this.#view.getBigUint64(base + 24, true),
        rip: this.#view.getBigUint64(base + 32, true),
        tsc: this.#view.getBigUint64(base + 40, true),
      };
    });
  }
}
