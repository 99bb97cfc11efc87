/**
 * A Linux guest in QEMU, from QEMU's start to its end, with one case: the channel in the guest's RAM, the doorbell, QMP, the
 * console. The guest's program is that of our own VMM's guest (../guest.ts). It judges nothing, and decides nothing about when
 * a case ends.
 *
 * The program waits for an answer in the channel where our own VMM would hold its vCPU up (vmm/guest/linux/init.c).
 */
import { closeSync, ftruncateSync } from "node:fs";
import type { Duplex } from "node:stream";
import { execa } from "execa";
import {
  type Address,
  lookAtThread,
  MAP_SHARED,
  memfdCreate,
  mmap,
  munmap,
  PROT_READ,
  PROT_WRITE,
  type ThreadLook,
  viewOf,
} from "../../../../../sys/src/index.ts";
import {
  channelLayout,
  decodeDoorbell,
  type EndReason,
  type FinalState,
  KVM_ASYNC_PF_ENABLED,
  LinuxCase,
  monotonicMs,
  watchSleep,
} from "../../../../../vmm/src/index.ts";
import { complaintIn, crashIn } from "../../../kernel/console.ts";
import { childEnvironment } from "../../../run/tag.ts";
import { within } from "../../../within.ts";
import type { CaseGuest, CaseHandlers, CaseRun } from "../../vm/case-runner.ts";
import { BringUp, GuestError, keepLine, MOUNT_POINT, Moment, oops } from "../bring-up.ts";
import type { PreparedCase } from "../guest.ts";
import {
  descriptor,
  type GuestOptions,
  guestArguments,
  guestCommandLine,
  RAM_BYTES,
  SHARED_ADDRESS,
  SHARED_BYTES,
} from "./arguments.ts";
import { type Anchor, clockOf } from "./clock.ts";
import { causeOf, exitIn, placeOf, registersIn } from "./exit-cause.ts";
import { asyncPageFaultsIn } from "./guest-words.ts";
import { LoopWatch, pendingSteps } from "./loop-watch.ts";
import { countersOf, Qmp, QmpError, type QmpEvent, statusOf, threadIdsOf } from "./qmp.ts";
import { watchServer } from "./server-watch.ts";

const STDERR_CHARACTERS = 64 * 1024;
/** How often KVM's counters are asked for while the tasks run; times the machine's slowness, up to four. */
const TICK_MS = 50;
const REAP_BOUND_MS = 3000;
/** Of QEMU's end: how long the word of it may take after that of another one's. */
const OWN_END_MS = 1000;

export type QemuBoot = GuestOptions & {
  /** QEMU, and the arguments that come first. */
  readonly command: readonly string[];
  /** The SPEC of the guest's kernel, for messages. */
  readonly kernelName: string;
  /** From QEMU's start to the guest's program. */
  readonly boundMs: number;
  readonly slowness: number;
  readonly ioPatienceMs: number;
  readonly isIoAnswered: boolean;
  /** The file server that it has its files from. */
  readonly serverPid: number | null;
};

/** The case of the boot. */
type Current = {
  readonly mapped: Moment;
  readonly begun: Moment;
  readonly over: Moment;
  handlers: CaseHandlers;
  hasOopsed: boolean;
};

type Sender = number | "first";

type QemuProcess = ReturnType<typeof startQemu>;

/** @param ram descriptor of the guest's memory */
function startQemu(boot: QemuBoot, directory: string, ram: number) {
  const [program = "", ...first] = boot.command;
  return execa(program, [...first, ...guestArguments(boot)], {
    cwd: directory,
    env: childEnvironment(directory),
    // A pipe to a child is a socket to both: QEMU takes its end as a character device.
    stdio: ["ignore", "pipe", "pipe", ram as unknown as "inherit", "pipe", "pipe"],
    buffer: false,
    reject: false,
  });
}

export class QemuGuest {
  readonly commandLine: string = guestCommandLine();
  readonly #boot: QemuBoot;
  readonly #bringUp: BringUp;
  readonly #ram: Address;
  readonly #case: LinuxCase;
  readonly #process: QemuProcess;
  readonly #qmp: Qmp;
  readonly #gone: Promise<void>;
  readonly #idle = new Moment();
  readonly #givenUp = new Moment();
  readonly #events: QmpEvent[] = [];
  /** When doorbells were rung. */
  readonly #anchors: Anchor[] = [];
  /** By sender: `rung` of the last report that was taken. */
  readonly #taken = new Map<Sender, number>();
  #rest = "";
  #bootLines: string[] = [];
  #console: string[] = [];
  #stderr = "";
  #current: Current | null = null;
  #end: EndReason | null = null;
  #isClosing = false;
  #threads: readonly number[] = [];
  #base: readonly Readonly<Record<string, bigint>>[] = [];
  #counters: readonly Readonly<Record<string, bigint>>[] = [];
  #status = "unknown";
  #ticking: NodeJS.Timeout | undefined;
  #unwatch: () => void = () => {};

  /** @param directory of the run or the case, whose sweep ends QEMU if nothing else does */
  constructor(boot: QemuBoot, directory: string) {
    this.#boot = boot;
    this.#bringUp = new BringUp(boot.kernelName, "QEMU", boot.boundMs);
    const fd = memfdCreate("daxfault-ram");
    ftruncateSync(fd, RAM_BYTES);
    const where = { lengthBytes: SHARED_BYTES, fd, fileOffset: BigInt(SHARED_ADDRESS) };
    this.#ram = mmap({ ...where, prot: PROT_READ | PROT_WRITE, flags: MAP_SHARED });
    this.#case = new LinuxCase(viewOf(this.#ram, SHARED_BYTES));
    this.#process = startQemu(boot, directory, fd);
    closeSync(fd);
    this.#process.stdout?.setEncoding("latin1").on("data", (text: string) => this.#feed(text));
    this.#process.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-STDERR_CHARACTERS);
    });
    this.#qmp = new Qmp(this.#stream(descriptor.qmp), (event) => this.#happened(event));
    this.#stream(descriptor.doorbell).on("data", () => this.#look());
    this.#gone = this.#process.then(({ exitCode, signal }) => {
      this.#unwatchAll();
      const exit = { exitCode, signal, stderr: this.#stderr };
      this.#ended(this.#reasonOf(causeOf(exit, this.#events, this.#isClosing)));
    });
  }

  #stream(number: number): Duplex {
    const stream = this.#process.stdio[number] as unknown as Duplex;
    // QEMU has gone: `#gone` says so.
    stream.on("error", () => {});
    return stream;
  }

  #feed(text: string): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) this.#line(line.replace(/\r+$/, ""));
  }

  #line(text: string): void {
    const kept = this.#current === null ? this.#bootLines : this.#console;
    keepLine(kept, text);
    if (complaintIn([text]) !== null) this.#givenUp.reach();
    const current = this.#current;
    if (current === null) return;
    current.hasOopsed ||= oops.test(text);
    if (current.hasOopsed) current.handlers.oopsed?.();
  }

  /** A machine that resets itself has panicked: the console says of what. */
  #reasonOf(why: EndReason): EndReason {
    if (why.kind !== "guest-off") return why;
    const crash = crashIn([...this.#console, this.#rest]);
    return crash === null ? why : { kind: "guest-panic", reason: crash.text };
  }

  #ended(why: EndReason): void {
    this.#end ??= why;
    this.#overWith(this.#end);
    this.#idle.reach();
  }

  /**
   * Something that it cannot do without has gone: the case, or the boot, is over. Not where QEMU goes as well, of which the
   * other end is a consequence.
   */
  async lose(how: string): Promise<void> {
    await within(this.#gone, OWN_END_MS);
    this.#ended({ kind: "defect", message: how });
  }

  #overWith(why: EndReason): void {
    const current = this.#current;
    if (current === null || current.over.isOver) return;
    this.#unwatchAll();
    current.handlers.ended?.({ type: "ended", cpu: 0, why, final: this.#final() });
    current.mapped.reach();
    current.over.reach();
  }

  #happened(event: QmpEvent): void {
    this.#events.push(event);
    if (event.name === "STOP") void this.#stopped();
  }

  /** The VM has stopped: by itself only where KVM_RUN has failed. */
  async #stopped(): Promise<void> {
    await this.#askStatus();
    if (this.#status !== "internal-error") return;
    await this.#askCounters();
    // QEMU has printed the registers before it stopped the VM; they come by another pipe.
    await within(this.#gone, TICK_MS);
    const { channel } = this.#case;
    const [pending = null] = pendingSteps(channel);
    this.#current?.handlers.stopped?.({
      type: "stopped",
      cpu: 0,
      exit: exitIn(this.#stderr),
      place: placeOf(registersIn(this.#stderr), pending),
      reason: `QEMU is in the run state ${this.#status}`,
    });
  }

  /** Reports that have come since the last look. */
  #look(): void {
    const senders: Sender[] = ["first", ...Array.from({ length: this.#tasks }, (_, task) => task)];
    for (const sender of senders) {
      const { doorbell, rung, tsc } = this.#case.mail(sender);
      if (rung === 0 || rung === this.#taken.get(sender)) continue;
      this.#taken.set(sender, rung);
      this.#anchors.push({ tsc, atMs: monotonicMs() });
      void this.#rang(sender, doorbell, rung);
    }
  }

  /** The guest is not trusted: no more than there may be. */
  get #tasks(): number {
    return Math.min(this.#case.channel.taskCount, channelLayout.MAX_TASKS);
  }

  async #rang(sender: Sender, value: number, rung: number): Promise<void> {
    const doorbell = decodeDoorbell(value);
    const current = this.#current;
    switch (doorbell.kind) {
      case "idle":
        // The next case is the answer.
        if (current === null) this.#idle.reach();
        return;
      case "ready":
        current?.mapped.reach();
        await current?.begun.reached;
        break;
      case "signal":
        current?.handlers.signal?.({
          type: "signal",
          cpu: 0,
          number: doorbell.number,
          task: doorbell.task ?? 0,
          // QEMU's to ask.
          asyncPageFaultMsr: null,
        });
        break;
      case "results":
        await current?.handlers.results?.();
        break;
      case "finished":
        await this.#askCounters();
        this.#overWith({ kind: "finished" });
        break;
      case "panic":
        this.#overWith({ kind: "defect", message: this.#bringUp.refusalText(this.#case.refusal) });
        break;
      case "nmi":
      case "unknown":
        this.#overWith({ kind: "defect", message: `the guest rings ${JSON.stringify(doorbell)}` });
    }
    this.#case.answerMail(sender, rung);
  }

  /** Waits for the program. Throws a GuestError that says what came instead. */
  async up(): Promise<void> {
    await within(Promise.race([this.#idle.reached, this.#givenUp.reached]), this.#boot.boundMs);
    this.#bringUp.checkUp({
      lines: this.#bootLines,
      end: this.#end,
      isIdle: this.#idle.isOver,
      besides: this.#qmp.hasGreeted ? "" : ", and QEMU itself has not said a word on its QMP socket",
    });
    try {
      await this.#qmp.execute("qmp_capabilities");
      this.#threads = threadIdsOf(await this.#qmp.execute("query-cpus-fast"));
      await this.#askStatus();
    } catch (error) {
      if (!(error instanceof QmpError)) throw error;
      throw new GuestError(this.#bringUp.downText(`it was lost: ${error.message}`, this.#bootLines));
    }
  }

  /** Has the program mount what there is, and map the file in it. Throws a GuestError. */
  async prepare(plan: PreparedCase, path: string): Promise<CaseGuest> {
    let refusal: EndReason | null = null;
    const current: Current = {
      mapped: new Moment(),
      begun: new Moment(),
      over: new Moment(),
      handlers: {
        ended: ({ why }) => {
          refusal = why;
        },
      },
      hasOopsed: false,
    };
    this.#current = current;
    const waiting = this.#case.mail("first").rung;
    this.#case.configure({
      programs: plan.tasks.map(({ program }) => program),
      path: `${MOUNT_POINT}/${path}`,
      mappings: plan.mappings,
      windowBytes: plan.windowBytes,
      mount: plan.mount,
      pinsTasks: true,
    });
    this.#case.answerMail("first", waiting);
    await within(current.mapped.reached, this.#boot.boundMs);
    this.#bringUp.checkMapped({ lines: this.#console, refusal, isMapped: current.mapped.isOver });
    await this.#askCounters();
    this.#base = this.#counters;
    return {
      channel: this.#case.channel,
      cpus: this.#boot.cpus,
      capabilities: () => ({}),
      start: (handlers) => this.#start(current, handlers),
    };
  }

  #start(current: Current, handlers: CaseHandlers): CaseRun {
    current.handlers = handlers;
    if (this.#end !== null) this.#overWith(this.#end);
    else this.#watch(handlers);
    current.begun.reach();
    return {
      resume: () => void this.#resume(),
      stop: () => void this.#stop(),
      lookAtThreads: () => this.#lookAtThreads(),
      final: () => this.#final(),
      exited: current.over.reached,
    };
  }

  /** Until the case is over. Under TCG the vCPU's thread sleeps where it touches the page, under KVM in KVM_RUN. */
  #watch(handlers: CaseHandlers): void {
    const { accelerator, cpus, ioPatienceMs, serverPid } = this.#boot;
    const threadOf = (cpu: number): number | null => this.#threads[cpu] ?? null;
    const unwatchVcpus = watchSleep({ cpus, threadOf, patienceMs: ioPatienceMs }, (news) => {
      if (news.type === "waiting") handlers.waiting?.(news);
      else handlers.unstuck?.(news);
    });
    const unwatchServer =
      serverPid === null
        ? () => {}
        : watchServer(serverPid, ioPatienceMs, (sleep) => {
            if (sleep === null) handlers.unstuck?.({ type: "unstuck", cpu: 0 });
            else handlers.waiting?.({ type: "waiting", cpu: 0, in: "guest", place: null, ...sleep });
          });
    this.#unwatch = () => {
      unwatchVcpus();
      unwatchServer();
    };
    if (accelerator === "kvm") this.#watchLoops(handlers);
  }

  #watchLoops(handlers: CaseHandlers): void {
    const { cpus, ioPatienceMs, isIoAnswered, slowness } = this.#boot;
    const watch = new LoopWatch(this.#case.channel, { cpus, ioPatienceMs, isIoAnswered });
    let isAsked = false;
    const tick = async (): Promise<void> => {
      if (isAsked) return;
      isAsked = true;
      await this.#askCounters();
      isAsked = false;
      for (const news of watch.sample(this.#counters)) {
        if (news.type === "looping") await this.#askStatus();
        if (news.type === "looping") handlers.looping?.(news);
        else handlers.unstuck?.(news);
      }
    };
    this.#ticking = setInterval(() => void tick(), TICK_MS * Math.min(slowness, 4));
  }

  #unwatchAll(): void {
    clearInterval(this.#ticking);
    this.#unwatch();
  }

  async #resume(): Promise<void> {
    try {
      await this.#qmp.execute("cont");
    } catch (error) {
      if (!(error instanceof QmpError)) throw error;
      this.#overWith({ kind: "defect", message: `QEMU does not run the VM again: ${error.message}` });
    }
  }

  /** The last figures first: nothing answers afterwards. */
  async #stop(): Promise<void> {
    await this.#askCounters();
    await this.#askStatus();
    this.#overWith({ kind: "stopped-from-outside" });
  }

  #lookAtThreads(): readonly (ThreadLook | null)[] {
    return Array.from({ length: this.#boot.cpus }, (_, cpu) => {
      const tid = this.#threads[cpu];
      return tid === undefined ? null : lookAtThread(tid, monotonicMs);
    });
  }

  async #askStatus(): Promise<void> {
    const status = statusOf(await this.#asked("query-status", {}));
    if (status !== "unknown") this.#status = status;
  }

  /** KVM's, of the vCPUs; there are none under TCG. */
  async #askCounters(): Promise<void> {
    if (this.#boot.accelerator !== "kvm") return;
    const counters = countersOf(await this.#asked("query-stats", { target: "vcpu" }));
    if (counters.length > 0) this.#counters = counters;
  }

  /** A command of QMP. Rejects with a QmpError where QEMU refuses it, or has gone. */
  execute(command: string, args: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    return this.#qmp.execute(command, args);
  }

  /** null: QEMU has gone, or does not know it. */
  async #asked(command: string, args: Readonly<Record<string, unknown>>): Promise<unknown> {
    try {
      const answer = this.execute(command, args);
      return (await within(answer, this.#boot.boundMs)) ? await answer : null;
    } catch (error) {
      if (!(error instanceof QmpError)) throw error;
      return null;
    }
  }

  #final(): FinalState {
    const counters: Record<string, bigint> = {};
    for (const [cpu, stats] of this.#counters.entries()) {
      for (const [name, value] of Object.entries(stats)) {
        counters[name] = (counters[name] ?? 0n) + value - (this.#base[cpu]?.[name] ?? 0n);
      }
    }
    // QEMU shows nobody its vCPUs' MSRs: what the guest's kernel has set up is in /proc/interrupts there.
    const asyncPageFaultMsr =
      this.#boot.accelerator === "tcg"
        ? null
        : asyncPageFaultsIn(this.#bootLines) === true
          ? KVM_ASYNC_PF_ENABLED
          : 0n;
    return { counters, asyncPageFaultMsr, clock: clockOf(this.#anchors) };
  }

  /** Of the boot: what the guest's program and its kernel said before the case. */
  get bootConsole(): readonly string[] {
    return [...this.#bootLines];
  }

  /** Of the case: the last lines. */
  get console(): readonly string[] {
    return [...this.#console];
  }

  get oopses(): number {
    return this.#console.filter((line) => oops.test(line)).length;
  }

  /** QEMU's run state, as QMP said it last. */
  get status(): string {
    return this.#status;
  }

  /** What QEMU printed, for the trace: a register dump has its lines. */
  get words(): readonly string[] {
    return this.#stderr.split("\n").filter((line) => line.trim() !== "");
  }

  get pid(): number | undefined {
    return this.#process.pid;
  }

  /** Ends QEMU, whatever it is doing. */
  async close(): Promise<void> {
    this.#isClosing = true;
    this.#unwatchAll();
    this.#current = null;
    this.#process.kill("SIGKILL");
    await within(this.#gone, REAP_BOUND_MS);
    munmap(this.#ram, SHARED_BYTES);
  }
}
