/**
 * In which order engines run. A booted kernel has the machine to itself: each is a lane of its own, after the one that
 * the machine's own engines share, and only one lane is open at a time.
 */

import { type EngineName, isKernelEngine } from "../../../language/src/index.ts";
import type { Engine } from "../engine.ts";
import type { EngineState, PlannedCase } from "./plan.ts";

export type Lane = {
  /** Those of its engines that can run here and have something to run. */
  readonly engines: readonly Engine[];
  readonly cases: readonly PlannedCase[];
};

/** The lanes that have cases, in the order in which the engines were asked for. */
export function lanesOf(cases: readonly PlannedCase[], engines: readonly EngineState[]): readonly Lane[] {
  const names = engines.map(({ engine }) => engine.name);
  const groups: readonly (readonly EngineName[])[] = [
    names.filter((name) => !isKernelEngine(name)),
    ...names.filter(isKernelEngine).map((name) => [name]),
  ];
  return groups.flatMap((group) => {
    const own = cases.filter(({ engine }) => group.includes(engine));
    const used = new Set(own.filter(({ support }) => support.kind === "yes").map(({ engine }) => engine));
    const usable = engines
      .map(({ engine }) => engine)
      .filter(({ name }) => group.includes(name) && used.has(name));
    return own.length === 0 ? [] : [{ engines: usable, cases: own }];
  });
}

/** How many cases of a lane run at a time, where `jobs` may. */
export function jobsOf({ engines }: Lane, jobs: number): number {
  return engines.some(({ isAlone }) => isAlone) ? 1 : jobs;
}
