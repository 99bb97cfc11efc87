/** Usage errors: what the user typed that means nothing, and what comes nearest to it. */

import {
  exitCodes,
  isGlob,
  type KvmPart,
  kvmParts,
  matchesGlob,
  nearest,
} from "../../../language/src/command-words.ts";
import { errorText } from "../error-text.ts";
import { type KernelSpec, parseKernelSpec } from "../kernel/spec.ts";
import { messageText } from "../report/encode.ts";

/** Exit 64, nothing run. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** What `daxfault list` has, each a topic. */
const listed: ReadonlySet<string> = new Set(["scenario", "proposal", "engine"]);

/**
 * The items whose ids the patterns name, in the items' order; all of them without patterns.
 * A pattern that matches nothing is a usage error.
 */
export function select<Item extends { readonly id: string }>(
  what: string,
  patterns: readonly string[],
  items: readonly Item[],
): readonly Item[] {
  if (patterns.length === 0) return items;
  const ids = items.map(({ id }) => id);
  for (const pattern of patterns) {
    if (ids.some((id) => matchesGlob(pattern, id))) continue;
    const hint = `${isGlob(pattern) ? "known are for example" : "nearest"}: ${nearest(pattern, ids).join(", ")}`;
    const all = listed.has(what) ? ` (daxfault list ${what}s)` : "";
    throw new UsageError(`no ${what} ${JSON.stringify(pattern)}; ${hint}${all}`);
  }
  return items.filter(({ id }) => patterns.some((pattern) => matchesGlob(pattern, id)));
}

/** A whole number of at least `min` and at most `max`. */
export function parseCount(option: string, text: string, min: number, max: number): number {
  const value = Number(text);
  if (!/^[0-9]+$/.test(text) || value < min || value > max) {
    throw new UsageError(`${option} ${JSON.stringify(text)} is not a whole number from ${min} to ${max}`);
  }
  return value;
}

/** For entry points of scripts: a UsageError or a recording that contradicts itself is a message and 64, not a stack. */
export function exitOnUsageError(body: () => void): void {
  try {
    body();
  } catch (error) {
    const isRefusal = error instanceof Error && ["UsageError", "RecordingError"].includes(error.name);
    if (!isRefusal) throw error;
    console.error(messageText(errorText(error)));
    process.exitCode = exitCodes.usage;
  }
}

/** The kernel that an option names. Throws a UsageError that names the option. */
export function checkedSpec(option: string, text: string): KernelSpec {
  const spec = parseKernelSpec(text);
  if (spec.kind === "problem") throw new UsageError(`${option}: ${spec.message}`);
  return spec;
}

/** The value of `--kvm`: a proposal as the axis of KVM has it. */
export function checkedKvm(text: string): KvmPart {
  const part = kvmParts.find((one) => one === text);
  if (part !== undefined) return part;
  throw new UsageError(`--kvm ${text}: one of ${kvmParts.join(", ")}`);
}
