/**
 * A case without a VM: guest tasks are processes of the host that map the file. Shared by the engines that differ in what
 * those processes are. Real are the host's memory management and file systems; what it shows is what any process on the
 * host would see.
 */
import { release } from "node:os";
import {
  type Access,
  type Attestation,
  type EngineName,
  type Evidence,
  guestActors,
  isBystander,
  isMappedIntoGuest,
  type Proposal,
  type RunResult,
  type Scenario,
} from "../../../language/src/index.ts";
import { PAGE_SIZE, SleepWatch } from "../../../sys/src/index.ts";
import { onAbort } from "../abort.ts";
import type { CaseContext, Support } from "../engine.ts";
import { hostSetupSupport } from "../machine.ts";
import { stoppedProcesses } from "../run/sweep.ts";
import { within } from "../within.ts";
import { attendedMs, noShare, type Share, shareBetween } from "./attendance.ts";
import { beyondProcess } from "./beyond-process.ts";
import { type Bystanders, bystanderCounters, bystandersOf, progressOf, type Watched } from "./bystander.ts";
import { type HostSetup, openHostSetup, setupFailure } from "./host-setup.ts";
import { killedText } from "./host-step.ts";
import { ownMappingReason } from "./own-mapping.ts";
import { busyReason, ioPatienceMs } from "./patience.ts";

/** Part of a case's time that is kept for ending it. */
const CLOSE_RESERVE_MS = 1000;
/** A counting task that is silent for this long makes no progress. In its own time: it was attended to (attendance.ts). */
const BYSTANDER_BOUND_MS = 3000;
/** How often the processes are looked at from outside. */
const LOOK_MS = 20;
const BYSTANDER_LOOK_MS = 5;
/** Each task is a process. */
const TASKS_MAX = 8;

/** An access that has been under way for less than this when the time is over is merely slow. In its process's own time. */
const HANG_BOUND_MS = 500;

/** What the kernel sends for an access. Another signal came from elsewhere (a user, the OOM killer): no observation. */
const signalsOfAccess = ["SIGBUS", "SIGSEGV", "SIGILL", "SIGFPE", "SIGTRAP"];

export const isSignalOfAccess = (signal: string): boolean => signalsOfAccess.includes(signal);

/**
 * Does an access that has not come back hang? Not where it is merely slow, or its process had no processor.
 * @param began what the process had got when the access began
 * @param now what it has got by now
 */
export const isHung = (began: Share, now: Share): boolean =>
  attendedMs(shareBetween(began, now)) >= HANG_BOUND_MS;

/** Of all tasks, by actor and label. */
export type AllAccesses = Record<string, Record<string, Access>>;

/** A guest task as a process of the host. */
export interface HostTask {
  readonly name: string;
  /** Resolves when its steps are done, or the process is. */
  readonly ended: Promise<void>;
  /** How far it has counted: of a bystander. */
  readonly counted: bigint;
  /** Looks at the process; returns what it has got so far. */
  look(): Share;
  /**
   * Has it come to its end, or is it proven to wait for ever? To be asked again and again, every few milliseconds.
   * @param watch of this task alone
   */
  isDone(watch: SleepWatch): boolean;
  /**
   * The time is over: nothing that comes later is an observation. An access that has not come back hangs.
   * False if the task merely waits for a signal, is slow, or had no processor.
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
    guest: null,
  };
}

/** Do the counting processes still count? Asked after the victims have ended. */
async function watchBystanders(
  bystanders: readonly HostTask[],
  untilMs: number,
): Promise<Readonly<Record<string, Watched>>> {
  const result: Record<string, Watched> = {};
  for (const bystander of bystanders) {
    const before = { counted: bystander.counted, share: bystander.look() };
    let share = noShare;
    let hasEnded = false;
    while (!hasEnded && bystander.counted === before.counted && attendedMs(share) < BYSTANDER_BOUND_MS) {
      if (performance.now() >= untilMs) break;
      hasEnded = await within(bystander.ended, BYSTANDER_LOOK_MS);
      share = shareBetween(before.share, bystander.look());
    }
    const counted = bystander.counted - before.counted;
    result[bystander.name] = { counted, share: share.looks > 0 ? share : null, isStopped: hasEnded };
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
  const failure = async (): Promise<string | null> => (await setup.failure()) ?? host.failure();

  if (!(await within(host.mapped, boundMs)))
    return { kind: "timeout", message: "the file was not mapped in time" };
  const early = await failure();
  if (early !== null) return { kind: "engine-error", message: early };
  host.start();
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
      message: `not done after ${inTime ? Math.round(setup.nowMs()) : boundMs} ms (waits for a signal?): ${waiting.join(", ")}${killedText(setup.hostSteps())}`,
    };
  }
  if (inTime && !settled) {
    return {
      kind: "timeout",
      message: `the host's steps were not done after ${Math.round(setup.nowMs())} ms`,
    };
  }
  const states = bystandersSeen(watched);
  if (states.kind === "not-known") return { kind: "busy", message: states.reason };
  const accesses = host.accesses();
  const isHungByTime = Object.values(accesses).some((labels) =>
    Object.values(labels).some(({ kind }) => kind === "hung"),
  );
  const busy = await busyReason(setup, { isHungByTime, patienceMs });
  if (busy !== null) return { kind: "busy", message: busy };
  return { kind: "evidence", evidence: toEvidence(parts, accesses, { watched, states: states.states }) };
}

function isBystanderOf(scenario: Scenario, name: string): boolean {
  const actor = scenario.actors[name];
  return actor?.in === "guest-task" && isBystander(actor);
}

type Counting = {
  readonly watched: Readonly<Record<string, Watched>>;
  readonly states: Extract<Bystanders, { kind: "known" }>["states"];
};

function toEvidence(
  { engine, setup }: Parts,
  accesses: AllAccesses,
  { watched, states }: Counting,
): Evidence {
  return {
    attestation: nativeAttestation(engine, setup.transport),
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

/** Before the end of the case, which ends what is stopped as well: what was seen is not the kernel's doing. */
function unlessStopped(directory: string, result: RunResult): RunResult {
  const stopped = stoppedProcesses(directory);
  if (stopped.length === 0) return result;
  return { kind: "engine-error", message: `stopped from outside: ${stopped.join(", ")}` };
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
    return setupFailure(error);
  }
  let host: HostTasks | null = null;
  let stopListening = (): void => {};
  try {
    const started = makeTasks(scenario, setup, context.directory);
    host = started;
    stopListening = onAbort(context.signal, () => void started.kill());
    const boundMs = context.timeoutMs - CLOSE_RESERVE_MS;
    const patienceMs = ioPatienceMs(scenario, context.slowness);
    const result = await perform({ engine, scenario, setup, host }, { boundMs, patienceMs });
    return unlessStopped(context.directory, result);
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

/** Can processes of the host run this case, whatever they are? Pure. */
export function supportsNative(scenario: Scenario, proposal: Proposal): Support {
  if (proposal.id !== "native") return no(`a proposal about a VM; this engine has none`);
  const beyond = beyondProcess(scenario);
  if (beyond !== null) return no(beyond);
  if (scenario.backing.cache !== undefined && scenario.backing.mount === undefined) {
    return no("the file itself is mapped: no client of a file server holds its attributes");
  }
  if (!isMappedIntoGuest(scenario.layout)) {
    return no(`layout ${scenario.layout} is about a guest's page cache; a process maps the file itself`);
  }
  const ownMapping = ownMappingReason(scenario, { failsPages: false });
  if (ownMapping !== null) return no(ownMapping);
  const tasks = guestActors(scenario).length;
  if (tasks > TASKS_MAX) return no(`${tasks} tasks would be as many processes; at most ${TASKS_MAX}`);
  if (scenario.needs.length > 0) return no(`needs ${scenario.needs.join(", ")}; this engine has no KVM`);
  return hostSetupSupport(scenario);
}
