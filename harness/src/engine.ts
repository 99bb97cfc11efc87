/**
 * The engine port: who executes a case. An adapter interprets the scenario's steps in its own way and returns
 * evidence; it never says "pass". `checkedEngine` wraps every adapter and lists all breaches of this contract.
 */

import type {
  Attestation,
  EngineName,
  Proposal,
  RunResult,
  Scenario,
  TraceEvent,
} from "../../language/src/index.ts";
import type { BootConsole } from "./kernel/console.ts";

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
  /** How many times slower than on a real machine things may be (emulation): an engine's own limits are multiplied by it. */
  readonly slowness: number;
};

/** What a run gives an engine as a whole. */
export type OpenContext = {
  /** A folder inside the run's. */
  readonly directory: string;
  readonly signal: AbortSignal;
};

export interface Engine {
  readonly name: EngineName;
  /** How it is asked for on the command line; left out: `--engine NAME`. */
  readonly option?: string;
  /** One line for `daxfault list engines`. */
  describe(): string;
  /** Can this machine run it at all? Detects features, never versions. */
  available(): Promise<Support>;
  /** Can it run this case? Pure. */
  supports(scenario: Scenario, proposal: Proposal): Support;
  /** Before its first case. Does not reject for what cannot be had: its cases then say so. */
  open(context: OpenContext): Promise<void>;
  /**
   * What will run the cases; asked after `open`, printed before the first one. null if it could not be opened.
   * Each evidence carries its own, taken where it ran.
   */
  attest(): Promise<Attestation | null>;
  /** What the consoles of a machine that it booted have said so far, boot by boot. */
  consoles?(): readonly BootConsole[];
  /** How much slower than a real machine it is: 1, or more under emulation. */
  slowness(): number;
  /** Its cases have the machine to themselves: one at a time, whatever `--jobs` says. */
  readonly isAlone: boolean;
  /**
   * Before each case, outside its limit: puts right what an earlier case has broken. Does not reject: where that is not
   * possible, `run` says why.
   */
  recover?(): Promise<void>;
  /** Never rejects for what a case does (hang, crash, signal): those are observations. */
  run(scenario: Scenario, proposal: Proposal, context: CaseContext): Promise<RunResult>;
  close(): Promise<void>;
}
