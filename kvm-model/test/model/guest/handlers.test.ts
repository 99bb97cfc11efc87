/** A guest whose page-ready may carry an error (`apf-error`): the error is the task's, whenever page-ready comes. */
import { expect, it } from "vitest";
import type { Parts } from "../../../../language/src/index.ts";
import { caseOf, guestModel } from "../../../src/index.ts";
import type { Token } from "../../../src/model/fields.ts";
import { handlerActions } from "../../../src/model/guest/handlers.ts";
import { Machine } from "../../../src/model/machine.ts";

const readyError: Parts = {
  kvm: "ready-error",
  exits: "kvm",
  vmm: "stop",
  guest: "apf-error",
  server: "none",
  lapic: "kernel",
};
const token = 1 as Token;

it.each(["ok", "error"] as const)("takes the flag of a page-ready that came first: %s", (flags) => {
  const { ctx } = guestModel(caseOf("load", readyError));
  const state = new Uint8Array(ctx.layout.stateBytes);
  const m = new Machine(ctx).bind(state);
  const [vcpu] = m.vcpus;
  const [task] = m.tasks;
  if (vcpu === undefined || task === undefined) throw new Error("the case has a vCPU and a task");
  vcpu.goTo("guest");
  vcpu.task = task;
  vcpu.event = "async #PF";
  vcpu.apfFlags = "not-present";
  vcpu.cr2 = token;
  m.setDummyNode(token, flags);
  handlerActions(m, vcpu)
    .find(({ name }) => name.endsWith("reads flags and CR2"))
    ?.apply(state, null);
  expect(m.dummyNode(token)).toBe("absent");
  expect(task.state).toBe("runnable");
  expect(task.wokenWith).toBe(flags);
});
