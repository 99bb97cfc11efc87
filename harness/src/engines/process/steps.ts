/**
 * Guest tasks by the static program: one program for the case, which starts a process for each task. What they have seen
 * is in memory that is shared with them; the program rings when something has to be dealt with at once.
 *
 * A task that raises a signal waits until this side has taken what all tasks have seen so far: nothing that comes of the
 * signal can change the file before.
 */
import { closeSync, ftruncateSync } from "node:fs";
import { constants } from "node:os";
import {
  type Access,
  type AccessStep,
  accessBytes,
  accessesOf,
  type GuestActor,
  guestActors,
  type Labelled,
  mappingsOf,
  type Scenario,
  seenBytes,
  signalNames,
} from "../../../../language/src/index.ts";
import {
  type Address,
  lookAtThread,
  MAP_SHARED,
  memfdCreate,
  mmap,
  munmap,
  PROT_READ,
  PROT_WRITE,
  readThread,
  type SleepWatch,
  viewOf,
} from "../../../../sys/src/index.ts";
import {
  type Channel,
  caseLayout,
  type Doorbell,
  decodeDoorbell,
  type GuestEvent,
  LinuxCase,
  stepsPath,
  WINDOW_BASE,
} from "../../../../vmm/src/index.ts";
import { within } from "../../within.ts";
import { Attendance, type Share } from "../attendance.ts";
import { type ChildExit, exitText, type Program, startProgram } from "../child.ts";
import { FIRST_LENT_DESCRIPTOR } from "../child-side.ts";
import { guestTasks, windowBytesOf } from "../guest-program.ts";
import type { HostSetup } from "../host-setup.ts";
import { type AllAccesses, type HostTask, type HostTasks, isHung, isSignalOfAccess } from "../native.ts";
import { SeenAccesses } from "../seen.ts";
import { failedAccess } from "../step-result.ts";

/** How often the results are looked at, besides at each signal. */
const LOOK_MS = 10;
/** How long the program may take to end its tasks. */
const STOP_MS = 3000;
const DOORBELL_BYTES = 4;

function signalName(number: number): string {
  const found = Object.entries(constants.signals).find(([, known]) => known === number);
  return found?.[0] ?? `signal ${number}`;
}

/** The case, shared with the program. */
type Shared = { readonly linux: LinuxCase; readonly address: Address; readonly fd: number };

function openShared(): Shared {
  const fd = memfdCreate("daxfault-case");
  const lengthBytes = caseLayout.sizeofLinuxCase;
  ftruncateSync(fd, lengthBytes);
  const address = mmap({ lengthBytes, prot: PROT_READ | PROT_WRITE, flags: MAP_SHARED, fd });
  return { linux: new LinuxCase(viewOf(address, lengthBytes)), address, fd };
}

/**
 * An access under way, by step and its beginning: one that is repeated begins again. `since`: what the process had got
 * when it was first seen under way.
 */
type UnderWay = { readonly step: number; readonly began: bigint; readonly since: Share };

/** Where a task has a step that kills another one. */
type KillStep = { readonly task: number; readonly index: number };

/** A guest task as a process of the program's. */
export class StepsTask implements HostTask {
  readonly name: string;
  readonly ended: Promise<void>;
  readonly #number: number;
  readonly #linux: TaskParts["linux"];
  readonly #seen: SeenAccesses;
  readonly #nowMs: () => number;
  readonly #accesses: readonly Labelled<AccessStep>[];
  readonly #killSteps: readonly KillStep[];
  readonly #attendance = new Attendance();
  readonly #taken = new Set<number>();
  #touching: UnderWay | null = null;
  /** The access that was proven to wait for ever. */
  #waiting: UnderWay | null = null;
  #hung: number | null = null;
  #isEnded = false;
  #onEnded = (): void => {};

  constructor(number: number, [name, actor]: readonly [string, GuestActor], parts: TaskParts) {
    this.name = name;
    this.#number = number;
    this.#linux = parts.linux;
    this.#seen = parts.seen;
    this.#nowMs = parts.nowMs;
    this.#accesses = accessesOf(actor);
    this.#killSteps = parts.killSteps;
    this.ended = new Promise((resolve) => {
      this.#onEnded = resolve;
    });
  }

  get #channel(): Channel {
    return this.#linux.channel;
  }

  /**
   * Takes what has been seen since the last time. The task runs on meanwhile: its state is read first, so that nothing is
   * left to take of one that has ended.
   */
  take(): void {
    const state = this.#channel.taskState(this.#number);
    const current = this.#channel.currentStep(this.#number);
    this.#touching = this.#accessUnderWay(current);
    for (const { step, index } of this.#accesses) {
      if (index > current || this.#taken.has(index)) continue;
      const { status, bytes } = this.#channel.result(this.#number, index);
      if (status !== "done") continue;
      this.#taken.add(index);
      this.#seen.take(this.#number, index, bytes.subarray(0, seenBytes(step)));
    }
    if (state === "done" || state === "killed") this.end();
  }

  #accessUnderWay(step: number): UnderWay | null {
    const { status, began } = this.#channel.result(this.#number, step);
    if (this.#isEnded || status !== "started") return null;
    const known = this.#touching;
    if (known !== null && known.step === step && known.began === began) return known;
    return { step, began, since: this.look() };
  }

  get touching(): UnderWay | null {
    return this.#touching;
  }

  get counted(): bigint {
    return this.#channel.count(this.#number);
  }

  /** Nothing more comes of it. */
  end(): void {
    this.#isEnded = true;
    this.#onEnded();
  }

  look(): Share {
    const { pid } = this.#linux.task(this.#number);
    if (pid !== null) this.#attendance.add(lookAtThread(pid, this.#nowMs));
    return this.#attendance.share;
  }

  isDone(watch: SleepWatch): boolean {
    if (this.#isEnded) return true;
    const { pid } = this.#linux.task(this.#number);
    this.look();
    const isTouching = this.#touching !== null && pid !== null;
    const isProven = watch.sample(isTouching ? readThread(pid, this.#nowMs()) : null) !== null;
    this.#waiting = isProven ? this.#touching : null;
    return isProven;
  }

  giveUp(): boolean {
    if (this.#isEnded) return true;
    if (this.#touching === null) return false;
    if (this.#waiting !== this.#touching && !isHung(this.#touching.since, this.look())) return false;
    this.#hung = this.#touching.step;
    return true;
  }

  /** A death that is no observation: of a signal outside an access, or of one that no access raises. */
  failure(): string | null {
    if (this.#channel.taskState(this.#number) !== "killed") return null;
    const { status } = this.#channel.result(this.#number, this.#channel.currentStep(this.#number));
    const { killedBy } = this.#linux.task(this.#number);
    const signal = signalName(killedBy ?? 0);
    const isSeen = status === "started" || status === "sigbus" || status === "sigsegv";
    if (isSeen && isSignalOfAccess(signal)) return null;
    if (signal === "SIGKILL" && this.#isKilledByTask()) return null;
    return `process of ${this.name}: killed by ${signal}`;
  }

  /** Has another task come to a step that kills this one? */
  #isKilledByTask(): boolean {
    return this.#killSteps.some(({ task, index }) => this.#channel.currentStep(task) >= index);
  }

  accesses(): Record<string, Access> {
    return Object.fromEntries(this.#accesses.map(({ label, index }) => [label, this.#access(index)]));
  }

  #access(index: number): Access {
    const seen = this.#seen.access(this.name, index);
    if (seen !== null) return seen;
    const result = this.#channel.result(this.#number, index);
    const failed = failedAccess(result);
    if (failed !== null) return failed;
    // What is done without having been taken was done after the end of the case.
    if (result.status !== "started") return { kind: "not-reached" };
    if (this.#hung === index) return { kind: "hung" };
    return this.#isEnded ? { kind: "killed" } : { kind: "not-reached" };
  }

  /** The last access so far that touches the address. */
  labelAt(address: bigint): string {
    const current = this.#channel.currentStep(this.#number);
    const offset = address - WINDOW_BASE;
    const isThere = ({ step, index }: Labelled<AccessStep>): boolean =>
      index <= current && offset >= step.offset && offset < step.offset + BigInt(accessBytes(step));
    return this.#accesses.findLast(isThere)?.label ?? "no access";
  }
}

type TaskParts = {
  readonly linux: Pick<LinuxCase, "channel" | "task">;
  readonly seen: SeenAccesses;
  readonly nowMs: () => number;
  /** Of the other tasks, those that kill this one. */
  readonly killSteps: readonly KillStep[];
};

function killStepsOf(scenario: Scenario, name: string): readonly KillStep[] {
  return guestActors(scenario).flatMap(([, { steps }], task) =>
    steps.flatMap((step, index) => (step.verb === "kill" && step.actor === name ? [{ task, index }] : [])),
  );
}

/** A signal that a process has sent (SI_FROMUSER(), include/uapi/asm-generic/siginfo.h): no access has raised it. */
const isFromOutside = ({ errorCode }: GuestEvent): boolean => BigInt.asIntN(64, errorCode) <= 0n;

function eventText(event: GuestEvent, label: string): string {
  const hex = (value: bigint): string => `0x${value.toString(16)}`;
  return `${label}: si_code ${event.errorCode} address ${hex(event.cr2)} rip ${hex(event.rip)}`;
}

class Steps implements HostTasks {
  readonly tasks: readonly StepsTask[];
  readonly mapped: Promise<void>;
  readonly #setup: HostSetup;
  readonly #shared: Shared;
  readonly #signals: readonly string[];
  readonly #program: Program;
  readonly #looking: NodeJS.Timeout;
  #onMapped = (): void => {};
  #stopListening = (): void => {};
  /** Bytes of a report that is not complete. */
  #rest: Uint8Array = new Uint8Array();
  #eventsSeen = 0;
  #failure: string | null = null;
  #killing: Promise<void> | null = null;

  constructor(scenario: Scenario, setup: HostSetup, directory: string) {
    this.#setup = setup;
    this.#signals = signalNames(scenario);
    this.#shared = openShared();
    const { linux, fd, address } = this.#shared;
    try {
      linux.configure({
        programs: guestTasks(scenario).map(({ program }) => program),
        path: setup.filePath,
        mappings: mappingsOf(scenario),
        windowBytes: windowBytesOf(scenario),
      });
    } catch (error) {
      munmap(address, caseLayout.sizeofLinuxCase);
      closeSync(fd);
      throw error;
    }
    const seen = new SeenAccesses(scenario, setup);
    const nowMs = (): number => setup.nowMs();
    this.tasks = guestActors(scenario).map(
      (actor, number) =>
        new StepsTask(number, actor, { linux, seen, nowMs, killSteps: killStepsOf(scenario, actor[0]) }),
    );
    this.mapped = new Promise((resolve) => {
      this.#onMapped = resolve;
    });
    this.#program = startProgram({
      path: stepsPath(),
      args: [String(FIRST_LENT_DESCRIPTOR)],
      directory,
      descriptors: [fd],
      onOutput: (bytes) => this.#receive(bytes),
    });
    closeSync(fd);
    void this.#program.exited.then((exit) => this.#receiveExit(exit));
    this.#looking = setInterval(() => this.#look(), LOOK_MS);
  }

  #receive(bytes: Uint8Array): void {
    this.#rest = Buffer.concat([this.#rest, bytes]);
    while (this.#rest.length >= DOORBELL_BYTES && this.#killing === null) {
      const value = Buffer.from(this.#rest).readUInt32LE(0);
      this.#rest = this.#rest.subarray(DOORBELL_BYTES);
      this.#rang(decodeDoorbell(value));
    }
  }

  #rang(doorbell: Doorbell): void {
    switch (doorbell.kind) {
      case "ready":
        for (const { name } of this.tasks) {
          this.#setup.trace({ kind: "map", actor: name, detail: this.#setup.filePath });
        }
        this.#onMapped();
        return;
      case "signal":
        this.#raised(doorbell.number, doorbell.task ?? 0);
        return;
      case "results":
        this.#look();
        this.#shared.linux.answer(doorbell.task);
        return;
      case "finished":
        this.#look();
        return;
      case "panic":
        this.#fail(`the program refuses the case: ${this.#shared.linux.refusal}`);
        return;
      case "nmi":
      case "idle":
      case "unknown":
        this.#fail(`the program reports ${JSON.stringify(doorbell)}, which means nothing here`);
    }
  }

  #raised(number: number, task: number): void {
    this.#look();
    const [name, actor] = [this.#signals[number], this.tasks[task]];
    if (name !== undefined && actor !== undefined) this.#setup.raise(name, actor.name);
    this.#shared.linux.answer(task);
  }

  #fail(message: string): void {
    this.#failure ??= message;
    this.#onMapped();
    for (const task of this.tasks) task.end();
  }

  #receiveExit(exit: ChildExit): void {
    if (this.#killing === null) this.#fail(`the program that runs the tasks: ${exitText(exit)}`);
  }

  #look(): void {
    if (this.#killing !== null) return;
    this.#traceEvents();
    for (const task of this.tasks) task.take();
  }

  #traceEvents(): void {
    const { channel } = this.#shared.linux;
    if (channel.eventCount === this.#eventsSeen) return;
    const events = channel.events();
    for (const event of events.slice(this.#eventsSeen)) {
      const task = this.tasks[event.task];
      if (task !== undefined && isFromOutside(event)) {
        this.#fail(`process of ${task.name}: ${signalName(event.vector)} sent from outside`);
      }
      if (task === undefined || (event.kind !== "sigbus" && event.kind !== "sigsegv")) continue;
      this.#setup.trace({
        kind: event.kind,
        actor: task.name,
        detail: eventText(event, task.labelAt(event.cr2)),
      });
    }
    this.#eventsSeen = events.length;
  }

  start(): void {
    if (this.#killing !== null) return;
    const { channel } = this.#shared.linux;
    this.#stopListening = this.#setup.onSignal((name) => {
      const number = this.#signals.indexOf(name);
      if (number >= 0) channel.raise(number);
    });
    this.#program.write("!");
  }

  get isTouching(): boolean {
    return this.tasks.some(({ touching }) => touching !== null);
  }

  failure(): string | null {
    return this.#failure ?? this.tasks.map((task) => task.failure()).find((text) => text !== null) ?? null;
  }

  accesses(): AllAccesses {
    return Object.fromEntries(this.tasks.map((task) => [task.name, task.accesses()]));
  }

  kill(): Promise<void> {
    this.#killing ??= this.#end();
    return this.#killing;
  }

  async #end(): Promise<void> {
    this.#stopListening();
    clearInterval(this.#looking);
    this.#shared.linux.stop();
    this.#program.endInput();
    if (!(await within(this.#program.exited, STOP_MS))) await this.#program.kill();
    this.#onMapped();
    for (const task of this.tasks) task.end();
  }

  /** Whatever reads the memory afterwards ends this process. */
  release(): void {
    munmap(this.#shared.address, caseLayout.sizeofLinuxCase);
  }
}

export function startSteps(scenario: Scenario, setup: HostSetup, directory: string): HostTasks {
  return new Steps(scenario, setup, directory);
}
