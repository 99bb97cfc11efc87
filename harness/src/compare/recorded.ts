/** The compared parts of recorded runs: outcomes and tracepoints, with their cases. */
import {
  type Attestation,
  type Ending,
  type EngineNature,
  type Evidence,
  endingsOf,
  type KernelVmFacts,
  type KvmPart,
  type KvmTrace,
  type Outcome,
  outcomeWords,
  type PatchFacts,
  type Proposal,
  placeName,
  recordedStyle,
  type Scenario,
  type VerdictKind,
} from "../../../language/src/index.ts";
import type { CaseResult } from "../run/result.ts";

/** Which case. */
export type CaseId = { readonly scenario: string; readonly proposal: string; readonly engine: string };

export type Traced = { readonly attestation: Attestation; readonly kvmTrace: KvmTrace };

/** What properties need of an ending beside its words. */
export type ObservedFacts = Pick<Ending, "exitAt" | "wasRecalled" | "nmi" | "hostMs"> & {
  /** Every state of the VMM, in order: the words have the last one. */
  readonly history: string | null;
};

/** A kernel that ran the cases of a recording. */
export type ObservedKernel = {
  readonly release: string;
  readonly kvmBackend: string | null;
  /** The package and its version; null: the kernel of the machine itself. */
  readonly origin: string | null;
  readonly accelerator: "kvm" | "tcg" | null;
  /** Of a kernel with patches: what it was built with, and the proposal that its KVM has built in. Else left out. */
  readonly patches?: readonly PatchFacts[];
  readonly kvm?: KvmPart;
};

/** What makes a kernel another one than its package's. */
function builtFacts(vm: KernelVmFacts | null): Pick<ObservedKernel, "patches" | "kvm"> {
  if (vm === null) return {};
  return {
    ...(vm.patches.length === 0 ? {} : { patches: vm.patches }),
    ...(vm.kvm === "today" ? {} : { kvm: vm.kvm }),
  };
}

/** Scenario and proposal as the record defines them, which may be the user's own. */
export type Definition = {
  readonly scenario: Scenario;
  readonly proposal: Proposal;
  /** What named both on the command line of that run. */
  readonly argument: string;
};

/** A case that has observations. */
export type Recorded = CaseId & {
  readonly scenarioHash: string;
  readonly definition: Definition;
  /** false: an outcome of the model itself, which is no observation. */
  readonly isReal: boolean;
  /** The guest was Linux as it is, not the one that the proposal wishes for. */
  readonly isLinuxGuest: boolean;
  readonly kvmBackend: string | null;
  readonly outcome: Outcome;
  readonly verdict: VerdictKind;
  readonly facts: ObservedFacts;
  readonly kernel: ObservedKernel;
  /** The kernel's tracepoints with what they are of; null: there are none. */
  readonly traced: Traced | null;
  /** An erratum that is in force and was not seen: the judge's reason. */
  readonly goneErratum: string | null;
};

/** A case that the real engine could not run. */
export type Skipped = CaseId & { readonly definition: Definition; readonly reason: string };
export type RecordedCases = { readonly observed: readonly Recorded[]; readonly skipped: readonly Skipped[] };

/** Two recordings cannot be compared: of one case they have two texts of the scenario. */
export class RecordingError extends Error {
  override readonly name = "RecordingError";
}

export function caseText({ scenario, proposal, engine }: CaseId): string {
  return `${scenario} x ${proposal} (${engine})`;
}

function idOf({ planned }: CaseResult): CaseId {
  const { scenario, proposal } = planned;
  return { scenario: scenario.id, proposal: proposal.id, engine: placeName(planned) };
}

/** Of the ending that `observations` is. */
function factsOf(evidence: Evidence, nature: EngineNature): ObservedFacts {
  const [ending] = endingsOf(evidence, nature);
  if (ending === undefined) throw new Error("evidence without an ending");
  const { exitAt, wasRecalled, nmi, hostMs } = ending;
  const { vmm: history } = outcomeWords(ending.outcome, recordedStyle);
  return { history, exitAt, wasRecalled, nmi, hostMs };
}

function definitionOf({ planned }: CaseResult): Definition {
  const { scenario, proposal, argument } = planned;
  return { scenario, proposal, argument };
}

function recordedOf(one: CaseResult): readonly Recorded[] {
  const { planned, result, verdict } = one;
  if (result?.kind !== "evidence") return [];
  const { attestation, kvmTrace, observations } = result.evidence;
  return [
    {
      ...idOf(one),
      scenarioHash: planned.scenario.hash,
      definition: definitionOf(one),
      isReal: planned.nature.isReal,
      isLinuxGuest: planned.nature.isLinuxGuest ?? false,
      kvmBackend: attestation.kvmBackend,
      outcome: observations,
      verdict: verdict.kind,
      facts: factsOf(result.evidence, planned.nature),
      kernel: {
        release: attestation.kernel,
        kvmBackend: attestation.kvmBackend,
        origin: attestation.vm?.origin ?? null,
        accelerator: attestation.vm?.accelerator ?? null,
        ...builtFacts(attestation.vm),
      },
      traced: kvmTrace === null ? null : { attestation, kvmTrace },
      goneErratum: verdict.kind === "xpass" && verdict.erratum !== undefined ? verdict.reason : null,
    },
  ];
}

/** Cases without either, such as those that timed out, are left out. */
export function recordedCases(results: readonly CaseResult[]): RecordedCases {
  return {
    observed: results.flatMap(recordedOf),
    skipped: results.flatMap((one) =>
      one.verdict.kind === "skip"
        ? [{ ...idOf(one), definition: definitionOf(one), reason: one.verdict.reason }]
        : [],
    ),
  };
}
