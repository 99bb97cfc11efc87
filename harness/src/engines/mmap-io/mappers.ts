/**
 * Guest tasks as processes written in JavaScript: a child of ours each, which maps the file with mmap-io and touches it as
 * a guest task would. SIGBUS is observed from outside, as the wait status.
 */
import {
  type Access,
  type AccessStep,
  accessesOf,
  type GuestActor,
  guestActors,
  type Labelled,
  mappingsOf,
  type Scenario,
  UNOBSERVED,
} from "../../../../language/src/index.ts";
import { lookAtThread, readThread, type SleepWatch } from "../../../../sys/src/index.ts";
import { Attendance, type Share } from "../attendance.ts";
import { type Child, type ChildExit, exitText, startChild } from "../child.ts";
import { type HostSetup, notReached } from "../host-setup.ts";
import { type AllAccesses, type HostTask, type HostTasks, isHung, isSignalOfAccess } from "../native.ts";
import { SeenAccesses } from "../seen.ts";
import type { MapperInbound, MapperOutbound } from "./mapper.ts";

/** The vocabulary has a word for two of the signals that an access raises. */
function signalKind(signal: string): "sigbus" | "sigsegv" | null {
  switch (signal) {
    case "SIGBUS":
      return "sigbus";
    case "SIGSEGV":
      return "sigsegv";
    default:
      return null;
  }
}

const isOfAccess = (exit: ChildExit): boolean => exit.kind === "signal" && isSignalOfAccess(exit.signal);

/** One mapping child: a guest task as a process. */
class Mapper implements HostTask {
  readonly name: string;
  readonly #seen: SeenAccesses;
  readonly #number: number;
  readonly #setup: HostSetup;
  readonly #steps: ReadonlyMap<string, Labelled<AccessStep>>;
  readonly #accesses: Record<string, Access>;
  readonly #child: Child<MapperInbound, MapperOutbound>;
  readonly #actor: GuestActor;
  readonly mapped: Promise<void>;
  readonly ended: Promise<void>;
  /** `since`: what the process had got when the access began. */
  #touching: { readonly label: string; readonly since: Share } | null = null;
  /** The access that was proven to wait for ever. */
  #waiting: { readonly label: string } | null = null;
  readonly #attendance = new Attendance();
  #exit: ChildExit | null = null;
  #finished = false;
  #isOver = false;
  counted = 0n;

  constructor(
    scenario: Scenario,
    setup: HostSetup,
    actor: readonly [string, GuestActor],
    seen: SeenAccesses,
    number: number,
    directory: string,
  ) {
    [this.name, this.#actor] = actor;
    this.#seen = seen;
    this.#number = number;
    this.#setup = setup;
    this.#accesses = { ...notReached(scenario)[this.name] };
    this.#steps = new Map(accessesOf(this.#actor).map((one) => [one.label, one]));
    let onMapped = (): void => {};
    let onFinished = (): void => {};
    this.mapped = new Promise((resolve) => {
      onMapped = resolve;
    });
    const finished = new Promise<void>((resolve) => {
      onFinished = resolve;
    });
    this.#child = startChild<MapperInbound, MapperOutbound>({
      entry: "harness/src/engines/mmap-io/mapper-main.ts",
      directory,
      onMessage: (message) => {
        if (message.type === "mapped") onMapped();
        if (message.type === "finished") {
          this.#finished = true;
          onFinished();
        }
        this.#receive(message);
      },
    });
    const exited = this.#child.exited.then((exit) => this.#receiveExit(exit));
    this.ended = Promise.race([finished, exited]);
    this.#child.send({ type: "map", path: setup.filePath, mappings: mappingsOf(scenario) });
  }

  #receive(message: MapperOutbound): void {
    if (this.#isOver) return;
    switch (message.type) {
      case "touching":
        this.#touching = { label: message.label, since: this.look() };
        return;
      case "saw":
        this.#touching = null;
        this.#take(message.label, message.bytes);
        return;
      case "efault":
        this.#touching = null;
        this.#accesses[message.label] = { kind: "efault" };
        return;
      case "signal":
        this.#setup.raise(message.name, this.name);
        return;
      case "counted":
        this.counted = BigInt(message.count);
        return;
      case "mapped":
        this.#setup.trace({ kind: "map", actor: this.name, detail: this.#setup.filePath });
        return;
      case "finished":
        return;
    }
  }

  #take(label: string, bytes: Uint8Array): void {
    const known = this.#steps.get(label);
    if (known === undefined) throw new Error(`${this.name} reports an access ${label} that it does not have`);
    this.#seen.take(this.#number, known.index, bytes);
  }

  /** What is known by now, under the labels of the steps. */
  accesses(): Record<string, Access> {
    const seen = [...this.#steps].flatMap(([label, { index }]) => {
      const access = this.#seen.access(this.name, index);
      return access === null ? [] : [[label, access] as const];
    });
    return { ...this.#accesses, ...Object.fromEntries(seen) };
  }

  #receiveExit(exit: ChildExit): void {
    this.#exit = exit;
    if (this.#isOver || exit.kind !== "signal" || this.#touching === null || !isOfAccess(exit)) return;
    const { label } = this.#touching;
    const kind = signalKind(exit.signal);
    this.#accesses[label] = kind === null ? { kind: "killed" } : { kind, code: UNOBSERVED };
    if (kind !== null) this.#setup.trace({ kind, actor: this.name, detail: label });
  }

  get isTouching(): boolean {
    return this.#touching !== null;
  }

  start(): void {
    this.#setup.onSignal((name) => this.#child.send({ type: "signal", name }));
    this.#child.send({ type: "start", steps: this.#actor.steps });
  }

  look(): Share {
    const { pid } = this.#child;
    if (pid !== undefined) this.#attendance.add(lookAtThread(pid, () => this.#setup.nowMs()));
    return this.#attendance.share;
  }

  isDone(watch: SleepWatch): boolean {
    if (this.#finished || this.#exit !== null) return true;
    const { pid } = this.#child;
    this.look();
    const isTouching = this.#touching !== null && pid !== undefined;
    const isProven = watch.sample(isTouching ? readThread(pid, this.#setup.nowMs()) : null) !== null;
    this.#waiting = isProven ? this.#touching : null;
    return isProven;
  }

  giveUp(): boolean {
    this.#isOver = true;
    if (this.#finished || this.#exit !== null) return true;
    if (this.#touching === null) return false;
    if (this.#waiting !== this.#touching && !isHung(this.#touching.since, this.look())) return false;
    this.#accesses[this.#touching.label] = { kind: "hung" };
    return true;
  }

  /** An end that is no observation: the child itself is broken. */
  failure(): string | null {
    if (this.#exit === null || (this.#touching !== null && isOfAccess(this.#exit))) return null;
    return `process of ${this.name}: ${exitText(this.#exit)}`;
  }

  kill(): Promise<void> {
    return this.#child.kill();
  }
}

class Mappers implements HostTasks {
  readonly tasks: readonly Mapper[];
  readonly mapped: Promise<void>;

  constructor(scenario: Scenario, setup: HostSetup, directory: string) {
    const seen = new SeenAccesses(scenario, setup);
    this.tasks = guestActors(scenario).map(
      (actor, number) => new Mapper(scenario, setup, actor, seen, number, directory),
    );
    this.mapped = Promise.all(this.tasks.map((mapper) => Promise.race([mapper.mapped, mapper.ended]))).then(
      () => {},
    );
  }

  start(): void {
    for (const mapper of this.tasks) mapper.start();
  }

  get isTouching(): boolean {
    return this.tasks.some((mapper) => mapper.isTouching);
  }

  failure(): string | null {
    return this.tasks.map((mapper) => mapper.failure()).find((text) => text !== null) ?? null;
  }

  accesses(): AllAccesses {
    return Object.fromEntries(this.tasks.map((mapper) => [mapper.name, mapper.accesses()]));
  }

  async kill(): Promise<void> {
    await Promise.all(this.tasks.map((mapper) => mapper.kill()));
  }

  release(): void {}
}

export function startMappers(scenario: Scenario, setup: HostSetup, directory: string): HostTasks {
  return new Mappers(scenario, setup, directory);
}
