/**
 * The table of expectations: rows of scenarios, cells of proposals. Exactly one cell is about a case.
 *
 * - A row that names the scenario is the exception of a row whose pattern matches it, and replaces it whole.
 * - In a row, a cell that names the proposal is the exception of a cell for its answer, and that of the cell `*`.
 * - Two rows, or two cells, that are equally narrow are an error that names both.
 */

import type { Answer } from "../answers.ts";
import { isGlob, matchesGlob } from "../glob.ts";
import { nearest } from "../nearest.ts";
import { answerOf, proposals } from "../presets.ts";
import type { Proposal } from "../proposal.ts";
import type { Scenario } from "../scenario/scenario.ts";
import { type Match, matchOf, type Selector } from "../selector.ts";
import { bind } from "./bind.ts";
import type { Cell } from "./cell.ts";
import type { Defect } from "./defects.ts";
import { type Expectation, KindsError } from "./expectations.ts";
import { answerOnLinux, type LinuxVmm } from "./loss.ts";

export type RowCell = {
  /** As written: `@exits @loops`. */
  readonly key: string;
  readonly selector: Selector;
  readonly cell: Cell;
  /** File and line. */
  readonly place: string;
};

export type Row = {
  /** Ids and patterns. */
  readonly scenarios: readonly string[];
  readonly cells: readonly RowCell[];
  /** File and line. */
  readonly place: string;
  readonly defects: ReadonlyMap<string, Defect>;
};

type ProposalName = Pick<Proposal, "id" | "kvm">;

/** The cell that is about a case, and what of the row led there. */
export type Found = {
  readonly row: Row;
  readonly pattern: string;
  readonly cell: RowCell;
  /** As `cell`, except where that is read as another answer's. */
  readonly read: RowCell;
  readonly answer: Answer | null;
  /** `two-victims-and-an-innocent @reports`. */
  readonly rule: string;
};

const narrowness: readonly Match[] = ["id", "answer", "all"];

/** The narrowest cell for the proposal. Throws a KindsError for two equally narrow ones. */
function cellFor(
  row: Row,
  proposal: ProposalName,
  answer: Answer | null,
): { cell: RowCell; match: Match } | null {
  for (const match of narrowness) {
    const [cell, second] = row.cells.filter(({ selector }) => matchOf(selector, proposal, answer) === match);
    if (cell === undefined) continue;
    if (second === undefined) return { cell, match };
    throw new KindsError(
      `${second.place}: ${JSON.stringify(second.key)} and ${JSON.stringify(cell.key)} (${cell.place}) are both about ${proposal.id}: ` +
        "name it in one of them only",
    );
  }
  return null;
}

/** Throws a KindsError where a preset has two equally narrow cells. */
export function checkRow(row: Row): void {
  for (const proposal of proposals) cellFor(row, proposal, answerOf(proposal.id));
}

/** The names that rows may have: ids of scenarios and of proposals. */
export type KnownNames = { readonly scenarios: readonly string[]; readonly proposals: readonly string[] };

function checkKnown(row: Pick<Row, "place">, what: string, name: string, known: readonly string[]): void {
  if (known.some((id) => matchesGlob(name, id))) return;
  const near = nearest(name, known).join(", ");
  throw new KindsError(`${row.place}: there is no ${what} ${JSON.stringify(name)}; nearest: ${near}`);
}

/** Throws a KindsError for a row about no scenario, or a cell about no proposal: a slip of the pen, which would be ignored. */
export function checkNames(rows: readonly Row[], known: KnownNames): void {
  for (const row of rows) {
    for (const pattern of row.scenarios) checkKnown(row, "scenario", pattern, known.scenarios);
    for (const cell of row.cells) {
      for (const id of cell.selector.ids) checkKnown(cell, "proposal", id, known.proposals);
    }
  }
}

type RowOf = { readonly row: Row; readonly pattern: string };

export class ExpectationTable {
  readonly #rows: readonly Row[];
  /** Of the scenarios that were looked up. */
  readonly #rowsById = new Map<string, RowOf | null>();

  constructor(rows: readonly Row[]) {
    this.#rows = rows;
  }

  get rows(): readonly Row[] {
    return this.#rows;
  }

  #rowOf(id: string): RowOf | null {
    const known = this.#rowsById.get(id);
    if (known !== undefined) return known;
    const row = this.#searchRow(id);
    this.#rowsById.set(id, row);
    return row;
  }

  #searchRow(id: string): RowOf | null {
    const matches = this.#rows.flatMap((row) =>
      row.scenarios.filter((pattern) => matchesGlob(pattern, id)).map((pattern) => ({ row, pattern })),
    );
    const named = matches.filter(({ pattern }) => !isGlob(pattern));
    const [best, second] = named.length > 0 ? named : matches;
    if (best === undefined) return null;
    // A row may match by two of its own patterns.
    const other = second?.row === best.row ? undefined : second;
    if (other === undefined) return best;
    throw new KindsError(
      `${other.row.place}: ${JSON.stringify(other.pattern)} and ${JSON.stringify(best.pattern)} (${best.row.place}) are both about the scenario ${id}: ` +
        "name it in one row only",
    );
  }

  /** The cell that is about a case; null if none is. */
  locate(
    scenario: Pick<Scenario, "id">,
    proposal: ProposalName,
    onLinux: LinuxVmm | null = null,
  ): Found | null {
    const found = this.#rowOf(scenario.id);
    if (found === null) return null;
    const { row, pattern } = found;
    const preset = answerOf(proposal.id);
    const own = onLinux === null ? preset : answerOnLinux(preset, onLinux);
    const chosen = cellFor(row, proposal, own);
    if (chosen === null) return null;
    const { cell, match } = chosen;
    const key = match === "id" ? proposal.id : own === null ? "*" : `@${own}`;
    const base = { row, pattern, cell, rule: `${pattern} ${key}` };
    if (cell.cell.kind === "outcome") return { ...base, read: cell, answer: own };
    const { answer } = cell.cell;
    // No proposal has this id: only the answer, or `*`, can match.
    const read = cellFor(row, { id: "", kvm: proposal.kvm }, answer)?.cell;
    if (read === undefined || read.cell.kind === "as") {
      throw new KindsError(
        `${cell.place}: ${JSON.stringify(cell.key)}: the row has no outcome for @${answer}`,
      );
    }
    return { ...base, read, answer };
  }

  /**
   * The expectation of a case; null if no cell is about it, or if it rests on an answer that does not decide it.
   * Throws a KindsError where the file is wrong about the scenario.
   * @param onLinux the VMM of a Linux guest; null: the guest is as the proposal has it
   */
  find(
    scenario: Pick<Scenario, "id" | "actors">,
    proposal: ProposalName,
    onLinux: LinuxVmm | null = null,
  ): Expectation | null {
    const found = this.locate(scenario, proposal, onLinux);
    if (found === null || found.read.cell.kind === "as") return null;
    const { read, answer, rule, row } = found;
    const bound = bind({
      cell: found.read.cell,
      scenario,
      proposal,
      answer,
      onLinux,
      rule,
      defects: row.defects,
    });
    switch (bound.kind) {
      case "expectation":
        return bound.expectation;
      case "undecided":
        return null;
      case "problem":
        throw new KindsError(
          `${read.place}: ${JSON.stringify(read.key)}, for ${scenario.id}: ${bound.message}`,
        );
    }
  }
}
