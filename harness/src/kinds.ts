/**
 * What is expected, apart from the scenarios: fixtures/kinds (one file an oracle), fixtures/errata.json (known
 * deviations), fixtures/documented.json (cells of the scorecard that no test decides). Checked for shape when loaded.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import type { LocalEngineName } from "./evidence.ts";
import { matchesGlob, specificity } from "./glob.ts";
import { readJsonSource } from "./json-source.ts";
import { packagePath } from "./paths.ts";
import { pathText } from "./scenario/problem.ts";
import { type EventKind, eventKinds } from "./vocabulary.ts";

/** What a case shows, in words. */
export type Outcome = {
  /** The VMM's history; absent for engines without a VMM. `looping|stopped(efault)`: either. */
  readonly vmm?: readonly string[] | undefined;
  /** `victim.load#2`, `victim.last` or `crowd-*.last` to a word, or to `killed|not-reached`: either; accesses that are not listed are expected to be `value`. */
  readonly accesses: Readonly<Record<string, string>>;
  /** `host.truncate#1` to a word; steps that are not listed are expected to be `done`. */
  readonly host: Readonly<Record<string, string>>;
  /** Not listed: not looked at. */
  readonly bystanders: Readonly<Record<string, string>>;
  /** Kinds of events that must, or must not, have happened. Not listed: not looked at. Not asked of the model. */
  readonly events: Readonly<Partial<Record<EventKind, "seen" | "none">>>;
};

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

export type Defect = { readonly id: string; readonly text: string; readonly source: string };

/** What one case is expected to show. */
export type Expectation = {
  /** Where it says so: `stock-kvm rule 3`. */
  readonly rule: string;
  readonly outcome: Outcome;
  readonly better: readonly string[];
  /** A defect of the kernel that the expected outcome shows. */
  readonly defect: Defect | null;
};

/** A known deviation of a kernel or a backend from what is expected. */
export type Erratum = {
  readonly id: string;
  readonly reason: string;
  /** In force where all of these are so; a kernel by the beginning of its release. */
  readonly when: { readonly kvmBackend?: string | undefined; readonly kernel?: string | undefined };
  readonly scenarios: readonly string[];
  readonly proposals: readonly string[];
  readonly engine: LocalEngineName;
  /** What is seen instead: any of these. */
  readonly outcomes: readonly Outcome[];
  readonly link: string;
  readonly owner: string;
};

/** A cell of the scorecard that no test decides, but a source does. */
export type DocumentedCell = {
  readonly proposal: string;
  readonly property: string;
  readonly says: "yes" | "no";
  readonly source: string;
};

type Rule = {
  readonly scenarios: readonly string[];
  readonly proposals: readonly string[];
  readonly engine: LocalEngineName;
  readonly expectation: Expectation;
};

/** Which case is asked about, by the engine that executes it. */
export type CaseName = {
  readonly scenario: string;
  readonly proposal: string;
  readonly engine: LocalEngineName;
};

export class KindsError extends Error {
  override readonly name = "KindsError";
}

/** How narrowly the patterns meet the id: the narrowest one that matches; -1 if none does. */
function narrowest(patterns: readonly string[], id: string): number {
  return Math.max(
    -1,
    ...patterns.filter((pattern) => matchesGlob(pattern, id)).map((pattern) => specificity(pattern)),
  );
}

/** All rules of all oracles. */
export class Kinds {
  readonly #rules: readonly Rule[];

  constructor(rules: readonly Rule[]) {
    this.#rules = rules;
  }

  get rules(): readonly Rule[] {
    return this.#rules;
  }

  /**
   * The expectation of a case: of the rules that match, the one with the narrowest scenario pattern, then the
   * narrowest proposal pattern. null if none matches. Two equally narrow ones: a KindsError.
   */
  find({ scenario, proposal, engine }: CaseName): Expectation | null {
    const matches = this.#rules
      .map((rule) => ({
        rule,
        scenario: narrowest(rule.scenarios, scenario),
        proposal: narrowest(rule.proposals, proposal),
      }))
      // The model stands for KVM and for the host's mm: what is expected of them is expected of it.
      .filter((match) => engine === "model" || match.rule.engine === engine)
      .filter((match) => match.scenario >= 0 && match.proposal >= 0)
      // Infinity - Infinity is NaN: compare, do not subtract.
      .sort((a, b) => compare(b.scenario, a.scenario) || compare(b.proposal, a.proposal));
    const [best, second] = matches;
    if (best === undefined) return null;
    if (second !== undefined && second.scenario === best.scenario && second.proposal === best.proposal) {
      throw new KindsError(
        `${scenario} x ${proposal} x ${engine}: ${best.rule.expectation.rule} and ${second.rule.expectation.rule} match equally well`,
      );
    }
    return best.rule.expectation;
  }
}

function compare(a: number, b: number): number {
  return a === b ? 0 : a < b ? -1 : 1;
}

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

/** Reads fixtures/kinds, or such a folder of the user's. Throws a KindsError that names file, line and member. */
export function loadKinds(folder: string = packagePath("fixtures/kinds")): Kinds {
  const files = readdirSync(folder).filter((name) => name.endsWith(".json"));
  return new Kinds(files.sort().flatMap((name) => toRules(readKinds(join(folder, name)))));
}

/** Reads fixtures/errata.json. */
export function loadErrata(path: string = packagePath("fixtures/errata.json")): readonly Erratum[] {
  return errataShape.parse(readJson(path)).errata;
}

/** Reads fixtures/documented.json. */
export function loadDocumented(
  path: string = packagePath("fixtures/documented.json"),
): readonly DocumentedCell[] {
  return documentedShape.parse(readJson(path)).cells;
}

/** Is the erratum about this case? Its condition on the machine is looked at by the judge, against the attestation. */
export function isAbout(erratum: Erratum, { scenario, proposal, engine }: CaseName): boolean {
  return (
    erratum.engine === engine &&
    narrowest(erratum.scenarios, scenario) >= 0 &&
    narrowest(erratum.proposals, proposal) >= 0
  );
}
