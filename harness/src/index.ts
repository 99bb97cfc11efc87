/**
 * daxfault as a library: run one case, or draw reports of recorded runs. The command line is built on the same parts;
 * what is not exported here may change at any time.
 */

export type {
  Access,
  Attestation,
  Bystander,
  Evidence,
  Exhaustiveness,
  ExpectedOutcome as Outcome,
  GuestKernel,
  HostResult as HostStep,
  InconclusiveCause,
  Observations,
  Proposal,
  Scenario,
  TraceEvent,
  Verdict,
  VerdictKind,
  Vmm,
} from "../../language/src/index.ts";
export type { Sources } from "./run/catalogue.ts";
export type { CaseOutcome, CaseResult } from "./run/result.ts";
export { type CaseSpec, type EngineName, openCase, runCase } from "./run-case.ts";
