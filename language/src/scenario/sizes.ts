/** What the steps of a scenario do to the file: its sizes, one after the other. */
import { effectOf, type FileEffect, type HostStep } from "./host-verbs.ts";
import { guestActors, hostActors } from "./labels.ts";
import { isBefore, type StepAt } from "./order.ts";
import type { Scenario } from "./scenario.ts";

/** The size that an effect leaves a file of `sizeBytes` with, if it is let. */
function sizeOf(effect: FileEffect, sizeBytes: bigint): bigint {
  return effect.kind === "resize" ? effect.sizeBytes : sizeBytes;
}

/** The size that a step leaves a file of `sizeBytes` with, if it is let. */
export function sizeAfter(step: HostStep, sizeBytes: bigint): bigint {
  return sizeOf(effectOf(step, sizeBytes), sizeBytes);
}

/** A step that may change the file, and what it does to one of `sizeBytes`. */
type Change = { readonly at: StepAt; readonly effect: (sizeBytes: bigint) => FileEffect };

/**
 * Steps of hosts, and of guests that set the size. Each stands behind those that come before it in every run; where the
 * scenario orders two in no way, as the actors are listed, hosts first.
 */
function changesOf(scenario: Pick<Scenario, "actors">): readonly Change[] {
  const ordered: Change[] = [];
  function add(change: Change): void {
    const behind = ordered.findIndex(({ at }) => isBefore(scenario, change.at, at));
    ordered.splice(behind < 0 ? ordered.length : behind, 0, change);
  }
  for (const [actor, { steps }] of hostActors(scenario)) {
    for (const [index, step] of steps.entries()) {
      add({ at: { actor, index }, effect: (sizeBytes) => effectOf(step, sizeBytes) });
    }
  }
  for (const [actor, { steps }] of guestActors(scenario)) {
    for (const [index, step] of steps.entries()) {
      if (step.verb !== "file-truncate") continue;
      const effect: FileEffect = { kind: "resize", sizeBytes: step.newSize, via: "open-fd" };
      add({ at: { actor, index }, effect: () => effect });
    }
  }
  return ordered;
}

/** What a step does to the file, and the size that it leaves it with. */
export type Effected = { readonly at: StepAt; readonly effect: FileEffect; readonly sizeBytes: bigint };

export function effectsOf(scenario: Pick<Scenario, "actors" | "backing">): readonly Effected[] {
  let sizeBytes = scenario.backing.size;
  return changesOf(scenario).map((change) => {
    const effect = change.effect(sizeBytes);
    sizeBytes = sizeOf(effect, sizeBytes);
    return { at: change.at, effect, sizeBytes };
  });
}

/**
 * All sizes that the file has, one after the other, the one it begins with first. Not here: how a guest's file-write makes
 * it longer.
 */
export function fileSizes(scenario: Pick<Scenario, "actors" | "backing">): readonly bigint[] {
  const sizes = [scenario.backing.size];
  for (const { sizeBytes } of effectsOf(scenario)) {
    if (sizeBytes !== sizes.at(-1)) sizes.push(sizeBytes);
  }
  return sizes;
}
