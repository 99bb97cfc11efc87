/**
 * The thread of one vCPU (a worker_thread): KVM_RUN until the guest has finished, and the watchdog.
 *
 * While it runs it receives no messages: the machine's owner uses the control words, the channel in guest memory,
 * and the kick signal. A per-thread timer (SIGEV_THREAD_ID) interrupts KVM_RUN at every tick; the signal is blocked
 * outside KVM_RUN and unblocked inside by KVM_SET_SIGNAL_MASK, so that no tick is lost between test and entry
 * (api.rst, KVM_SET_SIGNAL_MASK).
 */
import { parentPort } from "node:worker_threads";
import {
  blockSignal,
  consumeSignal,
  isPageThere,
  kernelSignalSetExcept,
  PAGE_SIZE,
  SIGBUS,
  startThreadTimer,
  takeBusError,
  threadId,
  viewOf,
} from "../../../sys/src/index.ts";
import {
  channelOf,
  type DecodedAccess,
  decodeAccess,
  FAULT_COUNTER,
  loadImage,
  machineLayout,
  Vcpu,
} from "../arch/index.ts";
import { type Channel, decodeDoorbell, touchOfStep, WINDOW_BASE } from "../guest/channel.ts";
import type { VcpuExit } from "../kvm/exit.ts";
import { VcpuStats } from "../kvm/stats.ts";
import { gpaToHva } from "../kvm/vm.ts";
import { policies } from "../policy/index.ts";
import { type FaultContext, type FaultPolicy, type PolicyAction, resume, stop } from "../policy/policy.ts";
import { PageStates, pageState } from "../recall.ts";
import { KICK_SIGNAL } from "./kick.ts";
import {
  command,
  controlWord,
  type EndReason,
  type FinalState,
  type GuestClock,
  kickAll,
  monotonicMs,
  type Place,
  type VcpuMessage,
  type VcpuNews,
  type VcpuThreadInput,
} from "./messages.ts";
import { defaultWatchdogOptions, type PendingAccess, Watchdog } from "./watchdog.ts";

/** How long a vCPU without an in-kernel APIC, which nothing can wake, stays halted before it looks around again. */
const HALT_MS = 1;

function isMemoryError(exit: VcpuExit): boolean {
  return (exit.kind === "error" && exit.errno === "EFAULT") || exit.kind === "memory-fault";
}

class VcpuThread {
  readonly #input: VcpuThreadInput;
  readonly #control: Int32Array;
  readonly #vcpu: Vcpu;
  readonly #channel: Channel;
  readonly #stats: VcpuStats;
  readonly #watchdog: Watchdog;
  readonly #cpu: number;
  readonly #post: (news: VcpuNews) => void;
  readonly #ram: DataView;
  readonly #policy: FaultPolicy;
  readonly #states: PageStates | null;
  /** Of the page states, when the guest was last entered. */
  #generation = 0;
  readonly #image = loadImage();
  /** Times in a row that the policy was asked about the same instruction. */
  #repeats = 0;
  #lastPlace = "";
  /** The access last reported to loop or to wait, `task/step`. */
  #reportedStuck: string | null = null;

  constructor(input: VcpuThreadInput, post: (message: VcpuMessage) => void) {
    this.#input = input;
    this.#cpu = input.cpu;
    this.#post = (news) => post({ cpu: input.cpu, ...news });
    this.#watchdog = new Watchdog({
      ...defaultWatchdogOptions,
      ioPatienceMs: input.ioPatienceMs,
      isIoAnswered: input.isIoAnswered,
    });
    this.#control = new Int32Array(input.control);
    this.#vcpu = new Vcpu(input.vcpuFd, input.runBytes);
    const ram = viewOf(input.ramAddress, Number(machineLayout.RAM_BYTES));
    this.#ram = new DataView(ram.buffer, ram.byteOffset, ram.byteLength);
    this.#channel = channelOf(ram);
    this.#policy = policies[input.policy];
    this.#states = input.pageStates === null ? null : new PageStates(input.window.hva, input.pageStates);
    this.#stats = new VcpuStats(input.vcpuFd);
  }

  run(): void {
    blockSignal(KICK_SIGNAL);
    blockSignal(SIGBUS);
    this.#vcpu.setSignalMask(kernelSignalSetExcept([KICK_SIGNAL, SIGBUS]));
    Atomics.store(this.#control, controlWord.threadIds + this.#cpu, threadId());
    const clock = this.#readClock();
    const timer = startThreadTimer(KICK_SIGNAL, this.#input.tickMs);
    const why = this.#untilTheEnd();
    timer.stop();
    Atomics.store(this.#control, controlWord.threadIds + this.#cpu, 0);
    const final: FinalState = {
      counters: this.#stats.readAll(),
      asyncPageFaultMsr: this.#vcpu.asyncPageFaultMsr(),
      clock,
    };
    // An open descriptor of a vCPU keeps its VM.
    this.#stats.close();
    this.#vcpu.unmapRun();
    this.#post({ type: "ended", why, final });
  }

  #readClock(): GuestClock | null {
    const tscKhz = this.#vcpu.tscKhz();
    const tsc = this.#vcpu.timeStampCounter();
    return tscKhz === null || tsc === null ? null : { tsc, tscKhz, atMs: monotonicMs() };
  }

  /** Bounded by the machine's owner, whose time limit ends in `stop`, and by the process's own hard limit. */
  #untilTheEnd(): EndReason {
    for (;;) {
      if (this.#awaitPermission() === command.stop) return { kind: "stopped-from-outside" };
      this.#generation = this.#states?.generation ?? 0;
      const exit = this.#vcpu.run();
      if (exit.kind === "interrupted") {
        consumeSignal(KICK_SIGNAL);
        const busError = takeBusError();
        const end = busError === null ? null : this.#busError(busError.address);
        if (end !== null) return end;
        this.#tick();
        continue;
      }
      if (exit.kind === "hlt" && !this.#input.lapicInKernel) {
        Atomics.wait(this.#control, controlWord.command, command.run, HALT_MS);
      } else if (exit.kind === "io") {
        const end = this.#portAccess(exit);
        if (end !== null) return end;
      } else this.#stopped(exit);
    }
  }

  /** Waits while the VM is paused. Returns `run` or `stop`. */
  #awaitPermission(): number {
    for (;;) {
      const now = Atomics.load(this.#control, controlWord.command);
      if (now !== command.pause) return now;
      Atomics.wait(this.#control, controlWord.command, command.pause);
      this.#watchdog.reset();
    }
  }

  #portAccess(exit: VcpuExit & { kind: "io" }): EndReason | null {
    if (exit.port !== machineLayout.DOORBELL_PORT || exit.direction !== "out" || exit.size !== 4) {
      return {
        kind: "defect",
        message: `port 0x${exit.port.toString(16)} ${exit.direction} of ${exit.size} bytes: not the doorbell`,
      };
    }
    const doorbell = decodeDoorbell(exit.value);
    switch (doorbell.kind) {
      case "signal":
        // The guest got on: what the policy did before was not in vain.
        this.#repeats = 0;
        this.#post({ type: "signal", number: doorbell.number, task: this.#channel.currentTask(this.#cpu) });
        return null;
      case "finished":
        this.#tick();
        return { kind: "finished" };
      case "nmi":
        this.#vcpu.injectNmi();
        return null;
      case "panic":
        return { kind: "guest-panic", reason: doorbell.reason };
      case "ready":
      case "idle":
        return { kind: "defect", message: `the doorbell says ${doorbell.kind}, which no micro-guest does` };
      case "unknown":
        return { kind: "defect", message: `doorbell 0x${doorbell.value.toString(16)} means nothing` };
    }
  }

  /** Anything else than a port access or a signal: the policy's turn, then the owner's `resume` or `stop`. */
  #stopped(exit: VcpuExit): void {
    if (this.#isBackAfterRecall(exit)) {
      this.#watchdog.reset();
      return;
    }
    const atMs = monotonicMs();
    const place = this.#place(this.#channel.currentTask(this.#cpu));
    const action = this.#consultPolicy(exit, place, null);
    if (action.kind === "resume") {
      this.#watchdog.reset();
      this.#post({ type: "handled", atMs, policy: this.#policy.name, detail: action.detail, exit, place });
      return;
    }
    // A VM stops once: where another vCPU was first, this one's access is tried again if the VM ever goes on.
    const before = Atomics.compareExchange(this.#control, controlWord.command, command.run, command.pause);
    if (before !== command.run) return;
    kickAll(this.#control);
    this.#post({ type: "stopped", exit, place, reason: action.reason });
  }

  /** The page was taken away by a recall, not by a truncation: waits until it is restored or lost. True: it is back. */
  #isBackAfterRecall(exit: VcpuExit): boolean {
    if (this.#states === null || !isMemoryError(exit)) return false;
    const access = this.#faultContext(exit)?.access ?? null;
    if (access === null) return false;
    const hva = this.#input.window.hva + (access.gva - WINDOW_BASE);
    const state = this.#states.of(hva);
    // Recalled and given back since the guest was entered: what it met is no more.
    if (state === pageState.open && this.#states.generation !== this.#generation) return true;
    if (state === pageState.open) this.#states.recordUnannounced();
    if (state !== pageState.recalled) return false;
    const isWanted = (): boolean => Atomics.load(this.#control, controlWord.command) !== command.run;
    return this.#states.await(hva, isWanted) === pageState.open;
  }

  /** @param poisoned the address of a BUS_MCEERR_AR, or null at an exit */
  #consultPolicy(exit: VcpuExit, place: Place | null, poisoned: bigint | null): PolicyAction {
    if (poisoned === null && !isMemoryError(exit)) return stop(`no policy deals with ${exit.kind}`);
    // A guest that comes back to the same instruction again and again has not understood.
    const where = place === null ? "" : `${place.task}/${place.step}/${place.rip}`;
    this.#repeats = where === this.#lastPlace ? this.#repeats + 1 : 1;
    this.#lastPlace = where;
    const { maxRepeats } = this.#input;
    if (this.#repeats > maxRepeats) return stop(`no progress after ${maxRepeats} times ${this.#policy.name}`);
    const context = this.#faultContext(exit);
    if (context === null) return resume("the guest no longer maps the page: its own fault is next");
    try {
      if (poisoned === null) return this.#policy.onFault(context);
      return this.#policy.onSigbus?.(context, poisoned) ?? stop(`${this.#policy.name} expects no SIGBUS`);
    } catch (error) {
      return stop(error instanceof Error ? error.message : String(error));
    }
  }

  /** Null if another vCPU has unmapped the page from the guest since this one's access left the guest. */
  #faultContext(exit: VcpuExit): FaultContext | null {
    const { vmFd, lapicInKernel, window } = this.#input;
    const registers = this.#vcpu.getRegisters();
    const decoded = decodeAccess(this.#image, registers, { base: WINDOW_BASE, sizeBytes: window.sizeBytes });
    const access = decoded === null ? null : this.#lostPart(decoded);
    const gpa = access === null ? null : this.#vcpu.translate(access.gva);
    if (access !== null && gpa === null) return null;
    return {
      vcpu: this.#vcpu,
      cpu: this.#cpu,
      vmFd,
      lapicInKernel,
      exit,
      access: access === null || gpa === null ? null : { ...access, gpa },
      interruptsOn: this.#vcpu.interruptsOn(),
      ram: this.#ram,
      window,
    };
  }

  /** Of an access that crosses into another page: from there on, if the first page is there. KVM does not report which it was. */
  #lostPart(access: DecodedAccess): DecodedAccess {
    const page = BigInt(PAGE_SIZE);
    const next = (access.gva / page + 1n) * page;
    const beyond = Number(access.gva + BigInt(access.lengthBytes) - next);
    if (beyond <= 0) return access;
    const gpa = this.#vcpu.translate(access.gva);
    const hva = gpa === null ? null : gpaToHva(this.#input.memslots, gpa);
    const isThere = hva !== null && isPageThere(hva & -page, access.kind === "write" ? "write" : "read");
    return isThere ? { ...access, gva: next, lengthBytes: beyond } : access;
  }

  /** KVM_RUN was interrupted by a BUS_MCEERR_AR for this thread: a poisoned page was touched. */
  #busError(address: bigint): EndReason | null {
    const place = this.#place(this.#channel.currentTask(this.#cpu));
    const atMs = monotonicMs();
    const exit: VcpuExit = { kind: "interrupted" };
    const action = this.#consultPolicy(exit, place, address);
    if (action.kind === "stop")
      return { kind: "defect", message: `SIGBUS at 0x${address.toString(16)}: ${action.reason}` };
    this.#post({ type: "handled", atMs, policy: this.#policy.name, detail: action.detail, exit, place });
    return null;
  }

  /** Accesses of this vCPU's tasks that were started and have not finished, by task. */
  #pending(): Map<number, PendingAccess> {
    const pending = new Map<number, PendingAccess>();
    for (const [task, program] of this.#input.programs.entries()) {
      if ((program.cpu ?? 0) !== this.#cpu) continue;
      const index = this.#channel.currentStep(task);
      const step = program.steps[index];
      if (step === undefined || touchOfStep(step) === null) continue;
      const { status, began } = this.#channel.result(task, index);
      if (status === "started") pending.set(task, { step: index, began });
    }
    return pending;
  }

  /** Steps that this vCPU's tasks have begun. */
  #begun(): number {
    let steps = 0;
    for (const [task, program] of this.#input.programs.entries()) {
      if ((program.cpu ?? 0) !== this.#cpu) continue;
      const step = this.#channel.currentStep(task);
      steps += step + (this.#channel.result(task, step).status === "not-reached" ? 0 : 1);
    }
    return steps;
  }

  #tick(): void {
    const pending = this.#pending();
    if (
      this.#reportedStuck !== null &&
      ![...pending].some(([task, { step }]) => `${task}/${step}` === this.#reportedStuck)
    ) {
      this.#reportedStuck = null;
      this.#post({ type: "unstuck" });
    }
    const pageFaults = this.#stats.read(FAULT_COUNTER);
    if (pageFaults === null) return;
    const notPresentEvents = this.#channel.apfNotPresentCount;
    const begun = this.#begun();
    const loop = this.#watchdog.sample({
      atMs: performance.now(),
      pageFaults,
      notPresentEvents,
      ticks: this.#channel.heartbeatOf(this.#cpu),
      begun,
      pending,
    });
    if (loop === null) {
      this.#reportWait();
      return;
    }
    if (this.#reportedStuck === `${loop.task}/${loop.step}`) return;
    this.#reportedStuck = `${loop.task}/${loop.step}`;
    const { faultsPerSecond, overMs } = loop;
    this.#post({ type: "looping", faultsPerSecond, overMs, place: this.#place(loop.task) });
  }

  #reportWait(): void {
    const wait = this.#watchdog.waits();
    if (wait === null || this.#reportedStuck === `${wait.task}/${wait.step}`) return;
    this.#reportedStuck = `${wait.task}/${wait.step}`;
    const isAsleep = this.#channel.taskState(wait.task) === "sleeping";
    const detail = isAsleep ? "the guest's task sleeps" : "halted by KVM (apf.halted)";
    const place = this.#place(wait.task);
    this.#post({ type: "waiting", in: isAsleep ? "guest" : "halt", overMs: wait.overMs, place, detail });
  }

  #place(task: number): Place | null {
    const step = this.#channel.currentStep(task);
    const program = this.#input.programs[task]?.steps[step];
    const touch = program === undefined ? null : touchOfStep(program);
    if (program === undefined || touch === null) return null;
    const inSystemCall = touch.by === "kernel";
    const gva = program.address;
    const gpa = this.#vcpu.translate(gva);
    const now = { rip: this.#vcpu.getRegisters().rip, cpl: this.#vcpu.currentPrivilegeLevel() };
    // A tick may find the vCPU with another task, or in the micro-kernel: then the task is where it was interrupted.
    const taskCpl = this.#input.programs[task]?.cpl ?? 3;
    const isThere = this.#channel.currentTask(this.#cpu) === task && (now.cpl === taskCpl || inSystemCall);
    const saved = { rip: this.#channel.savedRip(task), cpl: taskCpl };
    return {
      ...(isThere || saved.rip === 0n ? now : saved),
      task,
      step,
      gva,
      gpa,
      hva: gpa === null ? null : gpaToHva(this.#input.memslots, gpa),
    };
  }
}

if (parentPort !== null) {
  const port = parentPort;
  port.on("message", (input: VcpuThreadInput) => {
    new VcpuThread(input, (message) => port.postMessage(message)).run();
  });
}
