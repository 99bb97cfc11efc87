/**
 * Where an observation leaves what the model allows: held against the allowed end that agrees with it for longest, step by
 * step in the scenario's order, then the bystanders, the VMM and the guest's kernel. Pure.
 */
import type { Outcome } from "../../../language/src/index.ts";
import { type AllowedEnd, comparedWords } from "../engines/model/allowed.ts";

export type DivergenceRow = { readonly what: string; readonly observed: string; readonly allowed: string };

export type Divergence = {
  /** Up to the first difference, which is the last of them. */
  readonly rows: readonly DivergenceRow[];
  readonly nearest: AllowedEnd;
};

const NONE = "-";

function entries(outcome: Outcome): readonly (readonly [string, string])[] {
  const { steps, bystanders, vmm, guestKernel } = comparedWords(outcome);
  return [
    ...Object.entries(steps),
    ...Object.entries(bystanders),
    ["VMM", vmm ?? NONE],
    ["guest kernel", guestKernel ?? NONE],
  ];
}

function rowsAgainst(observed: Outcome, allowed: Outcome): readonly DivergenceRow[] {
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
export function divergenceOf(observed: Outcome, ends: readonly AllowedEnd[]): Divergence | null {
  let best: Divergence | null = null;
  for (const nearest of ends) {
    const rows = rowsAgainst(observed, nearest.outcome);
    if (best === null || rows.length > best.rows.length) best = { rows, nearest };
  }
  return best;
}
