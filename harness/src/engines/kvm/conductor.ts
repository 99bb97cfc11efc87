/**
 * Conducts one case inside the VM process: starts the vCPUs, passes signals, does the VMM actors' steps, and decides
 * when the case is over.
 *
 * Over is: the guest has finished; the VM stopped or a vCPU loops and nobody will change that; or the life limit.
 */

import { setTimeout as sleep } from "node:timers/promises";
import type { GuardEvent } from "../../../../fs-server/src/index.ts";
import { type EventKind, STUCK } from "../../../../language/src/index.ts";
import { PAGE_SIZE } from "../../../../sys/src/index.ts";
import {
  type EndReason,
  type FenceEvent,
  type FinalState,
  finalOfAll,
  type GuestEvent,
  guestTimeMs,
  type HolderEvent,
  type Machine,
  monotonicMs,
  startVm,
  type VcpuMessage,
  type VmRunner,
} from "../../../../vmm/src/index.ts";
import { Signals } from "../child-side.ts";
import type { FromVm, VmEvent, VmReport, VmState } from "./messages.ts";
import type { VmPlan } from "./plan.ts";
import { Waiting } from "./waiting.ts";

/** A loop may end by itself once the host has repaired the file: this long is waited for it, from the last repair. */
const REPAIR_GRACE_MS = 1000;
/** How often the counting tasks are looked at while an access is under way. */
const SAMPLE_MS = 5;
/**
 * After the proof of a loop that nobody will end: the other tasks get to where they stand or fall. They do within
 * milliseconds on an idle machine; who has not after this long has been kept from it.
 */
const OTHERS_MS = 3000;
const OTHERS_POLL_MS = 5;

export class Conductor {
  readonly #plan: VmPlan;
  readonly #machine: Machine;
  readonly #send: (message: FromVm) => void;
  readonly #signals = new Signals();
  readonly #history: VmState[] = [];
  readonly #events: VmEvent[] = [];
  /** Accesses already told, `task/step`. */
  readonly #told = new Set<string>();
  #countsAtTrouble: readonly bigint[] | null = null;
  readonly #waiting = new Waiting();
  #heartbeatAtTrouble = 0;
  #runner: VmRunner | null = null;
  #stopped = false;
  #vmmActorsDone = false;
  #hostSettled = false;
  #outOfTime = false;
  /** The threads of the vCPUs have ended; the guest's memory is about to go. */
  #isOver = false;
  /** vCPUs that are in an endless loop. */
  readonly #looping = new Set<number>();
  #end: EndReason | null = null;
  /** By vCPU. */
  readonly #finals: FinalState[] = [];

  constructor(plan: VmPlan, machine: Machine, send: (message: FromVm) => void) {
    this.#plan = plan;
    this.#machine = machine;
    this.#send = send;
  }

  /** Runs the case to its end. Rejects only for a defect of ours. */
  async run(): Promise<void> {
    this.#runner = startVm(
      this.#machine,
      this.#plan.tasks.map(({ program }) => program),
      (message) => this.#take(message),
      { ioPatienceMs: this.#plan.ioPatienceMs },
    );
    const { lifeMs, latestEndMs } = this.#plan;
    const life = setTimeout(
      () => {
        this.#outOfTime = true;
        this.#runner?.stop();
      },
      Math.max(0, Math.min(lifeMs, latestEndMs - monotonicMs())),
    );
    void Promise.all(this.#plan.vmmActors.map((one) => this.#playVmm(one.actor, one.steps))).then(() => {
      this.#vmmActorsDone = true;
      this.#considerEnding();
    });
    const sampling = setInterval(() => this.#sampleWaits(), SAMPLE_MS);
    await this.#runner.exited;
    clearInterval(sampling);
    clearTimeout(life);
    this.#isOver = true;
  }

  /** A signal raised elsewhere. */
  raise(name: string): void {
    const number = this.#plan.signals.indexOf(name);
    if (number >= 0) this.#machine.channel.raise(number);
    this.#signals.raise(name);
  }

  /** The fence has moved: for the trace. */
  fenced({ kind, hva, lengthBytes }: FenceEvent): void {
    const what = kind === "fence" ? "PROT_NONE" : "readable and writable again";
    this.#note(
      kind === "fence" ? "unmap" : "remap",
      "fence",
      null,
      `${lengthBytes} bytes from hva 0x${hva.toString(16)}: ${what}`,
    );
  }

  /** The guard was told of something, or has told it: for the trace. */
  guarded(event: GuardEvent): void {
    switch (event.kind) {
      case "recall":
        this.#note(
          "lease-break",
          "guard",
          null,
          `recall from ${event.threat.fromBytes} on: ${event.threat.by}`,
        );
        return;
      case "recalled":
        this.#note("lease-release", "guard", null, event.end);
        return;
      case "settle":
        this.#note("remap", "guard", null, `the file has ${event.sizeBytes} bytes`);
        return;
      case "cut-off":
        this.#note("guard-refused", "guard", null, event.reason);
    }
  }

  /** The window's owner has done something for the guard. */
  heldBy({ kind, hva, lengthBytes, detail }: HolderEvent): void {
    const what = `${kind}: ${lengthBytes} bytes from hva 0x${hva.toString(16)}: ${detail}`;
    this.#note(kind === "restored" ? "map" : "unmap", "vmm", null, what);
  }

  /** Nothing of the memory is in memory any more. */
  swappedOut(lengthBytes: number): void {
    this.#note(
      "swap-out",
      "vmm",
      null,
      `${lengthBytes / PAGE_SIZE} pages; mincore finds none of them in memory`,
    );
  }

  unguarded(reason: string): void {
    this.#note("guard-refused", "guard", null, reason);
  }

  hostSettled(): void {
    this.#hostSettled = true;
    this.#considerEnding();
  }

  #raiseOurs(name: string, from: string): void {
    this.raise(name);
    this.#send({ type: "signal", name, from });
  }

  #take(message: VcpuMessage): void {
    switch (message.type) {
      case "signal": {
        this.#tellResults();
        const name = this.#plan.signals[message.number];
        const task = this.#plan.tasks[message.task];
        if (name !== undefined) this.#raiseOurs(name, task?.actor ?? `task ${message.task}`);
        return;
      }
      case "stopped":
        this.#stopped = true;
        this.#trouble({ kind: "stopped", exit: message.exit, place: message.place });
        this.#note("exit", "kvm", message.place?.gpa ?? null, JSON.stringify(message.exit, bigintText));
        return;
      case "looping": {
        this.#looping.add(message.cpu);
        const { faultsPerSecond, place } = message;
        const trouble = (): void => this.#trouble({ kind: "looping", faultsPerSecond, place });
        // Told after the fact, a window's owner ends the loop, late: on a busy machine later than the proof takes.
        if (this.#endsLoops) this.#ifStillLooping(message.cpu, trouble);
        else trouble();
        const rate = `${Math.round(faultsPerSecond)} faults/s over ${Math.round(message.overMs)} ms`;
        this.#note("fault", "kvm", place?.gpa ?? null, rate);
        return;
      }
      case "handled":
        this.#waiting.answered();
        this.#note("inject", "vmm", message.place?.gpa ?? null, `${message.policy}: ${message.detail}`);
        return;
      case "unstuck":
        this.#looping.delete(message.cpu);
        if (this.#looping.size === 0) this.#recovered();
        return;
      case "ended":
        this.#takeEnd(message.cpu, message.why, message.final);
    }
  }

  /** The first vCPU that ends by itself says why the VM ended; the others are then stopped. */
  #takeEnd(cpu: number, why: EndReason, final: FinalState): void {
    this.#finals[cpu] = final;
    if (this.#end === null || this.#end.kind === "stopped-by-conductor") this.#end = why;
    this.#tellResults();
    if (why.kind === "finished") this.#recovered();
  }

  /** Says which accesses have finished since the last time. */
  #tellResults(): void {
    for (const [task, { program }] of this.#plan.tasks.entries()) {
      for (const step of program.steps.keys()) {
        const key = `${task}/${step}`;
        if (this.#told.has(key)) continue;
        const { status, bytes } = this.#machine.channel.result(task, step);
        if (status !== "done") continue;
        this.#told.add(key);
        const size = program.steps[step]?.size ?? 0;
        this.#send({ type: "saw", task, step, bytes: bytes.subarray(0, size) });
      }
    }
  }

  #trouble(state: VmState): void {
    // Two vCPUs in a loop are one VM in a loop.
    const isKnown = state.kind === "looping" && this.#history.at(-1)?.kind === "looping";
    if (!isKnown) this.#history.push(state);
    if (this.#countsAtTrouble === null) {
      this.#countsAtTrouble = this.#counts();
      this.#heartbeatAtTrouble = this.#machine.channel.heartbeat;
    }
    this.#raiseOurs(STUCK, "kvm");
    this.#considerEnding();
  }

  /** Is the window's owner told of what makes a vCPU loop, sooner or later? */
  get #endsLoops(): boolean {
    return this.#plan.fence || this.#plan.guard?.name === "notify";
  }

  #ifStillLooping(cpu: number, trouble: () => void): void {
    setTimeout(() => {
      if (!this.#isOver && this.#looping.has(cpu)) trouble();
    }, REPAIR_GRACE_MS).unref();
  }

  #recovered(): void {
    if (this.#history.at(-1)?.kind !== "running") this.#history.push({ kind: "running" });
  }

  #counts(): bigint[] {
    return this.#plan.tasks.map((_, task) => this.#machine.channel.count(task));
  }

  /** Ends the case if the vCPU is in trouble and nobody is left who could help it. */
  #considerEnding(): void {
    const last = this.#history.at(-1);
    if (last === undefined || last.kind === "running") return;
    const settled = !this.#plan.stuckIsAwaited || this.#vmmActorsDone;
    if (last.kind === "stopped") {
      if (settled && this.#stopped) this.#runner?.stop();
    } else if (!this.#plan.stuckIsAwaited) void this.#stopWhenOthersAreThere();
    else if (this.#hostSettled && settled) this.#stopUnlessRunning(REPAIR_GRACE_MS);
  }

  #sampleWaits(): void {
    const counts = this.#counts();
    const { channel } = this.#machine;
    const pending = this.#plan.tasks.flatMap((_, task) => {
      const step = channel.currentStep(task);
      const { status, began } = channel.result(task, step);
      return status === "started" ? [`${task}/${step}/${began}`] : [];
    });
    this.#waiting.sample(monotonicMs(), counts, pending);
  }

  async #stopWhenOthersAreThere(): Promise<void> {
    const untilMs = monotonicMs() + OTHERS_MS;
    // Once the vCPUs have ended, the guest's memory is about to go.
    const isOpen = () => this.#end === null && monotonicMs() < untilMs;
    while (isOpen() && this.#plan.tasks.some((_, task) => this.#isOnItsWay(task)))
      await sleep(OTHERS_POLL_MS);
    this.#stopUnlessRunning(0);
  }

  /** Has the task something to show yet: a bystander that has not counted, a step that is neither under way nor waits? */
  #isOnItsWay(task: number): boolean {
    const { channel } = this.#machine;
    // Its vCPU has not come up yet.
    if (channel.taskState(task) === "unused") return true;
    if (channel.taskState(task) !== "ready") return false;
    const number = channel.currentStep(task);
    const step = this.#plan.tasks[task]?.program.steps[number];
    if (step === undefined) return false;
    if (step.verb === "count") return channel.count(task) <= (this.#countsAtTrouble?.[task] ?? 0n);
    if (step.verb === "await") {
      return this.#signals.isRaised(this.#plan.signals[Number(step.address)] ?? "");
    }
    return channel.result(task, number).status !== "started";
  }

  #stopUnlessRunning(afterMs: number): void {
    setTimeout(() => {
      if (this.#history.at(-1)?.kind !== "running") this.#runner?.stop();
    }, afterMs).unref();
  }

  async #playVmm(actor: string, steps: VmPlan["vmmActors"][number]["steps"]): Promise<void> {
    for (const step of steps) {
      if (step.verb === "await") await this.#signals.wait(step.name);
      else if (step.verb === "signal") this.#raiseOurs(step.name, actor);
      else if (this.#stopped) {
        this.#stopped = false;
        this.#note("exit", actor, null, "KVM_RUN again");
        this.#runner?.resume();
      }
    }
  }

  #note(kind: VmEvent["kind"], actor: string, gpa: bigint | null, detail: string): void {
    this.#events.push({ kind, actor, atMonotonicMs: monotonicMs(), gpa, detail });
  }

  /** After `run`. */
  report(capabilities: Readonly<Record<string, number>>): VmReport {
    const { channel } = this.#machine;
    const counts = this.#counts();
    return {
      capabilities,
      history: this.#history,
      end: this.#end ?? { kind: "defect", message: "the vCPUs' threads ended without a word" },
      outOfTime: this.#outOfTime,
      final: this.#final(),
      tasks: this.#plan.tasks.map(({ actor, program }, task) => ({
        actor,
        state: channel.taskState(task),
        currentStep: channel.currentStep(task),
        count: counts[task] ?? 0n,
        countSinceTrouble:
          this.#countsAtTrouble === null && this.#waiting.growth !== null
            ? (this.#waiting.growth[task] ?? 0n)
            : (counts[task] ?? 0n) - (this.#countsAtTrouble?.[task] ?? 0n),
        results: program.steps.map((_, step) => {
          const { status, code, began, ended } = channel.result(task, step);
          return { status, code, began, ended };
        }),
      })),
      apfNotPresentCount: channel.apfNotPresentCount,
      apfReadyCount: channel.apfReadyCount,
      nmiCount: channel.nmiCount,
      oopsCount: channel.oopsCount,
      heartbeat: channel.heartbeat,
      heartbeatSinceTrouble: channel.heartbeat - this.#heartbeatAtTrouble,
      events: [...this.#events, ...this.#guestEvents()],
    };
  }

  #final(): FinalState | null {
    return finalOfAll(this.#machine.vcpus.map((_, cpu) => this.#finals[cpu]));
  }

  #guestEvents(): VmEvent[] {
    const clock = this.#final()?.clock ?? null;
    return this.#machine.channel.events().map((event) => ({
      kind: traceKind(event.kind),
      actor: this.#plan.tasks[event.task]?.actor ?? "guest",
      atMonotonicMs: clock === null ? monotonicMs() : guestTimeMs(clock, event.tsc),
      gpa: null,
      detail: eventText(event),
    }));
  }
}

/** The vocabulary has one word for whatever interrupts a task; the text says which it was. */
function traceKind(kind: GuestEvent["kind"]): EventKind {
  switch (kind) {
    case "apf-not-present":
    case "apf-ready":
    case "sigbus":
    case "fixup":
    case "nmi":
      return kind;
    case "exception":
    case "machine-check":
    case "virtualization-exception":
    case "pv-error":
    case "unknown":
      return "exception";
  }
}

function eventText(event: GuestEvent): string {
  const hex = (value: bigint) => `0x${value.toString(16)}`;
  const where = `rip ${hex(event.rip)} cpl ${event.cpl}`;
  switch (event.kind) {
    case "apf-not-present":
    case "apf-ready":
      return `token ${hex(event.cr2)} ${where}`;
    case "sigbus":
      return `si_code ${event.errorCode} address ${hex(event.cr2)} ${where}`;
    case "fixup":
      return `address ${hex(event.cr2)} ${where}`;
    default:
      return `${event.kind} vector ${event.vector} error ${hex(event.errorCode)} address ${hex(event.cr2)} ${where}`;
  }
}

function bigintText(_key: string, value: unknown): unknown {
  return typeof value === "bigint" ? `0x${value.toString(16)}` : value;
}
