/**
 * Reads files of expectations: fixtures/kinds (one file an oracle), fixtures/errata.json (known deviations),
 * fixtures/documented.json (cells of the scorecard that no test decides). Checked for shape when loaded.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { readJsonSource } from "../json-source.ts";
import { pathText } from "../scenario/problem.ts";
import { eventKinds } from "../vocabulary.ts";
import { type DocumentedCell, type Erratum, Kinds, KindsError, type Rule } from "./expectations.ts";

const words = z.record(z.string(), z.string());
const outcomeShape = z.strictObject({
  vmm: z.array(z.string()).min(1).optional(),
  accesses: words.default({}),
  host: words.default({}),
  bystanders: words.default({}),
  events: z.partialRecord(z.enum(eventKinds), z.enum(["seen", "none"])).default({}),
});

const engineShape = z.enum(["model", "process", "kvm"]);
const kindsShape = z.strictObject({
  oracle: z.string(),
  about: z.string(),
  defects: z.record(z.string(), z.strictObject({ text: z.string(), source: z.string() })).default({}),
  rules: z.array(
    outcomeShape.extend({
      scenarios: z.array(z.string()).min(1),
      proposals: z.array(z.string()).min(1),
      engine: engineShape,
      /** Last states of the VMM that would be an improvement: xpass instead of fail. */
      better: z.array(z.string()).default([]),
      defect: z.string().optional(),
    }),
  ),
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
      engine: engineShape,
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

function readJson(path: string): unknown {
  return JSON.parse(readFileSync(path, "utf8"));
}

function toRules(file: z.infer<typeof kindsShape>): readonly Rule[] {
  return file.rules.map((rule, index) => {
    const { scenarios, proposals, engine, better, defect, ...outcome } = rule;
    const name = `${file.oracle} rule ${index + 1}`;
    const known = defect === undefined ? null : file.defects[defect];
    if (known === undefined) throw new KindsError(`${name}: unknown defect ${defect}`);
    return {
      scenarios,
      proposals,
      engine,
      expectation: {
        rule: name,
        outcome,
        better,
        defect: known === null ? null : { id: defect ?? "", ...known },
      },
    };
  });
}

function readKinds(path: string): z.infer<typeof kindsShape> {
  const source = readJsonSource(readFileSync(path, "utf8"));
  if (source.kind === "error") throw new KindsError(`${path}:${source.line}: not JSON: ${source.message}`);
  const parsed = kindsShape.safeParse(source.value);
  if (parsed.success) return parsed.data;
  const lines = parsed.error.issues.map(({ path: member, message }) => {
    const at = pathText(member);
    return `${path}:${source.lineOf(at)}: ${at}: ${message}`;
  });
  throw new KindsError(lines.join("\n"));
}

/** Reads a folder of expectations, laid out like fixtures/kinds. Throws a KindsError that names file, line and member. */
export function loadKinds(folder: string): Kinds {
  const files = readdirSync(folder).filter((name) => name.endsWith(".json"));
  return new Kinds(files.sort().flatMap((name) => toRules(readKinds(join(folder, name)))));
}

/** Reads a file like fixtures/errata.json. */
export function loadErrata(path: string): readonly Erratum[] {
  return errataShape.parse(readJson(path)).errata;
}

/** Reads a file like fixtures/documented.json. */
export function loadDocumented(path: string): readonly DocumentedCell[] {
  return documentedShape.parse(readJson(path)).cells;
}
