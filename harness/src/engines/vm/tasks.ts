/** Is a guest task still on its way to where it hangs, ends or waits? Pure: answers `look-at-tasks` of ending.ts. */
import type { ProgramStep, ResultStatus, TaskState } from "../../../../vmm/src/index.ts";

export type TaskView = {
  readonly state: TaskState;
  /** The step that the task is at; undefined behind the last. */
  readonly step: ProgramStep | undefined;
  readonly status: ResultStatus;
  readonly count: bigint;
  /** `count` when the VM first got into trouble. */
  readonly countAtTrouble: bigint;
};

/**
 * A task has arrived when its access is under way (and hangs), when it waits for a signal that is not raised, when a
 * bystander has counted since the trouble, or when it has ended or sleeps.
 * @param isRaised the signal of that number
 */
export function isOnItsWay(task: TaskView, isRaised: (number: number) => boolean): boolean {
  const { state, step, status, count, countAtTrouble } = task;
  // Its vCPU has not come up yet.
  if (state === "unused") return true;
  if (state !== "ready" || step === undefined) return false;
  if (step.verb === "count") return count <= countAtTrouble;
  if (step.verb === "await") return isRaised(Number(step.address));
  return status !== "started";
}
