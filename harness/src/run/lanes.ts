/**
 * The order in which machines run their cases. A booted kernel has this machine to itself: each machine is a lane, those that
 * are alone come last, and only one lane is open at a time.
 */

import type { EngineName } from "../../../language/src/index.ts";
import type { Machine } from "../engine.ts";
import type { RunObserver } from "./observer.ts";
import type { PlannedCase } from "./plan.ts";
import { type RunnerOptions, type RunOutcome, runCases } from "./runner.ts";

export type Lane = {
  readonly machine: Machine;
  /** Those of its engines that have something to run on it. */
  readonly engines: readonly EngineName[];
  readonly cases: readonly PlannedCase[];
};

/** The lanes that have cases. */
export function lanesOf(cases: readonly PlannedCase[], machines: readonly Machine[]): readonly Lane[] {
  const inOrder = [...new Set(machines)].sort((a, b) => Number(a.isAlone) - Number(b.isAlone));
  return inOrder.flatMap((machine) => {
    const own = cases.filter((one) => one.machine === machine.name);
    const usable = own.filter(({ support }) => support.kind === "yes");
    const engines = [...new Set(usable.map(({ engine }) => engine))];
    return own.length === 0 ? [] : [{ machine, engines, cases: own }];
  });
}

/** How many cases of a lane run at a time, where `jobs` may. */
export function jobsOf({ machine }: Lane, jobs: number): number {
  return machine.isAlone ? 1 : jobs;
}

export type LaneOptions = Omit<RunnerOptions, "machine"> & {
  /** Beside so many busy processes; none if left out. */
  readonly busy?: number;
  readonly onBooted?: RunObserver["onBooted"];
  /** The cases have ended, and the machine is still open. */
  readonly onEnded?: (outcome: RunOutcome) => void;
};

async function openLane({ machine, engines }: Lane, options: LaneOptions): Promise<void> {
  const { directory, signal, onBooted, busy = 0 } = options;
  const beganMs = performance.now();
  const opening = await machine.open(engines, { directory: directory.engineDirectory(), signal, busy });
  if (opening.kind === "up") return;
  const { attestation } = opening;
  onBooted?.({ name: machine.name, attestation, openedMs: performance.now() - beganMs });
}

/** A machine's life: opened where something can run on it, its cases, closed however they end. */
export async function runLane(lane: Lane, options: LaneOptions): Promise<RunOutcome> {
  const { machine, engines, cases } = lane;
  const jobs = jobsOf(lane, options.jobs);
  try {
    if (engines.length > 0) await openLane(lane, options);
    const outcome = await runCases(cases, { ...options, machine, jobs });
    options.onEnded?.(outcome);
    return outcome;
  } finally {
    await machine.close();
  }
}
