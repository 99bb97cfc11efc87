/**
 * The engine port: who executes a case. An adapter interprets the scenario's steps in its own way and returns
 * evidence; it never says "pass". `checkedEngine` wraps every adapter and lists all breaches of this contract.
 */
import type { Attestation, EngineName, RunResult, TraceEvent } from "./evidence.ts";
import type { Proposal } from "./proposal.ts";
import type { Scenario } from "./scenario/scenario.ts";

export type Case = {
  readonly scenario: Scenario;
  readonly proposal: Proposal;
  readonly engine: EngineName;
};

/** yes, or no with one sentence why and, where something can be done, what. */
export type Support =
  | { readonly kind: "yes" }
  | { readonly kind: "no"; readonly reason: string; readonly fix: string | null };

/** What a run gives each case. */
export type CaseContext = {
  /** An empty folder of this case's own inside the run directory; removed by the run, mounts below it included. */
  readonly directory: string;
  /** Hard limit of the whole case, preparation and cleaning up included. */
  readonly timeoutMs: number;
  /** Aborted by Ctrl-C: end at once, leave nothing. */
  readonly signal: AbortSignal;
  /** Told of events while they happen, as far as the engine sees them then; the evidence has all of them. */
  readonly onEvent?: (event: TraceEvent) => void;
};

export interface Engine {
  readonly name: EngineName;
  /** One line for `daxfault list engines`. */
  describe(): string;
  /** Can this machine run it at all? Detects features, never versions. */
  available(): Promise<Support>;
  /** Can it run this case? Pure. */
  supports(scenario: Scenario, proposal: Proposal): Support;
  /** What will run the cases; printed before the first one. Each evidence carries its own, taken where it ran. */
  attest(): Promise<Attestation>;
  open(): Promise<void>;
  /** Never rejects for what a case does (hang, crash, signal): those are observations. */
  run(scenario: Scenario, proposal: Proposal, context: CaseContext): Promise<RunResult>;
  close(): Promise<void>;
}
