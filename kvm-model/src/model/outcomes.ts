/**
 * The allowed outcomes of a case: what could be observed at the end of each interleaving. An end is a state in which
 * nothing is enabled, or a fair cycle (a loop, or bystanders who count for ever). The words are those of the
 * vocabulary, without figures; real observations are compared with this set.
 */
import type { AccessWord, EndFacts, HostWord, Outcome, VmmWord } from "../../../language/src/index.ts";
import { type Component, type CycleQuery, fairComponents, lassoOf } from "../explore/cycles.ts";
import type { Graph } from "../explore/explorer.ts";
import { formatToken } from "../explore/path.ts";
import { isAccess } from "./case.ts";
import type { Context } from "./fields.ts";
import { COUNT_STEP } from "./guest/tasks.ts";
import { sleepsForEver } from "./host-mm.ts";
import { FAULT_STEP } from "./kvm.ts";
import { type HostResult, Machine } from "./machine.ts";
import type { Saw, Task } from "./task.ts";
import { stopReasons } from "./vmm.ts";

/**
 * An end by the shortest way to it. The outcome's labels are the model's own: of an access the index of its step in the
 * task, of a host step the index in the case, under `HOST_ACTOR`.
 */
export type End = { readonly outcome: Outcome; readonly facts: EndFacts; readonly token: string };

/** The one host process. */
export const HOST_ACTOR = "host";

const sawWords: Readonly<Record<Exclude<Saw, "nothing">, AccessWord>> = {
  value: { kind: "value" },
  zero: { kind: "zero" },
  stale: { kind: "stale" },
  "sigbus-adrerr": { kind: "sigbus", code: "BUS_ADRERR" },
  "sigbus-mceerr": { kind: "sigbus", code: "BUS_MCEERR_AR" },
  efault: { kind: "efault" },
  killed: { kind: "killed" },
};

const hostWords: Readonly<Record<HostResult, HostWord>> = {
  "not-reached": { kind: "not-reached" },
  done: { kind: "done" },
  delayed: { kind: "delayed" },
  // The file is sealed (F_SEAL_SHRINK): shmem_setattr() (mm/shmem.c).
  denied: { kind: "denied", errno: "EPERM" },
};

/** Properties of a cycle besides its states. */
type Turn = {
  /** Actors that count in it: bystanders that get on. */
  readonly counting: ReadonlySet<string>;
  /** Page faults go round. */
  readonly faulting: boolean;
};

const still: Turn = { counting: new Set(), faulting: false };

/** By the index of the step; steps that are no accesses are left out. */
function taskWords(m: Machine, task: Task): Record<string, AccessWord> {
  const wordOf = (index: number): AccessWord => {
    const saw = task.saw(index);
    if (saw !== "nothing") return sawWords[saw];
    if (index !== task.step) return { kind: "not-reached" };
    if (!task.hasBegun) return { kind: "not-reached" };
    return { kind: m.alive ? "hung" : "killed" };
  };
  return Object.fromEntries(
    task.steps.flatMap((step, index) => (isAccess(step) ? [[index, wordOf(index)]] : [])),
  );
}

/**
 * Does a vCPU wait for a page that never comes: in a synchronous fault, or halted by KVM for it? The guest's timer may end
 * that halt; the access then faults again, and finds its gfn among those that are outstanding.
 */
function waitsForEver(m: Machine): boolean {
  const isHaltedFor = m.works.some(
    (work) => work.state === "queued" && !work.isInjected && sleepsForEver(work.page),
  );
  return isHaltedFor || m.vcpus.some((vcpu) => vcpu.place === "sync" && sleepsForEver(vcpu.faultingPage));
}

function vmmWord(m: Machine, turn: Turn): VmmWord {
  if (m.vmStop === "none" && waitsForEver(m)) return { kind: "waiting" };
  if (m.vmStop === "none") return { kind: turn.faulting ? "looping" : "running" };
  return { kind: "stopped", reason: stopReasons[m.vmStop] };
}

const everywhere: CycleQuery = { states: () => true };

/** Does the bystander get on at the end; or, where I/O is slow, did it during I/O? In a VM that has stopped none does. */
function getsOn(m: Machine, task: Task, turn: Turn): boolean {
  if (m.vmStop !== "none") return false;
  return m.case.slowIo ? m.hasMark("ran-during-io") : turn.counting.has(task.actor);
}

function outcomeOf(m: Machine, turn: Turn): Outcome {
  const bystanders = m.tasks.filter((task) => task.isBystander);
  return {
    accesses: Object.fromEntries(m.tasks.map((task) => [task.name, taskWords(m, task)])),
    bystanders: Object.fromEntries(
      bystanders.map((task) => [task.name, getsOn(m, task, turn) ? "progress" : "starved"]),
    ),
    vmm: [vmmWord(m, turn)],
    guestKernel: m.kernel,
    host: {
      [HOST_ACTOR]: Object.fromEntries(m.case.host.map((_, step) => [step, hostWords[m.hostResult(step)]])),
    },
  };
}

/** What the words of the outcome do not have. */
function factsAt(m: Machine): EndFacts {
  return {
    exitElsewhere: m.vcpus.some((vcpu) => vcpu.place === "stopped" && vcpu.task !== vcpu.faulter),
    metLostPage: m.hasMark("met-lost-page"),
    nmi: m.case.nmi !== "off" && !m.hasNmiLeft,
  };
}

/** Which actors move inside a component, and how. */
function turnOf(graph: Graph, component: Component): Turn {
  const { model } = graph;
  const inside = new Set(component.members);
  const counting = new Set<string>();
  let faulting = false;
  for (const member of component.members) {
    const end = graph.edgeStart.values[member + 1] as number;
    for (let edge = graph.edgeStart.values[member] as number; edge < end; edge++) {
      if (!inside.has(graph.edgeTarget.values[edge] as number)) continue;
      const action = graph.edgeAction.values[edge] as number;
      const actor = model.actors[model.actorOf[action] as number] ?? "";
      if (model.actionKinds[action] === COUNT_STEP) counting.add(actor);
      if (model.actionKinds[action] === FAULT_STEP) faulting = true;
    }
  }
  return { counting, faulting };
}

/** Every different end, by the shortest way. Needs a graph with edges. */
export function outcomesOf(graph: Graph, ctx: Context): End[] {
  const ends: { readonly index: number; readonly turn: Turn; readonly component: Component | null }[] = [
    ...graph.terminals.map((index) => ({ index, turn: still, component: null })),
    ...fairComponents(graph, everywhere).map((component) => ({
      index: component.entry,
      turn: turnOf(graph, component),
      component,
    })),
  ].sort((a, b) => a.index - b.index);
  const m = new Machine(ctx);
  const found = new Map<string, End>();
  for (const { index, turn, component } of ends) {
    m.bind(graph.state(index));
    const outcome = outcomeOf(m, turn);
    const facts = factsAt(m);
    const key = JSON.stringify([outcome, facts]);
    if (found.has(key)) continue;
    const lasso = component === null ? null : lassoOf(graph, component, everywhere);
    const token = lasso === null ? formatToken(graph.pathTo(index)) : formatToken(lasso.stem, lasso.cycle);
    found.set(key, { outcome, facts, token });
  }
  return [...found.values()];
}
