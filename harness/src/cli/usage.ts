/** Usage errors: what the user typed that means nothing, and what comes nearest to it. */
import { isGlob, matchesGlob } from "../../../language/src/index.ts";

/** Exit 64, nothing run. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

const NEAREST_MAX = 3;

/** Levenshtein distance: how many characters to add, drop or change. */
function distance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let row = 1; row <= a.length; row += 1) {
    const current = [row];
    for (let column = 1; column <= b.length; column += 1) {
      const change = (previous[column - 1] ?? 0) + (a[row - 1] === b[column - 1] ? 0 : 1);
      current.push(Math.min(change, (previous[column] ?? 0) + 1, (current[column - 1] ?? 0) + 1));
    }
    previous = current;
  }
  return previous[b.length] ?? 0;
}

/** The known ids that look most like `id`; all of them if there are only a few. */
export function nearest(id: string, known: readonly string[]): readonly string[] {
  if (known.length <= 6) return known;
  return known
    .map((candidate) => ({
      candidate,
      distance: distance(id, candidate) - (candidate.includes(id) ? id.length : 0),
    }))
    .sort((a, b) => a.distance - b.distance)
    .slice(0, NEAREST_MAX)
    .map(({ candidate }) => candidate);
}

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
    throw new UsageError(`no ${what} ${JSON.stringify(pattern)}; ${hint} (daxfault list ${what}s)`);
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
