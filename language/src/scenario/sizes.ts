/** What the steps of a scenario do to the file: its sizes, one after the other. */
import { actOf, effectOf, type FileEffect, type HostStep, isAction } from "./host-verbs.ts";
import { guestActors, hostActors } from "./labels.ts";
import { isBefore, type StepAt } from "./order.ts";
import { pageBytesOf, type Scenario } from "./scenario.ts";

/** The size that an effect leaves a file of `sizeBytes` with, if it is let. */
function sizeOf(effect: FileEffect, sizeBytes: bigint): bigint {
  return effect.kind === "resize" ? effect.sizeBytes : sizeBytes;
}

/** A step that may change the file, and what it does to one of `sizeBytes`. */
type Change = {
  readonly at: StepAt;
  /** The step, of a host. */
  readonly step: HostStep | null;
  readonly effect: (sizeBytes: bigint) => FileEffect;
};

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
      add({ at: { actor, index }, step, effect: (sizeBytes) => effectOf(step, sizeBytes) });
    }
  }
  for (const [actor, { steps }] of guestActors(scenario)) {
    for (const [index, step] of steps.entries()) {
      if (step.verb !== "file-truncate") continue;
      const effect: FileEffect = { kind: "resize", sizeBytes: step.newSize, via: "open-fd" };
      add({ at: { actor, index }, step: null, effect: () => effect });
    }
  }
  return ordered;
}

/** What a step does to the mapped inode, and the size that it leaves it with. */
export type Effected = { readonly at: StepAt; readonly effect: FileEffect; readonly sizeBytes: bigint };

/** Follows which steps reach the mapped inode: by its name as long as it has that, or by a descriptor of before. */
class Names {
  #isMapped = true;
  /** By actor: does its descriptor, the first that it has opened, belong to the mapped inode? */
  readonly #descriptors = new Map<string, boolean>();

  /** Takes the steps in their order. */
  reaches({ actor }: StepAt, step: HostStep): boolean {
    if (!isAction(step)) return false;
    const { descriptor, onName } = actOf(step);
    if (descriptor === "uses") return this.#descriptors.get(actor) ?? true;
    if (descriptor === "opens" && !this.#descriptors.has(actor)) this.#descriptors.set(actor, this.#isMapped);
    if (onName === true) this.#isMapped = false;
    return this.#isMapped;
  }
}

const NONE: FileEffect = { kind: "none" };

export function effectsOf({ actors, backing }: Pick<Scenario, "actors" | "backing">): readonly Effected[] {
  let sizeBytes = backing.size;
  const names = new Names();
  // hugetlbfs_setattr() (fs/hugetlbfs/inode.c): -EINVAL for a size that is not of whole huge pages.
  const unit = backing.kind === "hugetlb" ? pageBytesOf(backing.kind) : 1n;
  return changesOf({ actors }).map((change) => {
    const asked = change.effect(sizeBytes);
    const isDenied = asked.kind === "resize" && asked.sizeBytes % unit !== 0n;
    const isElsewhere = change.step !== null && !names.reaches(change.at, change.step);
    const effect = isDenied || isElsewhere ? NONE : asked;
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
