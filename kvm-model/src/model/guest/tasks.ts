/** The guest's tasks: what one does when it runs its next step, up to the access that faults. */
import type { Action } from "../../explore/model.ts";
import { isStore, modeOf } from "../access.ts";
import type { AccessStep } from "../case.ts";
import { sizeAsServed } from "../host.ts";
import { isLost } from "../host-mm.ts";
import { takeFault } from "../kvm.ts";
import type { Machine } from "../machine.ts";
import { consumeError, consumesError } from "../memory-error.ts";
import type { Page } from "../page.ts";
import type { Saw, Task } from "../task.ts";
import type { Vcpu } from "../vcpu.ts";
import { isSchedulable, yieldCpu } from "./scheduler.ts";
import { sigbus } from "./sigbus.ts";

/** Kind of the step by which a bystander gets on. */
export const COUNT_STEP = "count";

const sawWords: Partial<Readonly<Record<Saw, string>>> = {
  value: "the value",
  zero: "zeros",
  stale: "stale bytes",
};

function runStep(m: Machine, vcpu: Vcpu, task: Task): void {
  vcpu.hasRun = true;
  if (m.pendingKill === task) {
    m.pendingKill = null;
    m.log?.("signal", "guest", "guest", `${task.name} dies of SIGKILL`);
    task.die();
    return;
  }
  witnessOverlap(m, vcpu, task);
  const step = task.currentStep;
  if (step === null) return;
  switch (step.op) {
    case "count":
      m.log?.("schedule", "guest", "guest", `${task.name} counts`);
      task.count();
      return;
    case "signal":
      m.signal(step.name);
      m.log?.("signal", "guest", "guest", `${task.name} signals ${step.name}`);
      task.advance("nothing");
      return;
    case "await":
      m.log?.("signal", "guest", "guest", `${task.name} has waited for ${step.name}`);
      task.advance("nothing");
      return;
    default:
      runAccess(m, vcpu, task, step);
  }
}

function runAccess(m: Machine, vcpu: Vcpu, task: Task, access: AccessStep): void {
  const page = m.page(access.page);
  task.begin();
  if (task.wokenWith === "error") {
    task.wokenWith = "ok";
    // handle_async_pf_error() of the proposal: only user mode can be sent a signal here.
    const canSignal = modeOf(access) === "user" || !m.checks("ready-error-user-only");
    if (canSignal) {
      sigbus(m, task, "BUS_ADRERR");
      return;
    }
  }
  if (isRefused(m, task, access, page)) return;
  if (page.ept === "none") takeFault(m, vcpu, task, access);
  else if (consumesError(access, page)) consumeError(m, task, page);
  else touch(m, task, access, page);
}

/** The guest itself knows that the page is not there: it gave the range back, or poisoned the page for good. */
function isRefused(m: Machine, task: Task, access: AccessStep, page: Page): boolean {
  const isPoisoned = page.isGuestPoisoned && m.checks("poison-is-remembered");
  // Its mapping is gone, so it asks the server for the size again before it maps anew.
  if (page.index >= m.guestFileSize) m.guestFileSize = sizeAsServed(m);
  if (!isPoisoned && page.index < m.guestFileSize) return false;
  if (modeOf(access) === "kernel") {
    m.log?.("fixup", "guest", "guest", `${task.name}: ${access.op} returns -EFAULT`);
    task.advance("efault");
  } else {
    sigbus(m, task, isPoisoned ? "BUS_MCEERR_AR" : "BUS_ADRERR");
  }
  return true;
}

/** The access goes through a mapping. */
function touch(m: Machine, task: Task, access: AccessStep, page: Page): void {
  // What is stored into a hole is there afterwards.
  const stores = isStore(access) && access.op !== "atomic";
  let saw: Saw = stores || !page.isZeroed ? "value" : "zero";
  if (page.ept === "anonymous") {
    // Zeros that no file holds, or a store that no file will ever see.
    m.mark("silent-data");
    saw = stores ? "stale" : "zero";
  }
  // What is stored in a sealed copy stays there.
  if (m.case.server === "sealed" && stores) saw = "stale";
  if (page.ept === "freed") {
    m.mark("stale-mapping");
    m.mark("silent-data");
    saw = "stale";
  }
  if (page.isBad) {
    // It retires into the cache, and its bytes are gone with the line.
    m.mark("imprecise");
    m.mark("silent-data");
    saw = "stale";
  }
  const words = sawWords[saw];
  m.log?.("access", "guest", "guest", `${task.name}: ${access.op} of page ${page.index} sees ${words}`);
  task.advance(saw);
}

/** Witness for keeps-apf: another task, a bystander where there is one, runs while a page that only needs I/O is on its way. */
function witnessOverlap(m: Machine, vcpu: Vcpu, task: Task): void {
  if (!task.isBystander && m.tasks.some(({ isBystander }) => isBystander)) return;
  for (const work of m.works) {
    if (work.state !== "queued" || !work.isOf(vcpu)) continue;
    if (work.task === task) continue;
    if (!isLost(work.page)) m.mark("ran-during-io");
  }
}

/** Each task an actor, so that fairness is owed to each. Counting is an action of its own: progress that can be seen. */
export function taskActions(m: Machine, task: Task): Action[] {
  const { vcpu, actor } = task;
  const isHere = (): boolean =>
    vcpu.runs(task) && vcpu.place === "guest" && vcpu.event === "none" && !vcpu.isInterrupted && m.alive;
  const runs = (): boolean => isHere() && isSchedulable(m, task);
  const run: Action = {
    name: `${actor}: runs its next step`,
    actor,
    guard: () => runs() && task.currentStep?.op !== "count",
    apply: () => runStep(m, vcpu, task),
  };
  const count: Action = {
    name: `${actor}: counts`,
    kind: COUNT_STEP,
    actor,
    guard: () => runs() && task.currentStep?.op === "count",
    apply: () => runStep(m, vcpu, task),
  };
  const yields: Action = {
    name: `${actor}: yields, no signal yet`,
    actor,
    guard: () => isHere() && task.state === "runnable" && task.currentStep?.op === "await" && !runs(),
    apply: () => yieldCpu(vcpu),
  };
  return [
    run,
    ...(task.isBystander ? [count] : []),
    ...(task.steps.some(({ op }) => op === "await") ? [yields] : []),
  ];
}

export function killActions(m: Machine): Action[] {
  const victim = m.tasks.find((task) => task.name === m.case.kill);
  if (victim === undefined) return [];
  return [
    {
      name: `kill: SIGKILL to ${victim.name}`,
      actor: "kill",
      guard: () =>
        m.pendingKill === null && (victim.state === "runnable" || victim.state === "sleeping") && m.alive,
      apply: () => {
        const when = "taken when it next returns to user mode";
        m.log?.("signal", "kill", "guest", `SIGKILL to ${victim.name}: ${when}`);
        m.pendingKill = victim;
      },
    },
  ];
}
