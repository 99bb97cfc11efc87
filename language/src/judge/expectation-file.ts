/**
 * Reads files of expectations: fixtures/kinds (rows of scenarios, cells of proposals), fixtures/errata.json (known deviations),
 * fixtures/documented.json (cells of the scorecard that no test decides). Checked for shape when loaded.
 */
import { join } from "node:path";
import { z } from "zod";
import { InputError, jsonFilesOf, readInput } from "../input-file.ts";
import { issueText } from "../issue-text.ts";
import { jsonErrorText, readJsonSource } from "../json-source.ts";
import { nearest } from "../nearest.ts";
import { FILE_TEXT_MAX, NAMES_MAX, ROWS_MAX } from "../scenario/limits.ts";
import { pathText } from "../scenario/problem.ts";
import { parseSelector } from "../selector.ts";
import { eventKinds } from "../vocabulary.ts";
import { betterThan } from "./bind.ts";
import { type Cell, cellText, parseCell } from "./cell.ts";
import { type Defect, defects } from "./defects.ts";
import { checkRow, ExpectationTable, type Row, type RowCell } from "./expectation-table.ts";
import { type DocumentedCell, type Erratum, KindsError } from "./expectations.ts";

const words = z.record(z.string(), z.string());
const outcomeShape = z.strictObject({
  vmm: z.array(z.string()).min(1).optional(),
  accesses: words.default({}),
  host: words.default({}),
  bystanders: words.default({}),
  events: z.partialRecord(z.enum(eventKinds), z.enum(["seen", "none"])).default({}),
});

const kindsShape = z.strictObject({
  about: z.string(),
  defects: z.record(z.string(), z.strictObject({ text: z.string(), source: z.string() })).default({}),
  /** By scenarios: one cell for all proposals, or cells by proposals. */
  rows: z.record(z.string(), z.union([z.string(), words], "a cell, or an object of cells by proposals")),
});
type KindsShape = z.infer<typeof kindsShape>;

/** The earlier format, rules: refused, with the equivalent rows in the message. */
const ruleShape = outcomeShape.extend({
  scenarios: z.array(z.string()),
  proposals: z.array(z.string()),
  engine: z.string(),
  better: z.array(z.string()).default([]),
  defect: z.string().optional(),
});

const errataShape = z.strictObject({
  about: z.string(),
  errata: z.array(
    z.strictObject({
      id: z.string(),
      reason: z.string(),
      when: z.strictObject({ kvmBackend: z.string().optional(), kernel: z.string().optional() }),
      scenarios: z.array(z.string()).min(1),
      proposals: z.array(z.string()).min(1).default(["*"]),
      /** As it is registered; a test insists that each erratum is about a case. */
      engine: z.string(),
      outcomes: z.array(outcomeShape).min(1),
      link: z.url(),
      owner: z.string(),
    }),
  ),
});

const documentedShape = z.strictObject({
  about: z.string(),
  cells: z.array(
    z.strictObject({
      proposal: z.string(),
      property: z.string(),
      says: z.enum(["yes", "no"]),
      source: z.string().min(1),
    }),
  ),
});

/** What `read` returns; an InputError becomes a KindsError with its place. */
function inputOf<Value>(path: string, read: () => Value): Value {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    throw new KindsError(`${path}${error.line === null ? "" : `:${error.line}`}: ${error.message}`);
  }
}

/** Throws a KindsError. */
function readKinds(path: string): string {
  return inputOf(path, () => readInput(path, FILE_TEXT_MAX));
}

/** One file of kinds, while it is read: what is wrong with it, and where. */
class KindsFile {
  readonly #path: string;
  readonly #source: Extract<ReturnType<typeof readJsonSource>, { kind: "value" }>;
  readonly #problems: string[] = [];

  constructor(path: string) {
    const source = readJsonSource(readKinds(path));
    if (source.kind === "error") throw new KindsError(jsonErrorText(path, source));
    this.#path = path;
    this.#source = source;
  }

  /** `FILE:LINE` of a member. */
  #placeOf(member: readonly PropertyKey[]): string {
    return `${this.#path}:${this.#source.lineOf(member)}`;
  }

  #add(member: readonly PropertyKey[], message: string): void {
    this.#problems.push(`${this.#placeOf(member)}: ${pathText(member)}: ${message}`);
  }

  #check(): void {
    if (this.#problems.length > 0) throw new KindsError(this.#problems.join("\n"));
  }

  /** Refuses a file whose expectations are a list of rules. */
  #refuseRules(): void {
    const rules = (this.#source.value as { readonly rules?: unknown } | null)?.rules;
    if (!Array.isArray(rules)) return;
    for (const [index, rule] of rules.entries()) this.#add(["rules", index], rowForRule(rule));
    if (rules.length === 0) this.#add(["rules"], 'there are "rows" in place of "rules"');
    this.#check();
  }

  #shape(): KindsShape {
    this.#refuseRules();
    for (const { path, line } of this.#source.duplicates) {
      this.#problems.push(`${this.#path}:${line}: ${pathText(path)}: twice in this object`);
    }
    this.#check();
    const parsed = kindsShape.safeParse(this.#source.value);
    if (parsed.success) return this.#bounded(parsed.data);
    for (const issue of parsed.error.issues) {
      this.#add(issue.path, issueText(issue, kindsShape, this.#source.value));
    }
    this.#check();
    throw new KindsError(`${this.#path}: not a file of expectations`);
  }

  #bounded(shape: KindsShape): KindsShape {
    const rows = Object.keys(shape.rows);
    if (rows.length > ROWS_MAX)
      this.#add(["rows"], `${rows.length} rows are more than the limit ${ROWS_MAX}`);
    for (const names of rows) {
      const count = names.split(" ").length;
      if (count > NAMES_MAX) this.#add(["rows"], `a row of ${count} names: more than the limit ${NAMES_MAX}`);
    }
    this.#check();
    return shape;
  }

  #cell(
    member: readonly PropertyKey[],
    key: string,
    text: string,
    known: ReadonlyMap<string, Defect>,
  ): RowCell | null {
    const selector = parseSelector(key);
    const cell = parseCell(text);
    for (const problem of [selector, cell]) if (typeof problem === "string") this.#add(member, problem);
    if (typeof selector === "string" || typeof cell === "string") return null;
    const defect = cell.kind === "outcome" ? (cell.defect ?? "none") : "none";
    if (defect !== "none" && !known.has(defect)) {
      const near = nearest(defect, [...known.keys()]).join(", ");
      this.#add(member, `unknown defect ${JSON.stringify(defect)}; nearest: ${near}`);
    }
    return { key, selector, cell, place: this.#placeOf(member) };
  }

  /** Throws a KindsError that names file, line and member of everything that is wrong. */
  rows(): readonly Row[] {
    const { rows, defects: own } = this.#shape();
    const ours = Object.entries(own).map(([id, defect]) => [id, { id, ...defect }] as const);
    const known = new Map([...defects.map((defect) => [defect.id, defect] as const), ...ours]);
    const list = Object.entries(rows).map(([names, body]): Row => {
      const cells =
        typeof body === "string"
          ? [this.#cell(["rows", names], "*", body, known)]
          : Object.entries(body).map(([key, text]) => this.#cell(["rows", names, key], key, text, known));
      const place = this.#placeOf(["rows", names]);
      return {
        scenarios: names.split(" "),
        cells: cells.filter((cell) => cell !== null),
        place,
        defects: known,
      };
    });
    this.#check();
    for (const row of list) checkRow(row);
    return list;
  }
}

/** What to write in place of a rule of the shape that files of expectations had before. */
function rowForRule(rule: unknown): string {
  const message = 'a rule of before; expectations are rows now: "rows": { SCENARIO: { PROPOSALS: CELL } }';
  const parsed = ruleShape.safeParse(rule);
  if (!parsed.success) return message;
  const { scenarios, proposals, vmm, accesses, host, bystanders, events, better, defect } = parsed.data;
  const cell: Cell = {
    kind: "outcome",
    vmm: vmm ?? null,
    steps: Object.entries({ ...accesses, ...host }).map(([label, word]) => ({ label, word })),
    bystanders,
    events,
    better: JSON.stringify(better) === JSON.stringify(betterThan(vmm ?? null)) ? null : better,
    defect: defect ?? null,
  };
  const row = { [scenarios.join(" ")]: { [proposals.join(" ")]: cellText(cell) } };
  return `${message}; this one: ${JSON.stringify(row).slice(1, -1)}`;
}

/** Reads a folder of expectations, laid out like fixtures/kinds. Throws a KindsError that names file, line and member. */
export function loadExpectations(folder: string): ExpectationTable {
  const files = inputOf(folder, () => jsonFilesOf(folder));
  return new ExpectationTable(files.flatMap((name) => new KindsFile(join(folder, name)).rows()));
}

/** A file of the shape. Throws a KindsError that names file, line and member of everything that is wrong. */
function readShape<Shape>(path: string, shape: z.ZodType<Shape>): Shape {
  const source = readJsonSource(readKinds(path));
  if (source.kind === "error") throw new KindsError(jsonErrorText(path, source));
  const twice = source.duplicates.map(
    (one) => `${path}:${one.line}: ${pathText(one.path)}: twice in this object`,
  );
  if (twice.length > 0) throw new KindsError(twice.join("\n"));
  const parsed = shape.safeParse(source.value);
  if (parsed.success) return parsed.data;
  const issues = parsed.error.issues.map(
    (issue) =>
      `${path}:${source.lineOf(issue.path)}: ${pathText(issue.path)}: ${issueText(issue, shape, source.value)}`,
  );
  throw new KindsError(issues.join("\n"));
}

/** Reads a file like fixtures/errata.json. Throws a KindsError. */
export function loadErrata(path: string): readonly Erratum[] {
  return readShape(path, errataShape).errata;
}

/** Reads a file like fixtures/documented.json. Throws a KindsError. */
export function loadDocumented(path: string): readonly DocumentedCell[] {
  return readShape(path, documentedShape).cells;
}
