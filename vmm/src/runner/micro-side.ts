/** The micro-guest's side of a vCPU thread: its doorbell, its channel, the decoder of its accesses, the watchdog's samples. */
import { isPageThere, PAGE_SIZE, viewOf } from "../../../sys/src/index.ts";
import {
  channelOf,
  type DecodedAccess,
  decodeAccess,
  FAULT_COUNTER,
  loadImage,
  machineLayout,
  type Vcpu,
} from "../arch/index.ts";
import {
  type Channel,
  decodeDoorbell,
  type TaskProgram,
  touchOfStep,
  WINDOW_BASE,
} from "../guest/channel.ts";
import type { VcpuExit } from "../kvm/exit.ts";
import type { Stats } from "../kvm/stats.ts";
import { gpaToHva } from "../kvm/vm.ts";
import type { FaultContext } from "../policy/policy.ts";
import { done, ended, type GuestSide, notMine, type Taken } from "./guest-side.ts";
import type { Place, VcpuNews, VcpuThreadInput } from "./messages.ts";
import type { VcpuCore } from "./vcpu-core.ts";
import type { PendingAccess, Watchdog } from "./watchdog.ts";

export class MicroSide implements GuestSide {
  readonly #core: VcpuCore;
  readonly #input: VcpuThreadInput;
  readonly #programs: readonly TaskProgram[];
  readonly #cpu: number;
  readonly #vcpu: Vcpu;
  readonly #stats: Stats;
  readonly #watchdog: Watchdog;
  readonly #post: (news: VcpuNews) => void;
  readonly #channel: Channel;
  readonly #ram: DataView;
  readonly #image = loadImage();
  /** The access last reported to loop or to wait, `task/step`. */
  #reportedStuck: string | null = null;
  /** So often the kick signal has interrupted KVM_RUN. */
  #kicks = 0;

  constructor(core: VcpuCore, input: VcpuThreadInput, programs: readonly TaskProgram[]) {
    this.#core = core;
    this.#input = input;
    this.#programs = programs;
    this.#cpu = core.cpu;
    this.#vcpu = core.vcpu;
    this.#stats = core.stats;
    this.#watchdog = core.watchdog;
    this.#post = core.post;
    const ram = viewOf(input.ramAddress, Number(machineLayout.RAM_BYTES));
    this.#ram = new DataView(ram.buffer, ram.byteOffset, ram.byteLength);
    this.#channel = channelOf(ram);
  }

  take(exit: VcpuExit): Taken {
    return exit.kind === "io" ? this.#portAccess(exit) : notMine;
  }

  faultContext(exit: VcpuExit): FaultContext | null {
    return this.#faultContext(exit);
  }

  place(): Place | null {
    return this.#place(this.#channel.currentTask(this.#cpu));
  }

  tick(): void {
    this.#tick();
  }

  #portAccess(exit: VcpuExit & { kind: "io" }): Taken {
    if (exit.port !== machineLayout.DOORBELL_PORT || exit.direction !== "out" || exit.size !== 4) {
      const port = `port 0x${exit.port.toString(16)}`;
      const message = `${port} ${exit.direction} of ${exit.size} bytes: not the doorbell`;
      return ended({ kind: "defect", message });
    }
    const doorbell = decodeDoorbell(exit.value);
    switch (doorbell.kind) {
      case "signal":
        this.#core.progressed();
        this.#post({
          type: "signal",
          number: doorbell.number,
          task: this.#channel.currentTask(this.#cpu),
          asyncPageFaultMsr: this.#vcpu.asyncPageFaultMsr(),
        });
        return done;
      case "finished":
        this.#tick();
        return ended({ kind: "finished" });
      case "nmi":
        this.#vcpu.injectNmi();
        return done;
      case "panic":
        return ended({ kind: "guest-panic", reason: doorbell.reason });
      case "ready":
      case "idle":
      case "results":
        return ended({
          kind: "defect",
          message: `the doorbell says ${doorbell.kind}, which no micro-guest does`,
        });
      case "unknown":
        return ended({
          kind: "defect",
          message: `doorbell 0x${doorbell.value.toString(16)} means nothing`,
        });
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
      pageFaultForm: "not-present",
      // To its handler every machine check is its own CPU's: it holds no rendezvous.
      broadcastMachineCheck() {},
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

  /** Accesses of this vCPU's tasks that were started and have not finished, by task. */
  #pending(): Map<number, PendingAccess> {
    const pending = new Map<number, PendingAccess>();
    for (const [task, program] of this.#programs.entries()) {
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
    for (const [task, program] of this.#programs.entries()) {
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
    this.#kicks += 1;
    const pageFaults = this.#stats.read(FAULT_COUNTER);
    if (pageFaults === null) return;
    const notPresentEvents = this.#channel.apfNotPresentCount;
    const begun = this.#begun();
    const loop = this.#watchdog.sample({
      atMs: performance.now(),
      pageFaults,
      notPresentEvents,
      // A kick ends a synchronous fault that can be interrupted (FOLL_INTERRUPTIBLE), and the access faults again.
      ticks: this.#channel.heartbeatOf(this.#cpu) + this.#kicks,
      begun,
      pending,
    });
    if (loop === null) {
      this.#reportWait();
      return;
    }
    if (this.#reportedStuck === `${loop.task}/${loop.step}`) return;
    this.#reportedStuck = `${loop.task}/${loop.step}`;
    const { proof, faultsPerSecond, overMs } = loop;
    this.#post({ type: "looping", proof, faultsPerSecond, overMs, place: this.#place(loop.task) });
  }

  #reportWait(): void {
    const wait = this.#watchdog.waits();
    if (wait === null || this.#reportedStuck === `${wait.task}/${wait.step}`) return;
    this.#reportedStuck = `${wait.task}/${wait.step}`;
    const isAsleep = this.#channel.taskState(wait.task) === "sleeping";
    const isHalted = this.#input.lapicInKernel && this.#vcpu.interruptsOn();
    const [where, detail] = isAsleep
      ? (["guest", "the guest's task sleeps"] as const)
      : isHalted
        ? (["halt", "halted by KVM (apf.halted)"] as const)
        : ([
            "page fault",
            "asleep, and each interruption ends in the same fault (FOLL_INTERRUPTIBLE)",
          ] as const);
    const place = this.#place(wait.task);
    this.#post({ type: "waiting", in: where, overMs: wait.overMs, place, detail });
  }

  #place(task: number): Place | null {
    const step = this.#channel.currentStep(task);
    const program = this.#programs[task]?.steps[step];
    const touch = program === undefined ? null : touchOfStep(program);
    if (program === undefined || touch === null) return null;
    const inSystemCall = touch.by === "kernel";
    const gva = program.address;
    const gpa = this.#vcpu.translate(gva);
    const now = { rip: this.#vcpu.getRegisters().rip, cpl: this.#vcpu.currentPrivilegeLevel() };
    // A tick may find the vCPU with another task, or in the micro-kernel: then the task is where it was interrupted.
    const taskCpl = this.#programs[task]?.cpl ?? 3;
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
