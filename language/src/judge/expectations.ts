/**
 * Expectations, apart from the scenarios: what a case is expected to show, which known deviations (errata) there are,
 * which cells of the scorecard a source decides. `expectation-file.ts` reads them.
 */
import type { EngineName } from "../evidence.ts";
import { matchesGlob, specificity } from "../glob.ts";
import type { EventKind } from "../vocabulary.ts";

/** What a case shows, in words. */
export type ExpectedOutcome = {
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

export type Defect = { readonly id: string; readonly text: string; readonly source: string };

/** What one case is expected to show. */
export type Expectation = {
  /** Where it says so: `stock-kvm rule 3`. */
  readonly rule: string;
  readonly outcome: ExpectedOutcome;
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
  readonly engine: EngineName;
  /** What is seen instead: any of these. */
  readonly outcomes: readonly ExpectedOutcome[];
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

export type Rule = {
  readonly scenarios: readonly string[];
  readonly proposals: readonly string[];
  readonly engine: EngineName;
  readonly expectation: Expectation;
};

/** Which case is asked about, by the engine that executes it. */
export type CaseName = {
  readonly scenario: string;
  readonly proposal: string;
  readonly engine: EngineName;
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

/** Is the erratum about this case? Its condition on the machine is looked at by the judge, against the attestation. */
export function isAbout(erratum: Erratum, { scenario, proposal, engine }: CaseName): boolean {
  return (
    erratum.engine === engine &&
    narrowest(erratum.scenarios, scenario) >= 0 &&
    narrowest(erratum.proposals, proposal) >= 0
  );
}
