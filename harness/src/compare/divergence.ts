/**
 * Where an observation leaves what the model allows: held against the allowed end that agrees with it for longest, step by
 * step in the scenario's order, then the bystanders, the VMM and the guest's kernel. Pure.
 */
import type { AllowedEnd } from "../engines/model/allowed.ts";
import type { Words } from "../engines/model/translate.ts";

export type DivergenceRow = { readonly what: string; readonly observed: string; readonly allowed: string };

export type Divergence = {
  /** Up to the first difference, which is the last of them. */
  readonly rows: readonly DivergenceRow[];
  readonly nearest: AllowedEnd;
};

const NONE = "-";

function entries(words: Words): readonly (readonly [string, string])[] {
  return [
    ...Object.entries(words.steps),
    ...Object.entries(words.bystanders),
    ["VMM", words.vmm ?? NONE],
    ["guest kernel", words.guestKernel ?? NONE],
  ];
}

function rowsAgainst(observed: Words, allowed: Words): readonly DivergenceRow[] {
  const other = new Map(entries(allowed));
  const rows: DivergenceRow[] = [];
  for (const [what, word] of entries(observed)) {
    const row = { what, observed: word, allowed: other.get(what) ?? NONE };
    rows.push(row);
    if (row.observed !== row.allowed) break;
  }
  return rows;
}

/** null if the model allows no end at all. */
export function divergenceOf(observed: Words, ends: readonly AllowedEnd[]): Divergence | null {
  let best: Divergence | null = null;
  for (const nearest of ends) {
    const rows = rowsAgainst(observed, nearest.words);
    if (best === null || rows.length > best.rows.length) best = { rows, nearest };
  }
  return best;
}
