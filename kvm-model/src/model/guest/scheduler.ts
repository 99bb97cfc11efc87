/** The guest's scheduler: which runnable task gets its vCPU, and when. */
import type { Action } from "../../explore/model.ts";
import { modeOf } from "../access.ts";
import type { Machine } from "../machine.ts";
import type { Task } from "../task.ts";
import type { Vcpu } from "../vcpu.ts";

/** Can this task be put on its vCPU? */
export function isSchedulable(m: Machine, task: Task): boolean {
  if (task.state !== "runnable") return false;
  const step = task.currentStep;
  return step?.op === "await" ? m.hasSignal(step.name) : step !== null;
}

/** May the scheduler take the CPU from the running task here? */
function mayPreempt(m: Machine, vcpu: Vcpu): boolean {
  if (!m.case.preempt || !vcpu.hasRun || !vcpu.interruptsOn) return false;
  const access = vcpu.currentAccess;
  return access === null || modeOf(access) === "user" || access.preemptible !== false;
}

/** A bystander yields after each count, with or without a timer. */
function hasYielded(vcpu: Vcpu): boolean {
  return vcpu.hasRun && vcpu.task?.currentStep?.op === "count";
}

/** A task that awaits a signal has looked, and has not found it: whichever task can go on is next, timer or not. */
export function yieldCpu(vcpu: Vcpu): void {
  vcpu.task = null;
  vcpu.hasRun = false;
}

/** An event comes before the timer: an exception always, an interrupt if its priority is higher. */
function isTaken(m: Machine, vcpu: Vcpu): boolean {
  if (vcpu.event === "not present" && m.case.delivery === "interrupt") return m.checks("not-present-first");
  return vcpu.event !== "none";
}

function maySchedule(m: Machine, vcpu: Vcpu, task: Task): boolean {
  const place = vcpu.place;
  // The timer ends the halt of the task that it goes back to, too; its access then faults once more.
  if (vcpu.runs(task) && place !== "halted") return false;
  if (!isSchedulable(m, task) || !m.alive || isTaken(m, vcpu)) return false;
  const current = vcpu.task;
  if (place === "guest")
    return current === null || !isSchedulable(m, current) || hasYielded(vcpu) || mayPreempt(m, vcpu);
  // A timer interrupt ends the artificial halt (vcpu_block clears apf.halted) and may switch tasks.
  return place === "halted" && mayPreempt(m, vcpu);
}

function schedule(m: Machine, vcpu: Vcpu, task: Task): void {
  m.log?.("schedule", "guest", "guest", `vcpu${vcpu.index} runs ${task.name}`);
  vcpu.goTo("guest");
  vcpu.task = task;
  vcpu.hasRun = false;
}

/** An actor of its own: a timer that never stops firing gets every runnable task scheduled some day. */
export function schedulerActor(task: Task): string {
  return `scheduler.${task.name}`;
}

export function schedulerActions(m: Machine, vcpu: Vcpu): Action[] {
  return m.tasks
    .filter((task) => task.vcpu === vcpu)
    .map((task) => ({
      name: `guest: vcpu${vcpu.index} schedules ${task.name}`,
      actor: schedulerActor(task),
      guard: () => maySchedule(m, vcpu, task),
      apply: () => schedule(m, vcpu, task),
    }));
}
