/**
 * The facts that the explorer finds reachable in a case: for each, a shortest path to it or null.
 * Facts are neutral; `claims/claims.ts` says which of them a claim wants.
 */
import { type Exhaustiveness, type ExploreOptions, explore, type Graph } from "../explore/explorer.ts";
import { type Finding, findDeadlock, findLivelock, findState } from "../explore/search.ts";
import { type ModelCase, modelCase } from "./case.ts";
import type { Mark } from "./fields.ts";
import { COUNT_STEP } from "./guest/tasks.ts";
import { hostFinished } from "./host.ts";
import type { HostResult, Kernel } from "./machine.ts";
import { Machine } from "./machine.ts";
import { type GuestModel, guestModel } from "./model.ts";
import type { Saw, Task } from "./task.ts";
import type { Stop } from "./vcpu.ts";

export const factNames = [
  /** A task stays at an access for ever although every actor that can act does. */
  "livelock",
  /** Nothing can happen any more and a task has not finished: it sleeps for ever. */
  "deadlock",
  "host-stuck",
  "host-delayed",
  "host-denied",
  "vm-stopped",
  "stopped-efault",
  "stopped-memory-fault",
  "stopped-mmio",
  "stopped-internal-error",
  "stopped-triple-fault",
  "oops",
  "panic",
  "starved",
  "wrong-victim",
  "silent-data",
  "stale-mapping",
  "imprecise",
  "lost-report",
  "ran-during-io",
  "met-gone-page",
  "sigbus",
  "sigbus-adrerr",
  "sigbus-mceerr",
  "efault-returned",
  "all-done",
  /** The loss of a page is reported: a signal, an error code, or an exit to the VMM. */
  "told",
  /** All actors have finished, and async page faults are still off because of an error that was not reported. */
  "apf-left-off",
  /** The guest keeps a dummy node for a token that no task will ever wait for. */
  "dummy-node-left",
  /** All actors have finished, and a gfn is still remembered as bad. */
  "error-gfn-left",
  /** The bytes from before the truncation, seen after the file had grown again. */
  "value-after-regrowth",
  /** KVM_RUN has returned for an error while another task than the faulting one is current. */
  "exit-elsewhere",
  /** A task that came after the file had grown again was refused all the same. */
  "refused-after-regrowth",
] as const;
export type Fact = (typeof factNames)[number];

export type Facts = {
  readonly case: ModelCase;
  readonly found: Readonly<Record<Fact, Finding | null>>;
  readonly exhaustiveness: Exhaustiveness;
  readonly transitions: number;
  readonly seconds: number;
};

type Predicate = (m: Machine) => boolean;

/** A graph and the machine through which its states are read. */
class Reading {
  readonly graph: Graph;
  readonly m: Machine;

  constructor(graph: Graph, m: Machine) {
    this.graph = graph;
    this.m = m;
  }

  of(is: Predicate): (state: Uint8Array) => boolean {
    return (state) => is(this.m.bind(state));
  }

  state(is: Predicate): Finding | null {
    return findState(this.graph, this.of(is));
  }

  deadlock(isEnd: Predicate): Finding | null {
    return findDeadlock(this.graph, this.of(isEnd));
  }

  livelock(is: Predicate, withoutActions: ReadonlySet<number> = new Set()): Finding | null {
    return findLivelock(this.graph, { states: this.of(is), withoutActions });
  }
}

/** Tasks that have an end: everything but bystanders. */
function isUnfinished(m: Machine): boolean {
  return m.tasks.some((task) => !task.isBystander && task.state !== "done" && task.state !== "dead");
}

function allDone(m: Machine): boolean {
  return !isUnfinished(m) && m.alive;
}

/** A fair way to go on for ever in which a bystander stops counting. */
function starvation(read: Reading): Finding | null {
  for (const task of read.m.tasks) {
    if (!task.isBystander) continue;
    const finding =
      read.livelock((m) => m.alive, countSteps(read.graph, task)) ?? read.deadlock((m) => !m.alive);
    if (finding !== null) return finding;
  }
  return null;
}

/** Indices of the actions by which a bystander gets on. */
function countSteps({ model }: Graph, task: Task): ReadonlySet<number> {
  const counts = model.actionKinds.flatMap((kind, action) => {
    const actor = model.actors[model.actorOf[action] as number];
    return kind === COUNT_STEP && actor === task.actor ? [action] : [];
  });
  return new Set(counts);
}

function hasSeen(m: Machine, words: readonly Saw[]): boolean {
  return m.tasks.some((task) => task.steps.some((_, step) => words.includes(task.saw(step))));
}

function hostStuck(read: Reading): Finding | null {
  const isStuck = (m: Machine): boolean => !hostFinished(m) && !awaitsInVain(m);
  return read.deadlock((m) => !isStuck(m)) ?? read.livelock(isStuck);
}

/** The host waits for a signal that no task will give any more: the scenario's doing, not the guard's. */
function awaitsInVain(m: Machine): boolean {
  return m.case.host[m.hostStep]?.op === "await";
}

export function collectFacts(
  given: GuestModel,
  options: Partial<ExploreOptions> = {},
): { facts: Facts; graph: Graph } {
  const graph = explore(given.model, { ...options, edges: true });
  const facts: Facts = {
    case: given.ctx.case,
    found: findingsOf(new Reading(graph, new Machine(given.ctx))),
    exhaustiveness: graph.exhaustiveness,
    transitions: graph.transitions,
    seconds: graph.seconds,
  };
  return { facts, graph };
}

function findingsOf(read: Reading): Record<Fact, Finding | null> {
  const marked = (mark: Mark): Finding | null => read.state((m) => m.hasMark(mark));
  const stopped = (...stops: readonly Stop[]): Finding | null => read.state((m) => stops.includes(m.vmStop));
  const kernel = (kernel: Kernel): Finding | null => read.state((m) => m.kernel === kernel);
  const saw = (...words: readonly Saw[]): Finding | null => read.state((m) => hasSeen(m, words));
  return {
    livelock: read.livelock((m) => m.alive && isUnfinished(m) && someSteps(m)),
    deadlock: read.deadlock((m) => !m.alive || !isUnfinished(m)),
    "host-stuck": hostStuck(read),
    "host-delayed": marked("host-delayed"),
    "host-denied": read.state((m) => hasHostResult(m, "denied")),
    "vm-stopped": read.state((m) => m.vmStop !== "none"),
    "stopped-efault": stopped("efault", "poison"),
    "stopped-memory-fault": stopped("memory-fault"),
    "stopped-mmio": stopped("mmio"),
    "stopped-internal-error": stopped("internal-error"),
    "stopped-triple-fault": stopped("triple-fault"),
    oops: kernel("oops"),
    panic: kernel("panic"),
    starved: starvation(read),
    "wrong-victim": marked("wrong-victim"),
    "silent-data": marked("silent-data"),
    "stale-mapping": marked("stale-mapping"),
    imprecise: marked("imprecise"),
    "lost-report": marked("lost-report"),
    "ran-during-io": marked("ran-during-io"),
    "met-gone-page": marked("met-lost-page"),
    sigbus: saw("sigbus-adrerr", "sigbus-mceerr"),
    "sigbus-adrerr": saw("sigbus-adrerr"),
    "sigbus-mceerr": saw("sigbus-mceerr"),
    "efault-returned": saw("efault"),
    "all-done": read.state(allDone),
    told:
      saw("sigbus-adrerr", "sigbus-mceerr", "efault") ??
      read.state((m) => m.vcpus.some((vcpu) => vcpu.place === "stopped")),
    "apf-left-off": read.state((m) => allDone(m) && m.vcpus.some((vcpu) => vcpu.hasErrorPending)),
    "dummy-node-left": read.state((m) => m.hasDummyLeft),
    "error-gfn-left": read.state((m) => allDone(m) && hasErrorGfnLeft(m)),
    "value-after-regrowth": read.state((m) => sawAfterRegrowth(m, ["value"])),
    "exit-elsewhere": read.state((m) =>
      m.vcpus.some((vcpu) => vcpu.place === "stopped" && vcpu.task !== vcpu.faulter),
    ),
    "refused-after-regrowth": read.state((m) =>
      sawAfterRegrowth(m, ["sigbus-adrerr", "sigbus-mceerr", "efault", "killed"]),
    ),
  };
}

function hasHostResult(m: Machine, result: HostResult): boolean {
  return m.case.host.some((_, step) => m.hostResult(step) === result);
}

/** Tasks whose first step waits for the regrowth: is what their access saw one of these? */
function sawAfterRegrowth(m: Machine, words: readonly Saw[]): boolean {
  return m.tasks.some((task) => task.steps[0]?.op === "await" && words.includes(task.saw(1)));
}

function hasErrorGfnLeft(m: Machine): boolean {
  return m.vcpus.some((vcpu) => m.pages.some((page) => vcpu.errorGfnInSlotOf(page) !== null));
}

/** Not a state in which the unfinished tasks merely wait for a signal that the scenario has not given. */
function someSteps(m: Machine): boolean {
  return m.tasks.some((task) => {
    if (task.isBystander || (task.state !== "runnable" && task.state !== "sleeping")) return false;
    const step = task.currentStep;
    return step?.op !== "await" || m.hasSignal(step.name);
  });
}

/** Explores a case given in short form. */
export function factsOf(
  given: Parameters<typeof modelCase>[0],
  options: Partial<ExploreOptions> = {},
): Facts {
  return collectFacts(guestModel(modelCase(given)), options).facts;
}
