/**
 * The report for programs: JSON lines, `type` first. Lossless: `decode.ts` restores the results from them.
 * Words in their text form, 64-bit numbers as "0x..". `daxfault schema` publishes `recordSchema`.
 */

import { z } from "zod";
import {
  accessText,
  bystanderStates,
  type Counts,
  deciderWords,
  type EngineName,
  type Exhaustiveness,
  eventKinds,
  type FaultPlace,
  guestKernelStates,
  hex,
  holdsWords,
  hostResultText,
  inconclusiveCauses,
  kvmParts,
  lapicPlaces,
  type Observations,
  type Proposal,
  placeName,
  type Scenario,
  type ScoreCell,
  scenarioSource,
  type TraceEvent,
  transports,
  type Vmm,
  verdictKinds,
  vmmText,
} from "../../../language/src/index.ts";
import { engineNames } from "../engines/registry.ts";
import type { MachineBooted, RunInfo } from "../run/observer.ts";
import { type PlannedCase, replayCommand } from "../run/plan.ts";
import type { CaseResult } from "../run/result.ts";
import type { ConsoleRecord, RecordLine } from "./records.ts";

/** One line. `type` is the first member. */
export type JsonRecord = { readonly type: string; readonly [member: string]: unknown };

/** 64 bits. */
const hexText = z.string().regex(/^0x[0-9a-f]{1,16}$/);
const textByLabel = z.record(z.string(), z.record(z.string(), z.string()));
const engineName = z.enum(engineNames);
const kernelName: z.ZodType<`kernel:${string}`> = z.templateLiteral(["kernel:", z.string().min(1)]);
const machineName = z.union([z.literal("here"), kernelName]);
const onKernelName: z.ZodType<`${EngineName}@kernel:${string}`> = z.templateLiteral([
  engineName,
  "@kernel:",
  z.string().min(1),
]);
/** `placeName`. */
const placeNameShape = z.union([engineName, kernelName, onKernelName]);
/** Members beside `placeNameShape`. Lines of earlier versions have neither. */
const placeShapes = { machine: machineName.optional(), executor: engineName.optional() };

const patchesShape = z.array(
  z.strictObject({ name: z.string(), sha256: z.string().regex(/^[0-9a-f]{64}$/) }),
);

const attestationShape = z.strictObject({
  engine: engineName,
  kernel: z.string(),
  kvmBackend: z.string().nullable(),
  kvmParameters: z.record(z.string(), z.string()),
  capabilities: z.record(z.string(), z.number()),
  lapic: z.enum(lapicPlaces).nullable(),
  apfEnabled: z.boolean().nullable(),
  pageSize: z.number(),
  transport: z.enum(transports).nullable(),
  windowBytes: z.number().nullable(),
  vm: z
    .strictObject({
      kernel: z.string(),
      origin: z.string(),
      imageSha256: z.string().regex(/^[0-9a-f]{64}$/),
      /** Lines of earlier versions have neither. */
      patches: patchesShape.default([]),
      kvm: z.enum(kvmParts).default("today"),
      imageRelease: z.string().nullable(),
      bootId: z.string(),
      commandLine: z.string(),
      qemu: z.string(),
      accelerator: z.enum(["kvm", "tcg"]),
      cpus: z.number().int(),
      memoryMiB: z.number().int(),
    })
    .nullable(),
  /** Lines of earlier versions have none. */
  guest: z
    .strictObject({
      kernel: z.string(),
      origin: z.string(),
      imageSha256: z.string().regex(/^[0-9a-f]{64}$/),
      patches: patchesShape.default([]),
      release: z.string(),
      commandLine: z.string(),
      cpus: z.number().int(),
      bootCase: z.number().int(),
      asyncPageFaults: z.enum(["offered", "hidden"]),
      machineCheckRecovery: z.enum(["offered", "hidden"]),
      mount: z.string(),
      qemu: z
        .strictObject({
          origin: z.string(),
          version: z.string(),
          accelerator: z.enum(["kvm", "tcg"]),
          status: z.string(),
          fuse: z.string().nullable(),
          daxWindowBytes: z.number().int().nullable(),
        })
        .exactOptional(),
    })
    .nullable()
    .default(null),
});

const placeShape = z
  .strictObject({
    rip: hexText,
    cpl: z.number().int(),
    gva: hexText,
    gpa: hexText.nullable(),
    hva: hexText.nullable(),
  })
  .nullable();

const runShape = z.strictObject({
  type: z.literal("run"),
  version: z.string(),
  startedAt: z.iso.datetime(),
  kernel: z.string(),
  node: z.string(),
  pageSize: z.number(),
  kvmBackend: z.string().nullable(),
  runDirectory: z.string(),
  fileSystem: z.string(),
  /** What this run was to do, after sharding. */
  cases: z.number().int(),
  jobs: z.number().int(),
  timeoutMs: z.number(),
  repeat: z.number().int(),
  /** Beside so many processes that never sleep. */
  busy: z.number().int().default(0),
  shard: z.strictObject({ index: z.number().int(), count: z.number().int() }).nullable(),
  attestations: z.array(attestationShape),
});

const engineShape = z.strictObject({
  type: z.literal("engine"),
  name: placeNameShape,
  attestation: attestationShape.nullable(),
  openedMs: z.number(),
});

const consoleShape = z.strictObject({
  type: z.literal("console"),
  name: placeNameShape,
  lines: z.array(z.string()),
});

/** Cases name their scenario by id and hash, their proposal by id: these lines are what they name. */
const scenarioShape = z.strictObject({
  type: z.literal("scenario"),
  id: z.string(),
  hash: z.string().regex(/^[0-9a-f]{12}$/),
  /** The scenario as its file would write it, expanded. */
  source: z.record(z.string(), z.unknown()),
});

const proposalShape = z.strictObject({
  type: z.literal("proposal"),
  id: z.string(),
  title: z.string(),
  kvm: z.string(),
  /** Lines of earlier versions have none. */
  exits: z.string().optional(),
  vmm: z.string(),
  guest: z.string(),
  server: z.string(),
  lapic: z.enum(lapicPlaces).nullable(),
});

const outcomeShape = z.strictObject({
  vmm: z.array(z.string()).optional(),
  accesses: z.record(z.string(), z.string()),
  host: z.record(z.string(), z.string()),
  bystanders: z.record(z.string(), z.string()),
  events: z.partialRecord(z.enum(eventKinds), z.enum(["seen", "none"])),
});

export const exhaustivenessShape: z.ZodType<Exhaustiveness> = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("exhaustive"), states: z.number() }),
  z.strictObject({ kind: z.literal("bounded"), by: z.string(), states: z.number() }),
  z.strictObject({ kind: z.literal("sampled"), runs: z.number(), seed: z.number().nullable() }),
]);

const kvmTraceShape = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("trace"),
    events: z.array(z.string()),
    lines: z.array(z.string()),
    cut: z.number().int().min(0),
  }),
  z.strictObject({ kind: z.literal("none"), reason: z.string() }),
]);

const observationsShape = z.strictObject({
  accesses: textByLabel,
  host: textByLabel,
  vmm: z
    .array(z.strictObject({ state: z.string(), faultsPerSecond: z.number().nullable(), at: placeShape }))
    .nullable(),
  guestKernel: z.enum(guestKernelStates).nullable(),
  bystanders: z.record(z.string(), z.enum(bystanderStates)),
});

const caseShape = z.strictObject({
  type: z.literal("case"),
  scenario: z.string(),
  scenarioHash: z.string().regex(/^[0-9a-f]{12}$/),
  proposal: z.string(),
  engine: placeNameShape,
  ...placeShapes,
  verdict: z.strictObject({
    kind: z.enum(verdictKinds),
    cause: z.enum(inconclusiveCauses).optional(),
    reason: z.string(),
    /** Of an xpass: the erratum that is in force and was not seen. */
    erratum: z.string().optional(),
  }),
  expectation: z
    .strictObject({
      rule: z.string(),
      outcome: outcomeShape,
      better: z.array(z.string()),
      defect: z.strictObject({ id: z.string(), text: z.string(), source: z.string() }).nullable(),
    })
    .nullable(),
  /** Why there is no evidence although the case ran. */
  failure: z
    .strictObject({
      kind: z.enum(["timeout", "engine-error", "busy", "emulator-defect", "unsupported", "kernel-crash"]),
      message: z.string(),
    })
    .nullable(),
  /** For a skipped case: what would mend it. */
  fix: z.string().nullable(),
  outcomes: z.array(
    z.strictObject({ text: z.string(), verdict: z.enum(verdictKinds), count: z.number().int().min(1) }),
  ),
  attestation: attestationShape.nullable(),
  exhaustiveness: exhaustivenessShape.nullable(),
  observations: observationsShape.nullable(),
  /** Of a model's case: every way to end, the first as above, each with its way for `daxfault explore --replay`. */
  ends: z
    .array(
      z.strictObject({
        observations: observationsShape,
        facts: z.strictObject({ exitElsewhere: z.boolean(), metLostPage: z.boolean(), nmi: z.boolean() }),
        token: z.string(),
      }),
    )
    .optional(),
  events: z.partialRecord(z.enum(eventKinds), z.number().int()),
  counters: z.record(z.string(), hexText),
  accessMs: z.record(z.string(), z.record(z.string(), z.number())),
  trace: z.array(
    z.strictObject({
      kind: z.enum(eventKinds),
      actor: z.string(),
      atMs: z.number(),
      gpa: hexText.nullable(),
      detail: z.string(),
      tookMs: z.number().optional(),
    }),
  ),
  kvmTrace: kvmTraceShape.nullable(),
  guestConsole: z.array(z.string()).optional(),
  durationMs: z.number(),
  /** As the engine measured the run that the evidence is of. */
  engineMs: z.number().nullable(),
  /** What names the scenario on the command line: its id, or a file. */
  argument: z.string(),
  engineOption: z.string().nullable(),
  replay: z.string(),
});

const shareShape = z
  .strictObject({
    holds: z.enum(["yes", "no", "partly"]),
    cases: z.number().int(),
    places: z.array(z.string()),
    exhaustive: z.boolean(),
  })
  .nullable();

/** A cell of the scorecard: the word, and what decided it. */
const scoreShape = z.strictObject({
  type: z.literal("score"),
  proposal: z.string(),
  property: z.string(),
  holds: z.enum(holdsWords),
  by: z.enum(deciderWords).nullable(),
  real: shareShape,
  model: shareShape,
  contradictions: z.array(
    z.strictObject({
      scenario: z.string(),
      place: z.string(),
      real: z.enum(["yes", "no"]),
      model: z.enum(["yes", "no"]),
    }),
  ),
  figure: z.string().nullable(),
  source: z.string().nullable(),
});

const summaryShape = z.strictObject({
  type: z.literal("summary"),
  counts: z.strictObject({
    pass: z.number().int(),
    fail: z.number().int(),
    xfail: z.number().int(),
    xpass: z.number().int(),
    skip: z.number().int(),
    inconclusive: z.number().int(),
  }),
  exitCode: z.number().int(),
  interrupted: z.boolean(),
  defects: z.array(z.string()),
  durationMs: z.number(),
});

/** Cases as `run --list` has them. */
const plannedShape = z.strictObject({
  type: z.literal("planned"),
  scenario: z.string(),
  proposal: z.string(),
  engine: placeNameShape,
  ...placeShapes,
  /** null: it would run. */
  skip: z.string().nullable(),
});

/** Any line of `daxfault run --json` and `daxfault report --json`. */
export const recordSchema: z.ZodType<RecordLine> = z.discriminatedUnion("type", [
  runShape,
  engineShape,
  consoleShape,
  scenarioShape,
  proposalShape,
  caseShape,
  scoreShape,
  summaryShape,
  plannedShape,
]);

const hexOrNull = (value: bigint | null): string | null => (value === null ? null : hex(value));

function placeRecord(at: FaultPlace | null): object | null {
  if (at === null) return null;
  return { rip: hex(at.rip), cpl: at.cpl, gva: hex(at.gva), gpa: hexOrNull(at.gpa), hva: hexOrNull(at.hva) };
}

function vmmRecord(vmm: Vmm): object {
  return {
    state: vmmText(vmm),
    faultsPerSecond: vmm.kind === "looping" ? vmm.faultsPerSecond : null,
    at: "at" in vmm ? placeRecord(vmm.at) : null,
  };
}

function mapValues<From, To>(
  record: Readonly<Record<string, From>>,
  map: (value: From) => To,
): Record<string, To> {
  return Object.fromEntries(Object.entries(record).map(([name, value]) => [name, map(value)]));
}

function observationsRecord(observations: Observations): object {
  return {
    accesses: mapValues(observations.accesses, (labels) => mapValues(labels, accessText)),
    host: mapValues(observations.host, (labels) => mapValues(labels, hostResultText)),
    vmm: observations.vmm?.map(vmmRecord) ?? null,
    guestKernel: observations.guestKernel,
    bystanders: observations.bystanders,
  };
}

function traceRecord(event: TraceEvent): object {
  const { kind, actor, atMs, gpa, detail, tookMs } = event;
  return {
    kind,
    actor,
    atMs,
    gpa: hexOrNull(gpa),
    detail,
    ...(tookMs === undefined ? {} : { tookMs }),
  };
}

export function runRecord(run: RunInfo): JsonRecord {
  return { type: "run", ...run };
}

/** A machine that boots a kernel, once that was tried. */
export function engineRecord(machine: MachineBooted): JsonRecord {
  return { type: "engine", ...machine };
}

export function consoleRecord(console: ConsoleRecord): JsonRecord {
  return { type: "console", ...console };
}

export function scenarioRecord(scenario: Scenario): JsonRecord {
  return { type: "scenario", id: scenario.id, hash: scenario.hash, source: scenarioSource(scenario) };
}

export function proposalRecord({ id, title, kvm, exits, vmm, guest, server, lapic }: Proposal): JsonRecord {
  return { type: "proposal", id, title, kvm, exits, vmm, guest, server, lapic };
}

/** Where a line's case runs: `engine`, as in earlier versions, and its two parts. */
function placeMembers(planned: PlannedCase): object {
  return { engine: placeName(planned), machine: planned.machine, executor: planned.engine };
}

export function plannedRecord(planned: PlannedCase): JsonRecord {
  const { scenario, proposal, support } = planned;
  const skip = support.kind === "no" ? support.reason : null;
  return {
    type: "planned",
    scenario: scenario.id,
    proposal: proposal.id,
    ...placeMembers(planned),
    skip,
  };
}

export function caseRecord(one: CaseResult): JsonRecord {
  const { planned, verdict, result, expectation, outcomes, durationMs } = one;
  const evidence = result?.kind === "evidence" ? result.evidence : null;
  return {
    type: "case",
    scenario: planned.scenario.id,
    scenarioHash: planned.scenario.hash,
    proposal: planned.proposal.id,
    ...placeMembers(planned),
    verdict,
    expectation,
    failure: result === null || result.kind === "evidence" ? null : result,
    fix: planned.support.kind === "no" ? planned.support.fix : null,
    outcomes,
    attestation: evidence?.attestation ?? null,
    exhaustiveness: evidence?.exhaustiveness ?? null,
    observations: evidence === null ? null : observationsRecord(evidence.observations),
    ends: (evidence?.ends ?? []).map(({ observations, ...end }) => ({
      observations: observationsRecord(observations),
      ...end,
    })),
    events: evidence?.counts ?? {},
    counters: mapValues(evidence?.counters ?? {}, hex),
    accessMs: evidence?.accessMs ?? {},
    trace: evidence?.trace.map(traceRecord) ?? [],
    kvmTrace: evidence?.kvmTrace ?? null,
    ...(evidence?.guestConsole === undefined ? {} : { guestConsole: evidence.guestConsole }),
    durationMs,
    engineMs: evidence?.durationMs ?? null,
    argument: planned.argument,
    engineOption: planned.engineOption ?? null,
    replay: replayCommand(planned),
  };
}

export function scoreRecord(cell: ScoreCell): JsonRecord {
  return { type: "score", ...cell };
}

export function summaryRecord(summary: {
  readonly counts: Counts;
  readonly exitCode: number;
  readonly interrupted: boolean;
  readonly defects: readonly string[];
  readonly durationMs: number;
}): JsonRecord {
  return { type: "summary", ...summary };
}
