/** The same case for the model of kvm-model/src, and what it allows. The only part here that knows the model. */
import { coarsen, modelledOnly, outcomeText, recordedStyle } from "../../../language/src/index.ts";
import {
  explore,
  guestModel,
  type ModelCase,
  modelCase,
  outcomesOf,
  type TaskStep,
} from "../../src/index.ts";
import type { Case } from "./cases.ts";
import type { GuestOp, HostOp, Task } from "./machine.ts";

const pageStarts = { cached: "resident", disk: "on-disk", full: "no-space" } as const;
const kernelOps = { load: "copy-from-user", store: "copy-to-user" } as const;

function guestStep(task: Task, op: GuestOp): TaskStep {
  switch (op.do) {
    case "signal":
    case "await":
      return { op: op.do, name: op.name };
    case "count":
      return { op: "count" };
    case "load":
    case "store":
      return {
        op: op.by === "kernel" ? kernelOps[op.do] : op.do,
        page: op.page,
        mode: task.cpl === 0 ? "kernel" : "user",
        interrupts: task.interrupts ? "on" : "off",
        preemptible: false,
      };
  }
}

function hostSteps(pages: number, ops: readonly HostOp[]): ModelCase["host"] {
  let size = pages;
  return ops.map((op) => {
    if (op.do === "signal" || op.do === "await") return { op: op.do, name: op.name };
    if (op.do === "punch") return { op: "punch", page: op.page, pages: 1 };
    const verb = op.pages > size ? "extend" : "truncate";
    size = op.pages;
    return { op: verb, pages: op.pages };
  });
}

function toModel({ name, program, machine }: Case): ModelCase {
  const { pages, tasks, host, mayKill } = program;
  return modelCase({
    name,
    vcpus: Math.max(...tasks.map(({ cpu }) => cpu)) + 1,
    pages: pages.map((page) => pageStarts[page]),
    tasks: tasks.map((task) => ({
      name: task.name,
      vcpu: task.cpu,
      steps: task.ops.map((op) => guestStep(task, op)),
    })),
    host: hostSteps(pages.length, host),
    kvm: machine.kvm,
    exits: machine.hltInGuest ? "hlt-in-guest" : "kvm",
    guest: machine.apf === "off" ? "unaware" : "apf",
    lapic: machine.lapic,
    sendAlways: machine.apf === "always",
    preempt: machine.timer,
    kill: mayKill === undefined ? null : (tasks[mayKill]?.name ?? null),
  });
}

/** The texts of all outcomes that the model allows, sorted. */
export function modelled(one: Case): readonly string[] {
  const { model, ctx } = guestModel(toModel(one));
  const graph = explore(model, { edges: true });
  if (graph.boundedBy !== null) throw new RangeError(`${one.name}: bounded by ${graph.boundedBy}`);
  const texts = outcomesOf(graph, ctx).map(({ outcome }) =>
    outcomeText(coarsen(outcome, modelledOnly), recordedStyle),
  );
  return [...new Set(texts)].sort();
}
