/**
 * The engine `model`: nothing is real. It explores every interleaving of a case and reports what came of it.
 *
 * The judge takes one set of observations. Where all interleavings end alike, that end is the evidence, and it is
 * exhaustive: it may say "always". A case that can end in several ways is skipped with the command that shows them all.
 */
import { release } from "node:os";
import { guestModel, parseToken, replay } from "../../../../kvm-model/src/index.ts";
import {
  type Access,
  type AccessStep,
  type Attestation,
  accessBytes,
  accessesOf,
  actionsOf,
  contentBytes,
  type EventKind,
  type Evidence,
  type Exhaustiveness,
  eventKinds,
  fileOffsetAt,
  guestActors,
  type HostResult,
  hostActors,
  type Observations,
  type Proposal,
  type RunResult,
  type Scenario,
  type StopReason,
  type TraceEvent,
  touchOf,
  toValue,
  type Vmm,
  writtenValue,
} from "../../../../language/src/index.ts";
import { PAGE_SIZE } from "../../../../sys/src/index.ts";
import type { Engine, Support } from "../../engine.ts";
import { type Allowed, type AllowedEnd, allowedEnds } from "./allowed.ts";
import { type Backend, enablesApf, partsOf, translate } from "./translate.ts";

/** The model is of KVM on hardware: kernel mode runs natively. */
const hardware: Backend = { interpretsKernelMode: false };

/** A guest has a timer, as ours has. */
const TIMER = true;

function attestation(scenario: Scenario, proposal: Proposal): Attestation {
  const parts = partsOf(proposal);
  return {
    engine: "model",
    kernel: release(),
    kvmBackend: null,
    kvmParameters: {},
    capabilities: {},
    lapic: proposal.lapic,
    apfEnabled: parts === null || proposal.lapic === null ? null : enablesApf(parts),
    pageSize: PAGE_SIZE,
    transport: null,
    windowBytes: scenario.layout === "dax-window" ? Number(scenario.backing.size) : null,
    vm: null,
  };
}

/** The bytes that an undisturbed access sees. */
function undisturbed(scenario: Scenario, step: AccessStep): bigint {
  const { kind } = touchOf(step);
  if (kind === "store") return writtenValue(step);
  const offset = fileOffsetAt(scenario, step.offset);
  const bytes = contentBytes(scenario.backing.content, offset, accessBytes(step));
  // `mov eax, imm32`: what the code returns is its own second to fifth byte.
  return toValue(kind === "fetch" ? bytes.subarray(1, 5) : bytes);
}

function accessOf(word: string, scenario: Scenario, step: AccessStep): Access {
  switch (word) {
    case "value":
    case "stale":
      return { kind: word, value: undisturbed(scenario, step) };
    case "sigbus(BUS_MCEERR_AR)":
      return { kind: "sigbus", code: "BUS_MCEERR_AR" };
    case "sigbus(BUS_ADRERR)":
      return { kind: "sigbus", code: "BUS_ADRERR" };
    case "zero":
    case "efault":
    case "killed":
    case "hung":
    case "not-reached":
      return { kind: word };
    default:
      throw new Error(`the model says ${word} of an access`);
  }
}

function hostStepOf(word: string): HostResult {
  switch (word) {
    case "done":
    case "not-reached":
      return { kind: word };
    case "delayed":
      // The model has no clock; the only delay it knows is a lease that runs out (fs.lease-break-time).
      return { kind: "delayed", ms: 45_000 };
    case "denied":
      return { kind: "denied", errno: "EPERM" };
    default:
      throw new Error(`the model says ${word} of a host step`);
  }
}

function vmmOf(word: string): Vmm {
  if (word === "running") return { kind: "running" };
  // Turns of a loop take no time in the model.
  if (word === "looping") return { kind: "looping", faultsPerSecond: 0, at: null };
  const reason = /^stopped\((.+)\)$/.exec(word)?.[1];
  return { kind: "stopped", reason: (reason ?? "internal-error") as StopReason, at: null };
}

function observationsOf(scenario: Scenario, { words, full }: AllowedEnd): Observations {
  const word = (name: string, label: string): string =>
    full[`${name}.${label}`] ?? words.steps[`${name}.${label}`] ?? "";
  return {
    accesses: Object.fromEntries(
      guestActors(scenario).map(([name, actor]) => [
        name,
        Object.fromEntries(
          accessesOf(actor).map(({ label, step }) => [label, accessOf(word(name, label), scenario, step)]),
        ),
      ]),
    ),
    host: Object.fromEntries(
      hostActors(scenario).map(([name, actor]) => [
        name,
        Object.fromEntries(actionsOf(actor).map(({ label }) => [label, hostStepOf(word(name, label))])),
      ]),
    ),
    vmm: words.vmm === null ? null : [vmmOf(words.vmm)],
    guestKernel: words.guestKernel as Observations["guestKernel"],
    bystanders: words.bystanders as Observations["bystanders"],
  };
}

function isEventKind(kind: string): kind is EventKind {
  return (eventKinds as readonly string[]).includes(kind);
}

/** The story of one end. Time is the number of the step. */
function traceOf(scenario: Scenario, proposal: Proposal, end: AllowedEnd): TraceEvent[] {
  const translation = translate(scenario, proposal, hardware, end.timer);
  if (translation.kind === "no") return [];
  const { steps } = replay(guestModel(translation.case).model, parseToken(end.token));
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

/** Explored once, whether asked for support or for a run. A scenario's hash stands for its text. */
const explored = new Map<string, Allowed>();

function endsOf(scenario: Scenario, proposal: Proposal): Allowed {
  const key = `${scenario.hash} ${proposal.id}`;
  const known = explored.get(key);
  if (known !== undefined) return known;
  const allowed = allowedEnds(scenario, proposal, hardware, { timers: [TIMER] });
  explored.set(key, allowed);
  return allowed;
}

function run(scenario: Scenario, proposal: Proposal): RunResult {
  const beganMs = performance.now();
  const allowed = endsOf(scenario, proposal);
  if (allowed.kind === "unsupported") return { kind: "engine-error", message: allowed.reason };
  const [end] = allowed.ends;
  if (end === undefined) return { kind: "engine-error", message: `no end found within ${allowed.boundedBy}` };
  const trace = traceOf(scenario, proposal, end);
  const evidence: Evidence = {
    attestation: attestation(scenario, proposal),
    observations: observationsOf(scenario, end),
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

function supports(scenario: Scenario, proposal: Proposal): Support {
  if (scenario.needs.length > 0) {
    return { kind: "no", reason: `the model has no capabilities (${scenario.needs.join(", ")})`, fix: null };
  }
  if (scenario.nmi !== undefined) {
    const fix = `daxfault explore ${proposal.id} --scenario ${scenario.id}`;
    return { kind: "no", reason: "in the model the NMI may also not come: no run of one story", fix };
  }
  const allowed = endsOf(scenario, proposal);
  if (allowed.kind === "unsupported") return { kind: "no", reason: allowed.reason, fix: null };
  if (allowed.ends.length < 2) return { kind: "yes" };
  const fix = `daxfault explore ${proposal.id} --scenario ${scenario.id}`;
  return {
    kind: "no",
    reason: `its interleavings end in ${allowed.ends.length} ways, the judge takes one`,
    fix,
  };
}

export const modelEngine: Engine = {
  name: "model",
  describe: () =>
    "every interleaving of a deterministic model of KVM, guest kernel, host mm and guards; nothing is real",
  available: async () => ({ kind: "yes" }),
  supports,
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
  }),
  open: async () => {},
  run: async (scenario, proposal) => run(scenario, proposal),
  close: async () => {},
};
