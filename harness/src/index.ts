/**
 * daxfault as a library: run one case, or draw reports of recorded runs. The command line is built on the same parts;
 * what is not exported here may change at any time.
 */
export type { Sources } from "./catalogue.ts";
export type {
  Attestation,
  EngineName,
  Evidence,
  Exhaustiveness,
  Observations,
  TraceEvent,
} from "./evidence.ts";
export type { Outcome } from "./kinds.ts";
export type { Proposal } from "./proposal.ts";
export type { CaseOutcome, CaseResult } from "./run/runner.ts";
export { type CaseSpec, openCase, runCase } from "./run-case.ts";
export type { Scenario } from "./scenario/scenario.ts";
export type { InconclusiveCause, Verdict, VerdictKind } from "./verdict.ts";
export type { Access, Bystander, GuestKernel, HostStep, Vmm } from "./vocabulary.ts";
