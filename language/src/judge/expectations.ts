/**
 * Expectations, apart from the scenarios: what a case is expected to show, which known deviations (errata) there are,
 * which cells of the scorecard a source decides. `expectation-table.ts` looks them up, `expectation-file.ts` reads them.
 */
import type { EngineName } from "../evidence.ts";
import { matchesGlob } from "../glob.ts";
import type { EventKind } from "../vocabulary.ts";
import type { Defect } from "./defects.ts";

export type { Defect } from "./defects.ts";

/** The outcome of a case, in words. */
export type ExpectedOutcome = {
  /** The VMM's history; absent for engines without a VMM. `looping|stopped(efault)`: either. */
  readonly vmm?: readonly string[] | undefined;
  /** `victim.load#2`, `victim.last` or `crowd-*.last` to a word, or to `killed|not-reached`: either; accesses that are not listed are expected to be `value`. */
  readonly accesses: Readonly<Record<string, string>>;
  /** `host.truncate#1` to a word; steps that are not listed are expected to be `done`. */
  readonly host: Readonly<Record<string, string>>;
  /** Not listed: not looked at. */
  readonly bystanders: Readonly<Record<string, string>>;
  /** Kinds of events that must, or must not, have happened. Unlisted kinds are ignored. Ignored for the model. */
  readonly events: Readonly<Partial<Record<EventKind, "seen" | "none">>>;
};

/** The expected outcome of one case. */
export type Expectation = {
  /** The rule it comes from: `two-victims-and-an-innocent @reports`. */
  readonly rule: string;
  readonly outcome: ExpectedOutcome;
  /** Last states of the VMM that would be an improvement: xpass instead of fail. */
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
  /** The outcomes seen instead: any of these. */
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

/** Which case an erratum is asked about, by the engine that executes it. */
export type CaseName = {
  readonly scenario: string;
  readonly proposal: string;
  readonly engine: EngineName;
};

export class KindsError extends Error {
  override readonly name = "KindsError";
}

/** Is the erratum about this case? Its condition on the machine is looked at by the judge, against the attestation. */
export function isAbout(erratum: Erratum, { scenario, proposal, engine }: CaseName): boolean {
  return (
    erratum.engine === engine &&
    erratum.scenarios.some((pattern) => matchesGlob(pattern, scenario)) &&
    erratum.proposals.some((pattern) => matchesGlob(pattern, proposal))
  );
}
