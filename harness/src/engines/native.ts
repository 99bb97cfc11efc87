/**
 * A case without a VM: guest tasks are processes of the host that map the file. Shared by the engines that differ in what
 * those processes are. Real are the host's memory management and file systems; what it shows is what any process on the
 * host would see.
 */
import { release } from "node:os";
import {
  type Access,
  type Actor,
  type Attestation,
  type Bystander,
  type EngineName,
  type Evidence,
  guestActors,
  isAccess,
  isBystander,
  kernelCopyOptionsOf,
  type Proposal,
  type RunResult,
  type Scenario,
} from "../../../language/src/index.ts";
import { PAGE_SIZE, SleepWatch } from "../../../sys/src/index.ts";
import { onAbort } from "../abort.ts";
import type { CaseContext, Support } from "../engine.ts";
import { errorText } from "../error-text.ts";
import { hostSetupSupport } from "../machine.ts";
import { within } from "../within.ts";
import { type HostSetup, openHostSetup } from "./host-setup.ts";
import { ioPatienceMs } from "./patience.ts";

/** Part of a case's time that is kept for ending it. */
const CLOSE_RESERVE_MS = 1000;
/** A counting task that is silent for this long makes no progress. */
const BYSTANDER_BOUND_MS = 3000;
/** How often the processes are looked at from outside. */
const LOOK_MS = 50;
/** Each task is a process. */
const TASKS_MAX = 8;

/** An access that has been under way for less than this when the time is over is merely slow. */
export const HANG_BOUND_MS = 500;

/** Of all tasks, by actor and label. */
export type AllAccesses = Record<string, Record<string, Access>>;

/** A guest task as a process of the host. */
export interface HostTask {
  readonly name: string;
  /** Resolves when its steps are done, or the process is. */
  readonly ended: Promise<void>;
  /** How far it has counted: of a bystander. */
  readonly counted: bigint;
  /**
   * Has it come to its end, or is it proven to wait for ever? To be asked again and again, every few milliseconds.
   * @param watch of this task alone
   */
  isDone(watch: SleepWatch): boolean;
  /**
   * The time is over: nothing that comes later is an observation. An access that has not come back hangs.
   * False if the task merely waits for a signal, or is slow.
   */
  giveUp(): boolean;
}

/** All guest tasks of a case. */
export interface HostTasks {
  readonly tasks: readonly HostTask[];
  /** Resolves when the file is mapped, or never will be: `failure`. */
  readonly mapped: Promise<void>;
  /** Lets the tasks begin. */
  start(): void;
  /** Is an access under way? */
  readonly isTouching: boolean;
  /** An end that is no observation; null: none. */
  failure(): string | null;
  /** What has been seen, complete. */
  accesses(): AllAccesses;
  /** Ends the processes. What has been seen stays. */
  kill(): Promise<void>;
  /** Gives everything back, after `kill` and the last other call. */
  release(): void;
}

export type MakeTasks = (scenario: Scenario, setup: HostSetup, directory: string) => HostTasks;

export function nativeAttestation(
  engine: EngineName,
  transport: Attestation["transport"] = null,
): Attestation {
  return {
    engine,
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
async function watchBystanders(bystanders: readonly HostTask[]): Promise<Record<string, Bystander>> {
  const result: Record<string, Bystander> = {};
  for (const bystander of bystanders) {
    const before = bystander.counted;
    const deadlineMs = performance.now() + BYSTANDER_BOUND_MS;
    while (bystander.counted === before && performance.now() < deadlineMs) {
      await within(bystander.ended, 5);
    }
    result[bystander.name] = bystander.counted > before ? "progress" : "starved";
  }
  return result;
}

/** How long a case may take, and one page of it. */
type Bounds = { readonly boundMs: number; readonly patienceMs: number };

/** Have all of them ended in time, or been proven to wait for ever? */
async function allDone(
  victims: readonly HostTask[],
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

type Parts = {
  readonly engine: EngineName;
  readonly scenario: Scenario;
  readonly setup: HostSetup;
  readonly host: HostTasks;
};

/** The case itself, from an open host setup to its close. */
async function perform(parts: Parts, { boundMs, patienceMs }: Bounds): Promise<RunResult> {
  const { scenario, setup, host } = parts;
  const bystanders = host.tasks.filter(({ name }) => isBystanderOf(scenario, name));
  const victims = host.tasks.filter((task) => !bystanders.includes(task));
  const failure = (): string | null => setup.failure() ?? host.failure();

  if (!(await within(host.mapped, boundMs)))
    return { kind: "timeout", message: "the file was not mapped in time" };
  const early = failure();
  if (early !== null) return { kind: "engine-error", message: early };
  host.start();
  setup.begin();

  const inTime = await allDone(victims, { setup, boundMs, patienceMs });
  const settled = inTime && (await setup.settled(boundMs - setup.nowMs()));
  const bystanderStates = await watchBystanders(bystanders);
  const late = failure();
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
  return { kind: "evidence", evidence: toEvidence(parts, bystanderStates) };
}

function isBystanderOf(scenario: Scenario, name: string): boolean {
  const actor = scenario.actors[name];
  return actor?.in === "guest-task" && isBystander(actor);
}

function toEvidence({ engine, setup, host }: Parts, bystanders: Record<string, Bystander>): Evidence {
  return {
    attestation: nativeAttestation(engine, setup.transport),
    observations: {
      accesses: host.accesses(),
      host: setup.hostSteps(),
      vmm: null,
      guestKernel: null,
      bystanders,
    },
    ends: [],
    counts: setup.counts(),
    counters: {},
    accessMs: {},
    kvmTrace: null,
    trace: setup.events(),
    exhaustiveness: { kind: "sampled", runs: 1, seed: null },
    durationMs: setup.nowMs(),
  };
}

/** Runs a case of `engine` with the processes that `makeTasks` starts. */
export async function runNative(
  engine: EngineName,
  makeTasks: MakeTasks,
  scenario: Scenario,
  context: CaseContext,
): Promise<RunResult> {
  let setup: HostSetup;
  try {
    setup = await openHostSetup(scenario, context);
  } catch (error) {
    return { kind: "engine-error", message: errorText(error) };
  }
  let host: HostTasks | null = null;
  let stopListening = (): void => {};
  try {
    const started = makeTasks(scenario, setup, context.directory);
    host = started;
    stopListening = onAbort(context.signal, () => void started.kill());
    const boundMs = context.timeoutMs - CLOSE_RESERVE_MS;
    const patienceMs = ioPatienceMs(scenario, context.slowness);
    return await perform({ engine, scenario, setup, host }, { boundMs, patienceMs });
  } finally {
    stopListening();
    // What waits for the server cannot always be killed.
    if (host?.isTouching === true) setup.endServer();
    await host?.kill();
    host?.release();
    await setup.close();
  }
}

const no = (reason: string): Support => ({ kind: "no", reason, fix: null });

/** The part of an actor that only a guest of ours can do; null if there is none. */
function beyondProcess(name: string, actor: Actor): string | null {
  switch (actor.in) {
    case "host-process":
      return null;
    case "guest-kernel":
      return `${name} is a guest kernel; this engine has none`;
    case "vmm":
      return `${name} is a VMM; this engine has none`;
    case "guest-task":
      if (actor.nested) return `${name} is a task of a guest's guest; this engine has no guest`;
      if (actor.interrupts === "off") return `${name} runs with interrupts off; a process cannot`;
      for (const step of actor.steps) {
        if (isAccess(step) && kernelCopyOptionsOf(step).length > 0)
          return `${name} asks for a kernel copy of another kind than the host's own`;
      }
      return null;
  }
}

/** Can processes of the host run this case, whatever they are? Pure. */
export function supportsNative(scenario: Scenario, proposal: Proposal): Support {
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
}
