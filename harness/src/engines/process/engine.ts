/**
 * The engine `process`: no VM. A child of ours maps the file with mmap-io and touches it as a guest task would.
 * Real are the host's memory management and file systems; what it shows is what any process on the host would see,
 * SIGBUS included, which is observed from outside as the wait status.
 */
import { release } from "node:os";
import {
  type Access,
  type AccessStep,
  type Actor,
  type Attestation,
  accessesOf,
  classifyAccess,
  type Evidence,
  fileOffsetAt,
  type GuestActor,
  guestActors,
  guestVerbs,
  heldAt,
  isAccess,
  isBystander,
  kernelCopyOptionsOf,
  type Labelled,
  mappingsOf,
  mayBeWritten,
  type Proposal,
  type RunResult,
  type Scenario,
  writtenBy,
} from "../../../../language/src/index.ts";
import { lookAtThread, PAGE_SIZE, readThread, SleepWatch } from "../../../../sys/src/index.ts";
import { onAbort } from "../../abort.ts";
import type { CaseContext, Engine, Support } from "../../engine.ts";
import { errorText } from "../../error-text.ts";
import { hostSetupSupport, supportOf, thisMachine } from "../../machine.ts";
import { within } from "../../within.ts";
import { Attendance, attendedMs, noShare, type Share, shareBetween } from "../attendance.ts";
import { type Bystanders, bystanderCounters, bystandersOf, progressOf, type Watched } from "../bystander.ts";
import { type Child, type ChildExit, exitText, startChild } from "../child.ts";
import { type HostSetup, notReached, openHostSetup } from "../host-setup.ts";
import { ioPatienceMs, patienceDoubt } from "../patience.ts";
import type { MapperInbound, MapperOutbound } from "./mapper.ts";

/** Part of a case's time that is kept for ending it. */
const CLOSE_RESERVE_MS = 1000;
/**
 * Counting tasks report every few milliseconds; one that is silent for this long makes no progress. In its own time: it was
 * attended to (../attendance.ts).
 */
const BYSTANDER_BOUND_MS = 3000;

/** How often the processes are looked at from outside. */
const LOOK_MS = 20;
const BYSTANDER_LOOK_MS = 5;

/** An access that has been under way for less than this when the time is over is merely slow. In its process's own time. */
const HANG_BOUND_MS = 500;

/** What the kernel sends for an access. Another signal came from elsewhere (a user, the OOM killer): no observation. */
const signalsOfAccess = ["SIGBUS", "SIGSEGV", "SIGILL", "SIGFPE", "SIGTRAP"];

const isOfAccess = (exit: ChildExit): boolean =>
  exit.kind === "signal" && signalsOfAccess.includes(exit.signal);

/** Of all tasks, by actor and label. */
type AllAccesses = Record<string, Record<string, Access>>;

/** One mapping child: a guest task as a process. */
class Mapper {
  readonly name: string;
  readonly #scenario: Scenario;
  readonly #setup: HostSetup;
  readonly #steps: ReadonlyMap<string, Labelled<AccessStep>>;
  readonly #accesses: Record<string, Access>;
  readonly #all: AllAccesses;
  readonly #child: Child<MapperInbound, MapperOutbound>;
  readonly #actor: GuestActor;
  readonly mapped: Promise<void>;
  /** Resolves when the steps are done, or the process is. */
  readonly ended: Promise<void>;
  /** `since`: what the process had got when the access began. */
  #touching: { readonly label: string; readonly since: Share } | null = null;
  readonly #attendance = new Attendance();
  #exit: ChildExit | null = null;
  #finished = false;
  #isOver = false;
  counted = 0;

  constructor(
    scenario: Scenario,
    setup: HostSetup,
    actor: readonly [string, GuestActor],
    accesses: AllAccesses,
    directory: string,
  ) {
    [this.name, this.#actor] = actor;
    this.#scenario = scenario;
    this.#setup = setup;
    this.#all = accesses;
    this.#accesses = accesses[this.name] ?? {};
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
      entry: "harness/src/engines/process/mapper-main.ts",
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
        this.#accesses[message.label] = this.#classify(message.label, message.bytes);
        return;
      case "efault":
        this.#touching = null;
        this.#accesses[message.label] = { kind: "efault" };
        return;
      case "signal":
        this.#setup.raise(message.name, this.name);
        return;
      case "counted":
        this.counted = message.count;
        return;
      case "mapped":
        this.#setup.trace({ kind: "map", actor: this.name, detail: this.#setup.filePath });
        return;
      case "finished":
        return;
    }
  }

  #classify(label: string, bytes: Uint8Array): Access {
    const known = this.#steps.get(label);
    if (known === undefined) throw new Error(`${this.name} reports an access ${label} that it does not have`);
    const { step, index } = known;
    const offset = fileOffsetAt(this.#scenario, step.offset);
    const written = mayBeWritten(this.#scenario, offset, bytes.length);
    return classifyAccess(step, offset, bytes, {
      zerosAreHeld: () => this.#zerosAreHeld(index),
      fileNow: () => this.#setup.readFile(offset, bytes.length, { written }),
    });
  }

  #zerosAreHeld(index: number): boolean {
    const hasWritten = writtenBy(this.#scenario, this.#all, this.#setup.hostSteps());
    return heldAt(this.#scenario, { actor: this.name, index }, hasWritten).zerosAreHeld;
  }

  #receiveExit(exit: ChildExit): void {
    this.#exit = exit;
    if (this.#isOver || exit.kind !== "signal" || this.#touching === null || !isOfAccess(exit)) return;
    const { label } = this.#touching;
    const isSigbus = exit.signal === "SIGBUS";
    this.#accesses[label] = isSigbus ? { kind: "sigbus", code: "unobserved" } : { kind: "killed" };
    if (isSigbus) this.#setup.trace({ kind: "sigbus", actor: this.name, detail: label });
  }

  get isTouching(): boolean {
    return this.#touching !== null;
  }

  start(): void {
    this.#setup.onSignal((name) => this.#child.send({ type: "signal", name }));
    this.#child.send({ type: "start", steps: this.#actor.steps });
  }

  /** Looks at the process; returns what it has got so far. */
  look(): Share {
    const { pid } = this.#child;
    if (pid !== undefined) this.#attendance.add(lookAtThread(pid, () => this.#setup.nowMs()));
    return this.#attendance.share;
  }

  /**
   * Has it come to its end, or is it proven to wait for ever? To be asked again and again, every few milliseconds.
   * @param watch of this process alone
   */
  isDone(watch: SleepWatch): boolean {
    if (this.#finished || this.#exit !== null) return true;
    const { pid } = this.#child;
    this.look();
    const isTouching = this.#touching !== null && pid !== undefined;
    return watch.sample(isTouching ? readThread(pid, this.#setup.nowMs()) : null) !== null;
  }

  /**
   * The time is over: nothing that comes later is an observation. An access that has not come back hangs.
   * False if the child merely waits for a signal, is slow, or had no processor.
   */
  giveUp(): boolean {
    this.#isOver = true;
    if (this.#finished || this.#exit !== null) return true;
    if (this.#touching === null) return false;
    if (attendedMs(shareBetween(this.#touching.since, this.look())) < HANG_BOUND_MS) return false;
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

function attestation(transport: Attestation["transport"]): Attestation {
  return {
    engine: "process",
    kernel: release(),
    kvmBackend: null,
    kvmParameters: {},
    capabilities: {},
    lapic: null,
    apfEnabled: null,
    pageSize: PAGE_SIZE,
    transport,
    windowBytes: null,
    vm: null,
  };
}

/** Do the counting processes still count? Asked after the victims have ended. */
async function watchBystanders(
  bystanders: readonly Mapper[],
  untilMs: number,
): Promise<Readonly<Record<string, Watched>>> {
  const result: Record<string, Watched> = {};
  for (const bystander of bystanders) {
    const before = { counted: bystander.counted, share: bystander.look() };
    let share = noShare;
    while (bystander.counted === before.counted && attendedMs(share) < BYSTANDER_BOUND_MS) {
      if (performance.now() >= untilMs) break;
      await within(bystander.ended, BYSTANDER_LOOK_MS);
      share = shareBetween(before.share, bystander.look());
    }
    const counted = BigInt(bystander.counted - before.counted);
    result[bystander.name] = { counted, share: share.looks > 0 ? share : null, isStopped: false };
  }
  return result;
}

function bystandersSeen(watched: Readonly<Record<string, Watched>>): Bystanders {
  return bystandersOf(
    Object.fromEntries(
      Object.entries(watched).map(([name, one]) => {
        const who = `the process of ${name}`;
        return [name, progressOf(one, { who, starvedAfterMs: BYSTANDER_BOUND_MS, slowness: 1 })];
      }),
    ),
  );
}

/** How long a case may take, and one page of it. */
type Bounds = { readonly boundMs: number; readonly patienceMs: number };

/** Have all of them ended in time, or been proven to wait for ever? */
async function allDone(
  victims: readonly Mapper[],
  { setup, boundMs, patienceMs }: Bounds & { readonly setup: HostSetup },
): Promise<boolean> {
  const watched = victims.map((victim) => ({ victim, watch: new SleepWatch(patienceMs) }));
  const ended = Promise.all(victims.map((victim) => victim.ended));
  while (!(await within(ended, Math.min(LOOK_MS, boundMs - setup.nowMs())))) {
    // Each of them every time: a sleep is watched from its beginning.
    const done = watched.map(({ victim, watch }) => victim.isDone(watch));
    if (!done.includes(false)) return true;
    if (setup.nowMs() >= boundMs) return false;
  }
  return true;
}

/** The case itself, from an open host setup to its close. */
async function perform(
  scenario: Scenario,
  setup: HostSetup,
  mappers: readonly Mapper[],
  accesses: Record<string, Record<string, Access>>,
  { boundMs, patienceMs }: Bounds,
): Promise<RunResult> {
  const bystanders = mappers.filter((mapper) => isBystanderOf(scenario, mapper.name));
  const victims = mappers.filter((mapper) => !bystanders.includes(mapper));
  const failure = async (): Promise<string | null> => {
    const failed = mappers.map((mapper) => mapper.failure()).find((text) => text !== null);
    return (await setup.failure()) ?? failed ?? null;
  };

  const ready = Promise.all(mappers.map((mapper) => Promise.race([mapper.mapped, mapper.ended])));
  if (!(await within(ready, boundMs))) return { kind: "timeout", message: "the file was not mapped in time" };
  const early = await failure();
  if (early !== null) return { kind: "engine-error", message: early };
  for (const mapper of mappers) mapper.start();
  setup.begin();

  const inTime = await allDone(victims, { setup, boundMs, patienceMs });
  const settled = inTime && (await setup.settled(boundMs - setup.nowMs()));
  const watched = await watchBystanders(bystanders, performance.now() + boundMs - setup.nowMs());
  const late = await failure();
  if (late !== null) return { kind: "engine-error", message: late };
  // Without a look at the accesses under way a time-out would hide a hang.
  const waiting = victims.filter((victim) => !victim.giveUp()).map((victim) => victim.name);
  if (waiting.length > 0) {
    return {
      kind: "timeout",
      message: `not done after ${boundMs} ms (waits for a signal?): ${waiting.join(", ")}`,
    };
  }
  if (inTime && !settled) {
    return { kind: "timeout", message: `the host's steps were not done after ${boundMs} ms` };
  }
  const states = bystandersSeen(watched);
  if (states.kind === "not-known") return { kind: "busy", message: states.reason };
  const busy = (await setup.heldUp()) ?? doubtOf(accesses, setup, patienceMs);
  if (busy !== null) return { kind: "busy", message: busy };
  return { kind: "evidence", evidence: toEvidence(setup, accesses, { watched, states: states.states }) };
}

function isBystanderOf(scenario: Scenario, name: string): boolean {
  const actor = scenario.actors[name];
  return actor?.in === "guest-task" && isBystander(actor);
}

/** An access that never came back did so by the clock: was the file server there to answer it? */
function doubtOf(accesses: AllAccesses, setup: HostSetup, patienceMs: number): string | null {
  const words = Object.values(accesses).flatMap((labels) => Object.values(labels));
  const isHung = words.some(({ kind }) => kind === "hung");
  return isHung ? patienceDoubt(setup.serverHeldUpMs(), patienceMs) : null;
}

type Counting = {
  readonly watched: Readonly<Record<string, Watched>>;
  readonly states: Extract<Bystanders, { kind: "known" }>["states"];
};

function toEvidence(
  setup: HostSetup,
  accesses: Record<string, Record<string, Access>>,
  { watched, states }: Counting,
): Evidence {
  return {
    attestation: attestation(setup.transport),
    observations: { accesses, host: setup.hostSteps(), vmm: null, guestKernel: null, bystanders: states },
    ends: [],
    counts: setup.counts(),
    counters: Object.assign(
      {},
      ...Object.entries(watched).map(([name, one]) => bystanderCounters(name, one)),
    ),
    accessMs: {},
    kvmTrace: null,
    trace: setup.events(),
    exhaustiveness: { kind: "sampled", runs: 1, seed: null },
    durationMs: setup.nowMs(),
  };
}

const no = (reason: string, fix: string | null = null): Support => ({ kind: "no", reason, fix });

async function runCase(scenario: Scenario, context: CaseContext): Promise<RunResult> {
  let setup: HostSetup;
  try {
    setup = await openHostSetup(scenario, context);
  } catch (error) {
    return { kind: "engine-error", message: errorText(error) };
  }
  const accesses = notReached(scenario);
  const mappers = guestActors(scenario).map(
    (actor) => new Mapper(scenario, setup, actor, accesses, context.directory),
  );
  const stopListening = onAbort(
    context.signal,
    () => void Promise.all(mappers.map((mapper) => mapper.kill())),
  );
  try {
    const boundMs = context.timeoutMs - CLOSE_RESERVE_MS;
    const patienceMs = ioPatienceMs(scenario, context.slowness);
    return await perform(scenario, setup, mappers, accesses, { boundMs, patienceMs });
  } finally {
    stopListening();
    // What waits for the server cannot always be killed.
    if (mappers.some((mapper) => mapper.isTouching)) setup.endServer();
    await Promise.all(mappers.map((mapper) => mapper.kill()));
    await setup.close();
  }
}

/** Each task is a process here. */
const TASKS_MAX = 8;

/** The part of an actor that only our guest can do; null if there is none. */
function beyondProcess(name: string, actor: Actor): string | null {
  switch (actor.in) {
    case "host-process":
      return null;
    case "guest-kernel":
      return `${name} is a guest kernel; this engine has none`;
    case "vmm":
      return `${name} is a VMM; this engine has none`;
    case "guest-task":
      if (actor.onSigbus === "next-step") return `${name} handles SIGBUS; this engine's processes die of it`;
      if (actor.nested) return `${name} is a task of a guest's guest; this engine has no guest`;
      if (actor.interrupts === "off") return `${name} runs with interrupts off; a process cannot`;
      for (const step of actor.steps) {
        if (isAccess(step) && kernelCopyOptionsOf(step).length > 0)
          return `${name} asks for a kernel copy of another kind than the host's own`;
        const { beyondProcess: reason } = guestVerbs[step.verb];
        if (reason !== null) return `${name} ${reason}`;
      }
      return null;
  }
}

export const processEngine: Engine = {
  name: "process",
  describe: () =>
    "No VM: a host process maps the file (mmap-io) and touches it. Real host memory and file systems.",
  async available() {
    return supportOf(thisMachine(), ["mmap-io"]);
  },
  supports(scenario: Scenario, proposal: Proposal): Support {
    if (proposal.id !== "native") return no(`a proposal about a VM; this engine has none`);
    for (const [name, actor] of Object.entries(scenario.actors)) {
      const reason = beyondProcess(name, actor);
      if (reason !== null) return no(reason);
    }
    if (scenario.backing.kind === "private-swapped") return no("this engine's mappings are shared");
    const tasks = guestActors(scenario).length;
    if (tasks > TASKS_MAX) return no(`${tasks} tasks would be as many processes; at most ${TASKS_MAX}`);
    if (scenario.nmi !== undefined) return no("a process takes no NMI");
    if (scenario.needs.length > 0) return no(`needs ${scenario.needs.join(", ")}; this engine has no KVM`);
    return hostSetupSupport(scenario);
  },
  async attest() {
    return attestation(null);
  },
  async open() {},
  run: (scenario, _proposal, context) => runCase(scenario, context),
  async close() {},
};
