/**
 * What zeros mean that an access has seen: the value that the file holds there, or what stands in for a value that is
 * lost. A byte is zero by right where the content rule has a zero, and where the last write before the access put one
 * and the page has been neither cut off nor punched since. For real engines, which see bytes, and for the model, which
 * knows of a page only that it has become zeros.
 */
import { contentBytes, type FoundBytes, fromValue, toValue } from "./content.ts";
import { type AccessStep, isAccess, isWrite, leftValue, seenBytes } from "./guest-verbs.ts";
import { accessesOf, actionsOf, allAccesses } from "./labels.ts";
import { PAGE_BYTES } from "./limits.ts";
import { isBehind, lossByServer } from "./losses.ts";
import { isBefore, type StepAt, stepsBefore } from "./order.ts";
import type { Scenario } from "./scenario.ts";
import { effectsOf } from "./sizes.ts";
import { fileOffsetAt } from "./window.ts";

/** Has this step done what it was to do to the file? */
export type HasWritten = (step: StepAt) => boolean;

type Write = {
  readonly at: StepAt;
  readonly by: "guest" | "host";
  readonly fileOffset: bigint;
  readonly bytes: Uint8Array;
};

type Results = Readonly<Record<string, Readonly<Record<string, { readonly kind: string }>>>>;

/** By the results of the steps, under their labels: a store that ended in the file, a host step that was done. */
export function writtenBy(scenario: Scenario, accesses: Results, host: Results): HasWritten {
  return ({ actor: name, index }) => {
    const actor = scenario.actors[name];
    if (actor === undefined || actor.in === "vmm") return false;
    if (actor.in === "host-process") {
      const label = actionsOf(actor).find((one) => one.index === index)?.label ?? "";
      const kind = host[name]?.[label]?.kind;
      return kind === "done" || kind === "delayed";
    }
    const found = accessesOf(actor).find((one) => one.index === index);
    const kind = accesses[name]?.[found?.label ?? ""]?.kind;
    // An atomic access reports what it has found.
    return kind === "value" || (kind === "zero" && found?.step.verb === "atomic");
  };
}

/** May the guest write to these bytes of the file? */
export function mayBeWritten(scenario: Scenario, fileOffset: bigint, lengthBytes: number): boolean {
  return allAccesses(scenario)
    .filter(isWrite)
    .some((step) => {
      const from = fileOffsetAt(scenario, step.offset);
      return from < fileOffset + BigInt(lengthBytes) && fileOffset < from + BigInt(seenBytes(step));
    });
}

/** The steps that make zeros of the page: by a hole, or behind an end of the file. */
function zeroingSteps(scenario: Scenario, fileOffset: bigint): readonly StepAt[] {
  const page = fileOffset / PAGE_BYTES;
  return effectsOf(scenario)
    .filter(({ effect, sizeBytes }) => {
      const isHole =
        effect.kind === "hole" &&
        effect.range.from / PAGE_BYTES <= page &&
        fileOffset - (fileOffset % PAGE_BYTES) < effect.range.to;
      return isHole || (effect.kind === "resize" && isBehind(sizeBytes, fileOffset));
    })
    .map(({ at }) => at);
}

/** What the step leaves in the file, if it writes. An atomic access is taken to find zeros. */
function writeOf(scenario: Scenario, at: StepAt): Write | null {
  const actor = scenario.actors[at.actor];
  const step = actor?.steps[at.index];
  if (actor === undefined || step === undefined) return null;
  if (actor.in === "host-process") {
    if (step.verb !== "map-store") return null;
    return { at, by: "host", fileOffset: step.offset, bytes: fromValue(step.value, 8) };
  }
  if (actor.in === "vmm" || !isGuestAccess(step) || !isWrite(step)) return null;
  const bytes = fromValue(leftValue(step, 0n), seenBytes(step));
  return { at, by: "guest", fileOffset: fileOffsetAt(scenario, step.offset), bytes };
}

/** The bytes that a step puts into the file, if it writes. An atomic access is taken to find zeros. */
export function writtenTo(scenario: Scenario, at: StepAt): Uint8Array | null {
  return writeOf(scenario, at)?.bytes ?? null;
}

function isGuestAccess(step: Scenario["actors"][string]["steps"][number]): step is AccessStep {
  return "offset" in step && isAccess(step as AccessStep);
}

/** The byte that the write puts there; null: none. */
function byteOf({ fileOffset, bytes }: Write, at: bigint): number | null {
  return bytes[Number(at - fileOffset)] ?? null;
}

/** What is known of the bytes at an access, where its page may have become zeros. */
export type Held = {
  /** Zeros there are the file's own value. */
  readonly zerosAreHeld: boolean;
  /** The guest has written something else than zeros since the page became zeros, if it did. */
  readonly isWritten: boolean;
};

/**
 * @param at the access
 * @param hasWritten asked of writes that come before it, as far as their result is known
 */
export function heldAt(scenario: Scenario, at: StepAt, hasWritten: HasWritten): Held {
  const step = scenario.actors[at.actor]?.steps[at.index];
  if (step === undefined || !isGuestAccess(step)) return { zerosAreHeld: false, isWritten: false };
  const fileOffset = fileOffsetAt(scenario, step.offset);
  const length = seenBytes(step);
  const content = contentBytes(scenario.backing.content, fileOffset, length);
  const isLostByServer = lossByServer(scenario, fileOffset) !== "kept";
  const earlier = stepsBefore(scenario, at);
  const writes = isLostByServer
    ? []
    : earlier.flatMap((one) => writeOf(scenario, one) ?? []).filter((write) => hasWritten(write.at));
  const zeroing = zeroingSteps(scenario, fileOffset).filter((one) => isBefore(scenario, one, at));
  const isSince = (write: Write): boolean => zeroing.every((one) => isBefore(scenario, one, write.at));
  let zerosAreHeld = true;
  let isWritten = false;
  for (let index = 0; index < length; index += 1) {
    const here = fileOffset + BigInt(index);
    const there = writes.filter((write) => byteOf(write, here) !== null);
    const last = there.filter((write) => !there.some((other) => isBefore(scenario, write.at, other.at)));
    const since = last.filter(isSince);
    // Of writes that may come in either order each may be the last.
    const isZero =
      since.length === 0 ? content[index] === 0 : since.some((write) => byteOf(write, here) === 0);
    if (!isZero) zerosAreHeld = false;
    if (!isZero && since.some(({ by }) => by === "guest")) isWritten = true;
  }
  return { zerosAreHeld, isWritten };
}

/**
 * The bytes that an access finds which sees the file's own value: of the writes before it the last, byte by byte, or the
 * content where nobody has written. Of writes that may come in either order it is the one that the scenario has last.
 * @param hasWritten as of `heldAt`
 */
export function heldBytes(scenario: Scenario, at: StepAt, hasWritten: HasWritten): Uint8Array {
  const step = scenario.actors[at.actor]?.steps[at.index];
  if (step === undefined || !isGuestAccess(step)) return new Uint8Array();
  const fileOffset = fileOffsetAt(scenario, step.offset);
  const found = contentBytes(scenario.backing.content, fileOffset, seenBytes(step)).slice();
  const writes = allSteps(scenario)
    .flatMap((one) => writeOf(scenario, one) ?? [])
    .filter((write) => isBefore(scenario, write.at, at) && hasWritten(write.at))
    .map((write) => ({ ...write, bytes: leftAt(scenario, write, hasWritten) }));
  for (const index of found.keys()) {
    const here = fileOffset + BigInt(index);
    const there = writes.filter((write) => byteOf(write, here) !== null);
    const last = there.findLast((write) => !there.some((other) => isBefore(scenario, write.at, other.at)));
    if (last !== undefined) found[index] = byteOf(last, here) ?? 0;
  }
  return found;
}

/** An atomic access leaves what it makes of what it has found. */
function leftAt(scenario: Scenario, { at, bytes }: Write, hasWritten: HasWritten): Uint8Array {
  const step = scenario.actors[at.actor]?.steps[at.index];
  if (step?.verb !== "atomic") return bytes;
  return fromValue(leftValue(step, toValue(heldBytes(scenario, at, hasWritten))), bytes.length);
}

/** The bytes that a step has left in the file, if it is known to have ended and to write. */
export type LeftBytes = (step: StepAt) => Uint8Array | null;

/**
 * Did the file hold at an access the bytes that it has found, where another step has changed them since? True only where a
 * later write has left what the file holds now, and an earlier one, or the content, what the access has found.
 * @param at the access
 * @param leftBy asked of every other write
 * @param isDone asked of the steps that make zeros of the page
 */
export function wasHeld(
  scenario: Scenario,
  at: StepAt,
  { found, left, now }: FoundBytes,
  { leftBy, isDone }: { readonly leftBy: LeftBytes; readonly isDone: HasWritten },
): boolean {
  const step = scenario.actors[at.actor]?.steps[at.index];
  if (step === undefined || !isGuestAccess(step)) return false;
  const fileOffset = fileOffsetAt(scenario, step.offset);
  const content = contentBytes(scenario.backing.content, fileOffset, found.length);
  // Its own bytes are all that a store has seen.
  const isOwn = isWrite(step) && step.verb !== "atomic";
  const isAt = (one: StepAt): boolean => one.actor === at.actor && one.index === at.index;
  const writes = allSteps(scenario).flatMap((one) => {
    const write = isAt(one) ? null : writeOf(scenario, one);
    const written = write === null ? null : leftBy(one);
    return write === null || written === null ? [] : [{ ...write, bytes: written }];
  });
  const zeroing = zeroingSteps(scenario, fileOffset).filter(isDone);
  for (let index = 0; index < found.length; index += 1) {
    if (left[index] === now[index]) continue;
    const here = fileOffset + BigInt(index);
    const there = writes.filter((write) => byteOf(write, here) !== null);
    const isOverwritten = there.some(
      (write) => !isBefore(scenario, write.at, at) && byteOf(write, here) === now[index],
    );
    if (!isOverwritten) return false;
    if (!isOwn && !mayFind(there, here).includes(found[index] ?? null)) return false;
  }
  return true;

  /** The values that an access may find in a byte: of steps in no order each may be the last before it. */
  function mayFind(there: readonly Write[], here: bigint): readonly (number | null)[] {
    const changes = [
      ...there.map((write) => ({ at: write.at, value: byteOf(write, here) })),
      ...zeroing.map((one) => ({ at: one, value: 0 })),
    ].filter((change) => !isBefore(scenario, at, change.at));
    const certain = changes.filter((change) => isBefore(scenario, change.at, at));
    const last = changes.filter(
      (change) => !certain.some((other) => isBefore(scenario, change.at, other.at)),
    );
    const values = last.map(({ value }) => value);
    return certain.length > 0 ? values : [...values, content[Number(here - fileOffset)] ?? null];
  }
}

function allSteps({ actors }: Scenario): readonly StepAt[] {
  return Object.entries(actors).flatMap(([actor, { steps }]) => steps.map((_, index) => ({ actor, index })));
}
