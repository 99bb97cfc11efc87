/**
 * Runs one case inside the VM process: starts the vCPUs, passes signals, plays the VMM's actors, samples the guest, and
 * performs what ending.ts decides. No rule about when a case ends is here.
 */

import { STUCK, type VmmAction } from "../../../../language/src/index.ts";
import { lookAtThread } from "../../../../sys/src/index.ts";
import {
  type Channel,
  type MachineHandlers,
  type MachineRun,
  monotonicMs,
  type VcpuMessage,
} from "../../../../vmm/src/index.ts";
import { within } from "../../within.ts";
import { Attendance, attendedMs, noShare, type Share, shareBetween } from "../attendance.ts";
import { CaseTrace, guestTrace } from "./case-trace.ts";
import {
  beginning,
  type Effect,
  type Ending,
  judgesLoop,
  type News,
  OTHERS_MS,
  SETTLE_MS,
  step,
  wakeAtMs,
} from "./ending.ts";
import type { Guarding } from "./guard.ts";
import type { FromVm, TaskReport, VmReport } from "./messages.ts";
import { OopsWatch } from "./oops-watch.ts";
import type { CasePlan } from "./plan.ts";
import { SignalRelay } from "./relay.ts";
import { isOnItsWay } from "./tasks.ts";
import { type CpuView, type Growth, Waiting } from "./waiting.ts";

/** How often the counting tasks are looked at while an access is under way. */
const SAMPLE_MS = 5;
/** On a slow machine so many times more seldom, and still less than `INTERVAL_MS` (../attendance.ts) apart. */
const SLOWER_SAMPLES_MAX = 4;

/**
 * A task that its kernel's oops has hit ends within milliseconds, or never; so long it is waited for, of the time in which each vCPU was
 * attended to, and multiplied by the machine's slowness.
 */
const OOPS_MS = 1000;

/** How often a guard is waited for that has not caught up. */
const CATCH_UP_LOOK_MS = 50;

/** The guest's progress when the VM first stopped or looped. */
type Baseline = {
  readonly counts: readonly bigint[];
  readonly heartbeat: number;
  /** By vCPU. */
  readonly shares: readonly Share[];
};

/**
 * `results`: a task waits until all results so far have been taken. `served`: a device has answered a vCPU, which was out of the
 * guest for that. `oopsed`: the guest's kernel says so.
 */
export type CaseHandlers = MachineHandlers & {
  readonly results?: () => Promise<void>;
  readonly served?: () => void;
  readonly oopsed?: () => void;
};

/** The guest of a case, up and waiting for its tasks to begin. */
export type CaseGuest = {
  readonly channel: Channel;
  /** How many vCPUs it has. */
  readonly cpus: number;
  capabilities(): Readonly<Record<string, number>>;
  /** Lets the tasks begin. The run ends with the case: in whatever state the guest is left, its channel stays readable. */
  start(
    handlers: CaseHandlers,
    limits: Pick<CasePlan, "ioPatienceMs" | "isIoAnswered" | "isToldEarly">,
  ): CaseRun;
  /** The VMM does something to its own mapping; absent: it cannot. */
  act?(action: VmmAction): void;
  /** The case is over: what waits for a page that the VMM's own handler does not give goes on. */
  release?(): void;
  /** Has KVM mapped a large page for the guest, as of now? Absent: not known. */
  hasLargePage?(): boolean;
};

/** `stop`: ends the case, also out of an endless loop. `exited`: nothing of it happens any more. */
export type CaseRun = Pick<MachineRun, "resume" | "stop" | "lookAtThreads" | "final" | "exited">;

export class CaseRunner {
  readonly trace: CaseTrace = new CaseTrace();
  readonly #plan: CasePlan;
  readonly #guest: CaseGuest;
  readonly #send: (message: FromVm) => void;
  readonly #watcher: Pick<Guarding, "caughtUp"> | null;
  readonly #relay: SignalRelay;
  readonly #waiting: Waiting;
  readonly #oops: OopsWatch;
  /** What the thread of each vCPU has got, as of the last look. */
  readonly #attendances: readonly Attendance[];
  /** The kernel keeps figures of threads. */
  readonly #hasFigures = lookAtThread(process.pid, monotonicMs) !== null;
  /** A task counts: the vCPUs' threads are looked at while an access is under way. */
  readonly #hasCounters: boolean;
  /** As of the last sample. */
  #isWaitingSeen = false;
  /** Accesses already sent, `task/step`. */
  readonly #sent = new Set<string>();
  /** Tasks that wait until what was sent for them has been taken. */
  readonly #untaken: (() => void)[] = [];
  #ending: Ending;
  #baseline: Baseline | null = null;
  /** When the case's time is over. */
  #limitMs = Infinity;
  /** Null before the vCPUs have started and once their threads have ended: the guest's memory is about to go. */
  #run: CaseRun | null = null;
  #alarm: NodeJS.Timeout | undefined;
  /** A vCPU, or a task of the guest, was proven to wait for ever. */
  #isWaiting = false;
  /** MSR_KVM_ASYNC_PF_EN as of the last signal; null: not known. */
  #asyncPageFaultMsr: bigint | null = null;

  /** @param watcher a guard that learns of truncations after the fact, and ends loops; null: none */
  constructor(
    plan: CasePlan,
    guest: CaseGuest,
    send: (message: FromVm) => void,
    watcher: Pick<Guarding, "caughtUp"> | null,
  ) {
    this.#plan = plan;
    this.#guest = guest;
    this.#send = send;
    this.#watcher = watcher;
    this.#relay = new SignalRelay(plan.signals, guest.channel, (name, from) =>
      send({ type: "signal", name, from }),
    );
    this.#waiting = new Waiting(plan.tasks.map(({ program }) => program.cpu ?? 0));
    this.#oops = new OopsWatch(OOPS_MS * plan.slowness);
    this.#attendances = Array.from({ length: guest.cpus }, () => new Attendance());
    this.#hasCounters = plan.tasks.some(({ program }) => program.steps.some(({ verb }) => verb === "count"));
    this.#ending = beginning({
      stuckIsAwaited: plan.stuckIsAwaited,
      endsLoops: plan.fence || plan.guard?.name === "notify",
      othersMs: OTHERS_MS * plan.slowness,
      settleMs: SETTLE_MS * plan.slowness,
    });
  }

  /** Runs the case to its end. Rejects only for a defect of ours. */
  async run(): Promise<VmReport> {
    const { ioPatienceMs, isIoAnswered, isToldEarly, lifeMs, latestEndMs, vmmActors } = this.#plan;
    const run = this.#guest.start(this.#handlers(), { ioPatienceMs, isIoAnswered, isToldEarly });
    this.#run = run;
    const nowMs = monotonicMs();
    this.#limitMs = Math.max(nowMs, Math.min(nowMs + lifeMs, latestEndMs));
    this.#advance({ type: "started", limitMs: this.#limitMs });
    void Promise.all(vmmActors.map((one) => this.#playVmm(one.actor, one.steps))).then(() =>
      this.#advance({ type: "vmm-actors-done" }),
    );
    const sampleMs = SAMPLE_MS * Math.min(this.#plan.slowness, SLOWER_SAMPLES_MAX);
    const sampling = setInterval(() => {
      this.#sampleWaits();
      this.#sampleOops();
    }, sampleMs);
    await run.exited;
    this.#run = null;
    clearInterval(sampling);
    clearTimeout(this.#alarm);
    return this.#report(run);
  }

  /** A signal raised elsewhere. */
  raise(name: string): void {
    this.#relay.raise(name);
  }

  /** Every host actor has done its last step. */
  hostSettled(): void {
    this.#advance({ type: "host-settled" });
  }

  #handlers(): CaseHandlers {
    return {
      results: () => {
        this.#sendResults();
        return this.#take();
      },
      signal: ({ number, task, asyncPageFaultMsr }) => {
        this.#asyncPageFaultMsr = asyncPageFaultMsr;
        this.#sendResults();
        if (this.#guest.hasLargePage?.() === true) this.trace.hugePage();
        const name = this.#relay.nameOf(number);
        const actor = this.#plan.tasks[task]?.actor ?? `task ${task}`;
        if (name !== undefined) this.#relay.raiseAndSend(name, actor);
      },
      stopped: (message) => {
        this.#advance(message);
        this.trace.stopped(message);
      },
      looping: (message) => {
        this.#advance(message);
        this.trace.looping(message);
      },
      handled: (message) => {
        this.#waiting.answered();
        this.trace.handled(message);
      },
      served: () => this.#waiting.served(),
      waiting: (message) => this.#waits(message),
      unstuck: (message) => this.#advance(message),
      oopsed: () => this.#oops.oopsed(this.#unended(), this.#attendedMs()),
      ended: (message) => {
        this.#advance(message);
        this.#sendResults();
      },
    };
  }

  #waits(message: Extract<VcpuMessage, { type: "waiting" }>): void {
    this.#isWaiting = true;
    this.#advance(message);
    this.trace.waiting(message);
  }

  #take(): Promise<void> {
    this.#send({ type: "take", asyncPageFaultMsr: this.#asyncPageFaultMsr });
    return new Promise((resolve) => this.#untaken.push(resolve));
  }

  /** What was sent so far has been taken: tasks that wait for that go on, in their order. */
  taken(): void {
    this.#untaken.shift()?.();
  }

  #advance(news: News): void {
    const { state, effects } = step(this.#ending, news, monotonicMs());
    this.#ending = state;
    for (const effect of effects) this.#perform(effect);
    // Of the state as it is now: an effect may have brought news of its own.
    const atMs = wakeAtMs(this.#ending);
    clearTimeout(this.#alarm);
    if (this.#run === null || atMs === null) return;
    // Behind all that has come in meanwhile: timers are the first that an event loop sees to when it was held up.
    this.#alarm = setTimeout(() => setImmediate(() => void this.#ring()), atMs - monotonicMs());
  }

  /**
   * Brings the time, once the guard knows what has happened to the file: a loop goes on that the guard has had no processor
   * to end. Not before the case's limit, at which nothing is concluded from it.
   */
  async #ring(): Promise<void> {
    const isAsked = judgesLoop(this.#ending, monotonicMs());
    const caughtUp = (isAsked && this.#watcher?.caughtUp()) || Promise.resolve();
    while (this.#run !== null && monotonicMs() < this.#limitMs) {
      if (await within(caughtUp, CATCH_UP_LOOK_MS)) break;
    }
    if (this.#run !== null) this.#advance({ type: "time", attendedMs: this.#attendedMs() });
  }

  #look(): void {
    const looks = this.#run?.lookAtThreads() ?? [];
    for (const [cpu, look] of looks.entries()) this.#attendances[cpu]?.add(look);
  }

  #shares(): readonly Share[] {
    return this.#attendances.map(({ share }) => share);
  }

  /** For how long each vCPU was attended to so far, the least of them; without figures all the time. */
  #attendedMs(): number {
    if (!this.#hasFigures) return monotonicMs();
    this.#look();
    return Math.min(...this.#shares().map(attendedMs));
  }

  #perform(effect: Effect): void {
    switch (effect.kind) {
      case "raise-stuck":
        this.#look();
        this.#baseline ??= {
          counts: this.#counts(),
          heartbeat: this.#guest.channel.heartbeat,
          shares: this.#shares(),
        };
        this.#relay.raiseAndSend(STUCK, "kvm");
        return;
      case "look-at-tasks":
        if (this.#run !== null) this.#lookAtTasks();
        return;
      case "resume":
        this.trace.resumed(effect.actor);
        this.#run?.resume();
        return;
      case "stop":
        // The last look: behind it no thread is there.
        this.#look();
        this.#run?.stop();
        this.#guest.release?.();
        if (this.#isWaiting) this.#send({ type: "waits" });
    }
  }

  /** Sends which accesses have finished since the last time. */
  #sendResults(): void {
    for (const [task, { program }] of this.#plan.tasks.entries()) {
      for (const [step, { size }] of program.steps.entries()) {
        const key = `${task}/${step}`;
        if (this.#sent.has(key)) continue;
        const { status, bytes } = this.#guest.channel.result(task, step);
        if (status !== "done") continue;
        this.#sent.add(key);
        this.#send({ type: "saw", task, step, bytes: bytes.subarray(0, size) });
      }
    }
  }

  #counts(): bigint[] {
    return this.#plan.tasks.map((_, task) => this.#guest.channel.count(task));
  }

  #cpuViews(): readonly (CpuView | null)[] {
    const looks = this.#run?.lookAtThreads() ?? [];
    return this.#attendances.map((attendance, cpu) => {
      const look = looks[cpu] ?? null;
      attendance.add(look);
      return look === null ? null : { share: attendance.share, isAsleep: look.isAsleep };
    });
  }

  /** The accesses that are under way, a name each. */
  #pending(): readonly string[] {
    const { channel } = this.#guest;
    return this.#plan.tasks.flatMap((_, task) => {
      const step = channel.currentStep(task);
      const { status, began } = channel.result(task, step);
      return status === "started" ? [`${task}/${step}/${began}`] : [];
    });
  }

  /** Looking at a thread costs some system calls, a millisecond each under emulation: none while no access is under way. */
  #sampleWaits(): void {
    if (!this.#hasCounters) return;
    if (!this.#isWaitingSeen && this.#pending().length === 0) return;
    const before = this.#counts();
    const cpus = this.#cpuViews();
    const after = this.#counts();
    const pending = this.#pending();
    this.#isWaitingSeen = pending.length > 0;
    this.#waiting.sample({ atMs: monotonicMs(), before, after, cpus, pending });
  }

  #sampleOops(): void {
    if (!this.#oops.isActive || this.#run === null) return;
    const overMs = this.#oops.sample(this.#unended(), this.#attendedMs());
    if (overMs === null) return;
    const detail = "its kernel has oopsed, and the task does not end";
    this.#waits({ type: "waiting", cpu: 0, in: "guest", overMs, place: null, detail });
  }

  /** Of the accesses that are under way, those whose task the guest has not seen die. */
  #unended(): readonly string[] {
    const { channel } = this.#guest;
    return this.#pending().filter((name) => channel.taskState(Number.parseInt(name, 10)) !== "killed");
  }

  #lookAtTasks(): void {
    this.#advance({ type: "tasks", anyOnItsWay: this.#isAnyOnItsWay(), attendedMs: this.#attendedMs() });
  }

  #isAnyOnItsWay(): boolean {
    const { channel } = this.#guest;
    return this.#plan.tasks.some(({ program }, task) => {
      const number = channel.currentStep(task);
      const view = {
        state: channel.taskState(task),
        step: program.steps[number],
        status: channel.result(task, number).status,
        count: channel.count(task),
        countAtTrouble: this.#baseline?.counts[task] ?? 0n,
      };
      return isOnItsWay(view, (signal) => this.#relay.isRaised(this.#relay.nameOf(signal) ?? ""));
    });
  }

  async #playVmm(actor: string, steps: CasePlan["vmmActors"][number]["steps"]): Promise<void> {
    for (const step of steps) {
      switch (step.verb) {
        case "await":
          await this.#relay.wait(step.name);
          break;
        case "signal":
          this.#relay.raiseAndSend(step.name, actor);
          break;
        case "resume":
          this.#advance({ type: "resume", actor });
          break;
        default:
          if (this.#guest.act === undefined)
            throw new Error(`${step.verb}: this VMM leaves its mapping as it is`);
          this.trace.acted(actor, step);
          // What the guest has seen is judged by what the file holds until now; and this may be the end of this process.
          await this.#take();
          this.#guest.act(step);
      }
    }
  }

  #report(run: CaseRun): VmReport {
    const { channel } = this.#guest;
    const final = run.final();
    const actors = this.#plan.tasks.map(({ actor }) => actor);
    return {
      capabilities: this.#guest.capabilities(),
      history: this.#ending.history,
      end: this.#ending.end ?? { kind: "defect", message: "the vCPUs' threads ended without a word" },
      outOfTime: this.#ending.outOfTime,
      final,
      tasks: this.#taskReports(),
      apfNotPresentCount: channel.apfNotPresentCount,
      apfReadyCount: channel.apfReadyCount,
      nmiCount: channel.nmiCount,
      oopsCount: channel.oopsCount,
      heartbeat: channel.heartbeat,
      heartbeatSinceTrouble: channel.heartbeat - (this.#baseline?.heartbeat ?? 0),
      events: [...this.trace.events, ...guestTrace(channel.events(), actors, final?.clock ?? null)],
    };
  }

  /** Since the trouble; without trouble while an access waited for I/O, else over the whole case. */
  #growthOf(task: number, count: bigint, share: Share): Pick<Growth, "counted" | "share"> {
    if (this.#baseline === null) return this.#waiting.growth(task) ?? { counted: count, share };
    const { counts, shares } = this.#baseline;
    const before = shares[this.#plan.tasks[task]?.program.cpu ?? 0] ?? noShare;
    return { counted: count - (counts[task] ?? 0n), share: shareBetween(before, share) };
  }

  #taskReports(): TaskReport[] {
    const { channel } = this.#guest;
    const counts = this.#counts();
    const shares = this.#shares();
    return this.#plan.tasks.map(({ actor, program }, task) => {
      const count = counts[task] ?? 0n;
      const { counted, share } = this.#growthOf(task, count, shares[program.cpu ?? 0] ?? noShare);
      return {
        actor,
        state: channel.taskState(task),
        currentStep: channel.currentStep(task),
        count,
        countSinceTrouble: counted,
        share: this.#hasFigures ? share : null,
        results: program.steps.map((_, step) => {
          const { status, number, began, ended } = channel.result(task, step);
          return { status, number, began, ended };
        }),
      };
    });
  }
}
