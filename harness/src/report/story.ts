/** One case in plain sentences: its set-up, the actors' steps in order, what was expected and what was seen. */
import {
  type Actor,
  accessesOf,
  accessText,
  actionsOf,
  type Evidence,
  type Expectation,
  type FaultPlace,
  faultText,
  guestActors,
  hex,
  hostActors,
  hostResultText,
  type Scenario,
  sizeText,
  stepText,
  type TraceEvent,
  userfaultRuleText,
  vmmText,
} from "../../../language/src/index.ts";
import type { CaseResult } from "../run/result.ts";

function placeOf(actor: Actor): string {
  switch (actor.in) {
    case "guest-task":
      return "guest task, CPL 3";
    case "guest-kernel":
      return "guest kernel, CPL 0";
    case "host-process":
      return actor.through === "mount" ? "host process, through the FUSE mount" : "host process";
    case "vmm":
      return "VMM";
  }
}

const backings = {
  "host-file": "a file",
  tmpfs: "a file on a tmpfs of its own",
  "tmpfs-full": "a file on a full tmpfs, its second half never allocated",
  "tmpfs-huge": "a file on a tmpfs of huge pages",
  hugetlb: "a file of huge pages (hugetlbfs), whose pool has only those of its first half",
  private: "a private mapping (MAP_PRIVATE) of a file",
  userfaultfd: "private memory, which the handler of a userfaultfd fills from a file",
  "guest-memfd": "a guest_memfd that the host has mapped as well, a copy of a file",
  "private-swapped": "a private mapping, all of it swapped out, of a file",
} as const;

/** The mapping, then each actor with its steps. */
export function setupLines(scenario: Scenario): readonly string[] {
  const { backing, layout, window, actors } = scenario;
  const lines = [`${backings[backing.kind]} of ${sizeText(backing.size)}`];
  for (const rule of backing.mount?.faults ?? [])
    lines.push(`seen through our FUSE mount, whose server does: ${faultText(rule)}`);
  if (backing.readonly) lines.push("the VMM has mapped it for reading only");
  if (backing.handler !== undefined) {
    const { faults, prefault, rules } = backing.handler;
    lines.push(`the handler gets ${faults === "all" ? "all faults" : "faults of user mode only"}`);
    if (prefault > 0n) lines.push(`before the guest it has copied ${sizeText(prefault)}`);
    for (const rule of rules) lines.push(`the handler does: ${userfaultRuleText(rule)}`);
  }
  if (layout === "nvdimm") lines.push("mapped into guest memory as a whole (NVDIMM)");
  if (layout === "virtio-fs") lines.push("shared with the guest by virtio-fs, without DAX");
  for (const { fileOffset, at, length } of window) {
    lines.push(`DAX window ${hex(at)}: ${sizeText(length)} of the file from ${hex(fileOffset)}`);
  }
  for (const [name, actor] of Object.entries(actors)) {
    lines.push(`${name} (${placeOf(actor)}): ${actor.steps.map(stepText).join("; ")}`);
  }
  return lines;
}

function placeText({ rip, cpl, gva, gpa, hva }: FaultPlace): string {
  const at = [`rip ${hex(rip)}`, `cpl ${cpl}`, `gva ${hex(gva)}`];
  if (gpa !== null) at.push(`gpa ${hex(gpa)}`);
  if (hva !== null) at.push(`hva ${hex(hva)}`);
  return at.join(", ");
}

/** Everything that was observed, a line each. */
export function seenLines(scenario: Scenario, evidence: Evidence): readonly string[] {
  const { observations } = evidence;
  const lines: string[] = [];
  for (const [name, actor] of guestActors(scenario)) {
    for (const { label, step } of accessesOf(actor)) {
      const access = observations.accesses[name]?.[label];
      lines.push(`${name}: ${stepText(step)}: ${access === undefined ? "missing" : accessText(access)}`);
    }
  }
  for (const [name, actor] of hostActors(scenario)) {
    for (const { label, step } of actionsOf(actor)) {
      const seen = observations.host[name]?.[label];
      lines.push(`${name}: ${stepText(step)}: ${seen === undefined ? "missing" : hostResultText(seen)}`);
    }
  }
  for (const [name, state] of Object.entries(observations.bystanders)) lines.push(`${name}: ${state}`);
  for (const vmm of observations.vmm ?? []) {
    const rate =
      vmm.kind === "looping" && vmm.faultsPerSecond > 0
        ? `, ${Math.round(vmm.faultsPerSecond)} faults/s`
        : "";
    const at = "at" in vmm && vmm.at !== null ? ` at ${placeText(vmm.at)}` : "";
    lines.push(`VMM: ${vmmText(vmm)}${rate}${at}`);
  }
  if (observations.guestKernel !== null) lines.push(`guest kernel: ${observations.guestKernel}`);
  return lines;
}

/** The expectation, in the same words. */
export function expectedLines(expectation: Expectation | null): readonly string[] {
  if (expectation === null) return ["nothing says what is expected of this case"];
  const { vmm, accesses, host, bystanders, events } = expectation.outcome;
  const lines = [...Object.entries(accesses), ...Object.entries(host), ...Object.entries(bystanders)].map(
    ([label, word]) => `${label}: ${word}`,
  );
  for (const [kind, word] of Object.entries(events)) lines.push(`events ${kind}: ${word}`);
  if (vmm !== undefined) lines.push(`VMM: ${vmm.join(", then ")}`);
  return [...lines, `(${expectation.rule}; everything else: value, done)`];
}

/** `+12.3 ms  host      truncate  to 0 bytes`. The model counts steps instead of time. */
export function eventLine(event: TraceEvent, unit: "ms" | "steps"): string {
  const at = unit === "ms" ? `${event.atMs.toFixed(1)} ms` : `step ${event.atMs}`;
  const gpa = event.gpa === null ? "" : ` gpa ${hex(event.gpa)}`;
  return `${at.padStart(11)}  ${event.actor.padEnd(8)}  ${event.kind}${gpa}: ${event.detail}`;
}

/** Counters that are not zero, by size. */
export function counterLines(evidence: Evidence): readonly string[] {
  return Object.entries(evidence.counters)
    .filter(([, value]) => value !== 0n)
    .sort(([, a], [, b]) => (a < b ? 1 : -1))
    .map(([name, value]) => `${name}=${value}`);
}

export function unitOf(result: Pick<CaseResult, "planned">): "ms" | "steps" {
  return result.planned.nature.isReal ? "ms" : "steps";
}
