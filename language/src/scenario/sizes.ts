/** The file's sizes after the steps of a scenario's hosts. */
import { effectOf, type HostStep } from "./host-verbs.ts";
import { hostActors } from "./labels.ts";
import type { Scenario } from "./scenario.ts";

/** The size that a step leaves a file of `sizeBytes` with, if it is let. */
export function sizeAfter(step: HostStep, sizeBytes: bigint): bigint {
  const effect = effectOf(step, sizeBytes);
  return effect.kind === "resize" ? effect.sizeBytes : sizeBytes;
}

/** All sizes that the file has, one after the other, the one it begins with first. */
export function fileSizes(scenario: Pick<Scenario, "actors" | "backing">): readonly bigint[] {
  const sizes = [scenario.backing.size];
  for (const [, actor] of hostActors(scenario)) {
    for (const step of actor.steps) {
      const before = sizes.at(-1) ?? 0n;
      const after = sizeAfter(step, before);
      if (after !== before) sizes.push(after);
    }
  }
  return sizes;
}
