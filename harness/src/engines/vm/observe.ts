/** From the VM process's report to observations: what was seen, in the words of the vocabulary. Pure. */

import {
  type Access,
  accessesOf,
  type Evidence,
  type FaultPlace,
  type GuestKernel,
  guestActors,
  isBystander,
  type Scenario,
  type StopReason,
  type Vmm,
} from "../../../../language/src/index.ts";
import type { Place, VcpuExit } from "../../../../vmm/src/index.ts";
import type { Watched } from "../bystander.ts";
import { failedAccess } from "../step-result.ts";
import type { TaskReport, VmReport, VmState } from "./messages.ts";

/** The outcome of an access that did not finish. */
function outcome(report: VmReport, task: TaskReport, stepIndex: number): Access {
  const result = task.results[stepIndex];
  if (result?.status === "started") return unfinished(report, task);
  // Done, but its bytes never came: the VM process ended first.
  return (result === undefined ? null : failedAccess(result)) ?? { kind: "not-reached" };
}

/** Nothing in the guest goes on. */
function isGone({ history }: VmReport): boolean {
  const last = history.at(-1)?.kind;
  return last === "stopped" || last === "killed";
}

/** An access that began and never came back: the end of the VM, of its task, or nothing at all. */
function unfinished(report: VmReport, task: TaskReport): Access {
  if (task.state === "killed" || report.end.kind === "guest-panic") return { kind: "killed" };
  return isGone(report) ? { kind: "killed" } : { kind: "hung" };
}

/**
 * Does an access hang of which only time says that it will not come back? All that hang do, but for one whose loop is proven
 * by its faults.
 */
export function isHungByTime(report: VmReport): boolean {
  const counted = report.history.flatMap((state) =>
    state.kind === "looping" && state.proof === "faults" && state.place !== null ? [state.place] : [],
  );
  return report.tasks.some((task, number) =>
    task.results.some(
      ({ status }, step) =>
        status === "started" &&
        unfinished(report, task).kind === "hung" &&
        !counted.some((place) => place.task === number && place.step === step),
    ),
  );
}

/**
 * All accesses of all guest actors.
 * @param seen what finished accesses saw, by actor and step index
 */
export function accessesSeen(
  scenario: Scenario,
  report: VmReport,
  seen: (actor: string, stepIndex: number) => Access | null,
): Record<string, Record<string, Access>> {
  const result: Record<string, Record<string, Access>> = {};
  for (const [name, actor] of guestActors(scenario)) {
    const task = report.tasks.find((one) => one.actor === name);
    const labels: Record<string, Access> = {};
    for (const { label, index } of accessesOf(actor)) {
      labels[label] =
        seen(name, index) ?? (task === undefined ? { kind: "not-reached" } : outcome(report, task, index));
    }
    result[name] = labels;
  }
  return result;
}

/** Milliseconds that each access was under way, by actor and label; without a stable TSC nothing. */
export function accessTimes(scenario: Scenario, report: VmReport): Evidence["accessMs"] {
  const tscKhz = report.final?.clock?.tscKhz ?? null;
  const times: Record<string, Record<string, number>> = {};
  for (const [name, actor] of guestActors(scenario)) {
    const task = report.tasks.find((one) => one.actor === name);
    const labels: Record<string, number> = {};
    for (const { label, index } of accessesOf(actor)) {
      const { began = 0n, ended = 0n } = task?.results[index] ?? {};
      if (tscKhz !== null && began !== 0n && ended > began) labels[label] = Number(ended - began) / tscKhz;
    }
    times[name] = labels;
  }
  return times;
}

/** The counting tasks: how far they got on once there was trouble (or at all, if there was none), and what their vCPU got. */
export function bystandersWatched(scenario: Scenario, report: VmReport): Record<string, Watched> {
  const isStopped = isGone(report);
  const result: Record<string, Watched> = {};
  for (const [name, actor] of guestActors(scenario)) {
    if (!isBystander(actor)) continue;
    const task = report.tasks.find((one) => one.actor === name);
    result[name] = { counted: task?.countSinceTrouble ?? 0n, share: task?.share ?? null, isStopped };
  }
  return result;
}

export function guestKernelSeen(report: VmReport): GuestKernel {
  if (report.end.kind === "guest-panic") return "panic";
  return report.oopsCount > 0 ? "oops" : "alive";
}

/** `struct kvm_run` has more detail than the vocabulary: it is coarsened here, in one place. */
function stopReason(exit: VcpuExit): StopReason {
  switch (exit.kind) {
    case "error":
      return "efault";
    case "memory-fault":
      return "memory-fault";
    case "mmio":
      return "mmio";
    case "shutdown":
      return "triple-fault";
    case "internal-error":
    case "fail-entry":
    case "hlt":
    case "io":
    case "interrupted":
    case "other":
      return "internal-error";
  }
}

function faultPlace(place: Place | null): FaultPlace | null {
  if (place === null) return null;
  const { rip, cpl, gva, gpa, hva } = place;
  return { rip, cpl, gva, gpa, hva };
}

function vmmState(state: VmState): Vmm {
  switch (state.kind) {
    case "running":
      return { kind: "running" };
    case "stopped":
      return { kind: "stopped", reason: stopReason(state.exit), at: faultPlace(state.place) };
    case "waiting":
      return { kind: "waiting", at: faultPlace(state.place) };
    case "killed":
      return { kind: "killed", signal: state.signal };
    case "looping":
      return { kind: "looping", faultsPerSecond: state.faultsPerSecond, at: faultPlace(state.place) };
  }
}

/** Never empty. */
export function vmmSeen(report: VmReport): readonly Vmm[] {
  return report.history.length === 0 ? [{ kind: "running" }] : report.history.map(vmmState);
}

/** The vocabulary has no word for an errno other than EFAULT: KVM_RUN failed unexpectedly. */
export function unexpectedError(report: VmReport): string | null {
  for (const state of report.history) {
    if (state.kind === "stopped" && state.exit.kind === "error" && state.exit.errno !== "EFAULT") {
      return `KVM_RUN: ${state.exit.errno}, exit reason ${state.exit.exitReason}`;
    }
  }
  if (report.end.kind === "defect") return report.end.message;
  return report.final === null ? "the vCPU's thread ended without its final state" : null;
}
