/**
 * The engine `model`: nothing is real. It explores every interleaving of a case and reports the outcomes.
 *
 * The evidence has every way to end, each with the way to it, and is exhaustive: it may say "always".
 */
import { release } from "node:os";
import { guestModel, parseToken, replay } from "../../../../kvm-model/src/index.ts";
import {
  type Access,
  type AccessStep,
  type AccessWord,
  type Attestation,
  accessesOf,
  contentBytes,
  type EventKind,
  type Evidence,
  type Exhaustiveness,
  enablesApf,
  eventKinds,
  fileOffsetAt,
  guestActors,
  type HasWritten,
  type HostResult,
  type HostWord,
  heldBytes,
  mapSteps,
  type Observations,
  type Outcome,
  type Proposal,
  type RunResult,
  type Scenario,
  type StepAt,
  type TraceEvent,
  touchOf,
  toValue,
  type Vmm,
  type VmmWord,
  writtenBy,
  writtenValue,
} from "../../../../language/src/index.ts";
import { PAGE_SIZE } from "../../../../sys/src/index.ts";
import type { Engine, Support } from "../../engine.ts";
import { type Allowed, type AllowedEnd, allowedEnds } from "./allowed.ts";
import { asOfProcess } from "./process-words.ts";
import { hardware, translate } from "./translate.ts";

/** A guest has a timer, as ours has: the ends' tokens are of such a guest. */
export const TIMER = true;

function attestation(scenario: Scenario, proposal: Proposal): Attestation {
  return {
    engine: "model",
    kernel: release(),
    kvmBackend: null,
    kvmParameters: {},
    capabilities: {},
    lapic: proposal.lapic,
    apfEnabled: proposal.lapic === null ? null : enablesApf(proposal),
    pageSize: PAGE_SIZE,
    transport: null,
    windowBytes: scenario.layout === "dax-window" ? Number(scenario.backing.size) : null,
    vm: null,
    guest: null,
  };
}

/** The bytes that an access sees that finds the file's own. */
function undisturbed(
  scenario: Scenario,
  { step, at }: { readonly step: AccessStep; readonly at: StepAt },
  hasWritten: HasWritten,
): bigint {
  const { kind } = touchOf(step);
  if (kind === "store") return writtenValue(step);
  if (kind !== "fetch") return toValue(heldBytes(scenario, at, hasWritten));
  const bytes = contentBytes(scenario.backing.content, fileOffsetAt(scenario, step.offset), 5);
  // `mov eax, imm32`: what the code returns is its own second to fifth byte.
  return toValue(bytes.subarray(1, 5));
}

function accessOf(
  word: AccessWord,
  scenario: Scenario,
  access: { readonly step: AccessStep; readonly at: StepAt },
  hasWritten: HasWritten,
): Access {
  switch (word.kind) {
    case "value":
      return { kind: word.kind, value: undisturbed(scenario, access, hasWritten) };
    case "stale":
      return { kind: word.kind, value: undisturbed(scenario, access, () => false) };
    default:
      return word;
  }
}

/**
 * The default of fs.lease-break-time (`lease_break_time`, fs/locks.c). The model has no clock; the only delay that it
 * knows is a lease that runs out.
 */
const LEASE_BREAK_MS = 45_000;

function hostResultOf(word: HostWord): HostResult {
  switch (word.kind) {
    case "delayed":
      return { kind: word.kind, ms: LEASE_BREAK_MS };
    case "denied":
    case "killed":
      return word;
    default:
      return { kind: word.kind };
  }
}

function vmmOf(word: VmmWord): Vmm {
  switch (word.kind) {
    case "running":
      return { kind: word.kind };
    case "looping":
      // Turns of a loop take no time in the model.
      return { kind: word.kind, faultsPerSecond: 0, at: null };
    case "waiting":
      return { kind: word.kind, at: null };
    case "stopped":
      return { ...word, at: null };
    case "killed":
      return word;
  }
}

/** An outcome with the figures that a run would have. A step that the outcome lacks is lacking here too. */
function observationsOf(scenario: Scenario, outcome: Outcome): Observations {
  const { accesses, host, vmm, guestKernel, bystanders } = outcome;
  const hasWritten = writtenBy(scenario, accesses, host);
  return {
    accesses: Object.fromEntries(
      guestActors(scenario).map(([name, actor]) => [
        name,
        Object.fromEntries(
          accessesOf(actor).flatMap(({ label, step, index }) => {
            const word = accesses[name]?.[label];
            const access = { step, at: { actor: name, index } };
            return word === undefined ? [] : [[label, accessOf(word, scenario, access, hasWritten)]];
          }),
        ),
      ]),
    ),
    host: mapSteps(host, hostResultOf),
    vmm: vmm?.map(vmmOf) ?? null,
    guestKernel,
    bystanders,
  };
}

function isEventKind(kind: string): kind is EventKind {
  return (eventKinds as readonly string[]).includes(kind);
}

/** The story of one end. Time is the number of the step. */
function traceOf(scenario: Scenario, proposal: Proposal, end: AllowedEnd): TraceEvent[] {
  const translation = translate(scenario, proposal, { backend: hardware, timer: end.timer });
  if (translation.kind === "no") return [];
  const path = replay(guestModel(translation.case).model, parseToken(end.token));
  const { steps } = translation.plan.native ? asOfProcess(path.steps) : path;
  return steps.flatMap((step, atMs) =>
    step.events.flatMap(({ kind, from, detail }): TraceEvent[] =>
      isEventKind(kind) ? [{ kind, actor: from, atMs, gpa: null, detail }] : [],
    ),
  );
}

function countsOf(trace: readonly TraceEvent[]): Evidence["counts"] {
  const counts: Partial<Record<EventKind, number>> = {};
  for (const { kind } of trace) counts[kind] = (counts[kind] ?? 0) + 1;
  return counts;
}

function exhaustivenessOf(states: number, boundedBy: string | null): Exhaustiveness {
  return boundedBy === null ? { kind: "exhaustive", states } : { kind: "bounded", by: boundedBy, states };
}

/** Explored once, whether asked for support (of an NMI) or for a run. A scenario's hash stands for its text. */
const explored = new Map<string, Allowed>();

function endsOf(scenario: Scenario, proposal: Proposal, maxStates?: number): Allowed {
  const key = `${scenario.hash} ${proposal.id} ${maxStates ?? ""}`;
  const known = explored.get(key);
  if (known !== undefined) return known;
  const allowed = allowedEnds(scenario, proposal, hardware, {
    timers: [TIMER],
    byFacts: true,
    ...(maxStates === undefined ? {} : { maxStates }),
  });
  explored.set(key, allowed);
  return allowed;
}

/** @param maxStates bounds the search; what it does not reach is not among the ends */
export function modelRun(scenario: Scenario, proposal: Proposal, maxStates?: number): RunResult {
  const beganMs = performance.now();
  const allowed = endsOf(scenario, proposal, maxStates);
  if (allowed.kind === "unsupported") return { kind: "engine-error", message: allowed.reason };
  const [first] = allowed.ends;
  if (first === undefined)
    return { kind: "engine-error", message: `no end found within ${allowed.boundedBy}` };
  const trace = traceOf(scenario, proposal, first);
  const ends = allowed.ends.map((end) => ({
    observations: observationsOf(scenario, end.outcome),
    facts: end.facts,
    token: end.token,
  }));
  const evidence: Evidence = {
    attestation: attestation(scenario, proposal),
    observations: observationsOf(scenario, first.outcome),
    ends,
    counts: countsOf(trace),
    counters: {},
    accessMs: {},
    kvmTrace: null,
    trace,
    exhaustiveness: exhaustivenessOf(allowed.states, allowed.boundedBy),
    durationMs: performance.now() - beganMs,
  };
  return { kind: "evidence", evidence };
}

/** @param maxStates as for `modelRun`, so that both look at one search */
export function modelSupports(scenario: Scenario, proposal: Proposal, maxStates?: number): Support {
  if (scenario.needs.length > 0) {
    return { kind: "no", reason: `the model has no capabilities (${scenario.needs.join(", ")})`, fix: null };
  }
  const translation = translate(scenario, proposal, { backend: hardware, timer: TIMER });
  if (translation.kind === "no") return { kind: "no", reason: translation.reason, fix: null };
  // Only whether an NMI comes takes a search; a search before it is asked for costs `run --list` most of its time.
  if (scenario.nmi === undefined) return { kind: "yes" };
  const allowed = endsOf(scenario, proposal, maxStates);
  if (allowed.kind === "unsupported") return { kind: "no", reason: allowed.reason, fix: null };
  if (allowed.boundedBy === null && !allowed.ends.some(({ facts }) => facts.nmi)) {
    const reason = "the report has neither CR2 nor flags that an NMI could take: none comes in the model";
    return { kind: "no", reason, fix: null };
  }
  return { kind: "yes" };
}

export const modelEngine: Engine = {
  name: "model",
  describe: () =>
    "every interleaving of a deterministic model of KVM, guest kernel, host mm and guards; nothing is real",
  available: async () => ({ kind: "yes" }),
  supports: (scenario, proposal) => modelSupports(scenario, proposal),
  attest: async () => ({
    engine: "model",
    kernel: release(),
    kvmBackend: null,
    kvmParameters: {},
    capabilities: {},
    lapic: null,
    apfEnabled: null,
    pageSize: PAGE_SIZE,
    transport: null,
    windowBytes: null,
    vm: null,
    guest: null,
  }),
  open: async () => {},
  run: async (scenario, proposal) => modelRun(scenario, proposal),
  close: async () => {},
};
