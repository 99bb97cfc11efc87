/**
 * The columns of the scorecard, each decided by a function from a case's evidence to yes or no.
 * Apart from verdicts: a property can be false exactly as expected. A case decides the properties that its scenario
 * names; what no case decides is unknown, never guessed.
 */
import type { EngineNature, Evidence } from "../evidence.ts";
import { type PropertyId, propertyRows } from "../properties.ts";
import { isAccess, type Touch, touchOf } from "../scenario/guest-verbs.ts";
import { accessesOf, guestActors } from "../scenario/labels.ts";
import { lossEver, zerosAt } from "../scenario/losses.ts";
import type { Scenario } from "../scenario/scenario.ts";
import { fileOffsetAt } from "../scenario/window.ts";
import type { Access, Vmm } from "../vocabulary.ts";

/** yes and no are decisions; unknown: this case does not decide. */
export type Finding = "yes" | "no" | "unknown";

export type Property = {
  readonly id: string;
  /** One line. */
  readonly title: string;
  /** null: nothing that can be run today decides it. */
  readonly decide: ((scenario: Scenario, evidence: Evidence, nature: EngineNature) => Finding) | null;
};

/** The outcomes of the guest's accesses, with the kind of access: in the order of the scenario's actors. */
function accessList(scenario: Scenario, evidence: Evidence): readonly { touch: Touch; access: Access }[] {
  const list: { touch: Touch; access: Access }[] = [];
  for (const [name, actor] of guestActors(scenario)) {
    for (const { label, step } of accessesOf(actor)) {
      const access = evidence.observations.accesses[name]?.[label];
      if (access !== undefined) list.push({ touch: touchOf(step), access });
    }
  }
  return list;
}

function sawAny(scenario: Scenario, evidence: Evidence, kinds: readonly Access["kind"][]): boolean {
  return accessList(scenario, evidence).some(({ access }) => kinds.includes(access.kind));
}

function vmmHistory(evidence: Evidence): readonly Vmm[] {
  return evidence.observations.vmm ?? [];
}

function isLooping(evidence: Evidence): boolean {
  return vmmHistory(evidence).some((vmm) => vmm.kind === "looping");
}

function terminates(scenario: Scenario, evidence: Evidence): Finding {
  return isLooping(evidence) || sawAny(scenario, evidence, ["hung"]) ? "no" : "yes";
}

/** Only the task that touched the page may suffer. Decided by what happened to others: the VM, and tasks that count. */
function contained(_scenario: Scenario, evidence: Evidence): Finding {
  const bystanders = Object.values(evidence.observations.bystanders);
  if (vmmHistory(evidence).some((vmm) => vmm.kind === "stopped" || vmm.kind === "killed")) return "no";
  if (bystanders.includes("starved")) return "no";
  return bystanders.length > 0 ? "yes" : "unknown";
}

/** Did the failure surface at the very access, so that it could be reported to the task? */
function isReported(access: Access, evidence: Evidence, { isReal }: EngineNature): Finding {
  switch (access.kind) {
    case "sigbus":
    case "efault":
      return "yes";
    case "hung":
      return "no";
    case "killed": {
      const stop = vmmHistory(evidence).find((vmm) => vmm.kind === "stopped");
      // A place is known only where KVM_RUN left the vCPU at the instruction. MMIO is no report of a failure:
      // it asks the VMM for the bytes of a device.
      const precise = stop?.kind === "stopped" && ["efault", "memory-fault"].includes(stop.reason);
      // A model has no addresses: its vCPU stops at the access by construction.
      const isPlaced = stop?.kind === "stopped" && (stop.at !== null || !isReal);
      return precise && isPlaced ? "yes" : "no";
    }
    case "value":
    case "zero":
    case "stale":
    case "not-reached":
      return "unknown";
  }
}

/**
 * Precise for accesses of these kinds by a task's own instruction: every one that failed was reported. Those to its own
 * stack are none of them: SIGBUS cannot be delivered to a stack that is gone.
 */
function precise(kinds: readonly Touch["kind"][]) {
  return (scenario: Scenario, evidence: Evidence, nature: EngineNature): Finding => {
    const findings = accessList(scenario, evidence)
      .filter(
        ({ touch }) => touch.by === "task" && touch.instruction !== "stack" && kinds.includes(touch.kind),
      )
      .map(({ access }) => isReported(access, evidence, nature));
    if (findings.includes("no")) return "no";
    return findings.includes("yes") ? "yes" : "unknown";
  };
}

const anyKind = ["load", "store", "atomic", "fetch"] as const;

/** The kernel's own access fails with an error that it can handle, and the kernel lives. */
function kernelAccess(scenario: Scenario, evidence: Evidence): Finding {
  const state = evidence.observations.guestKernel;
  const isKernel = guestActors(scenario).some(
    ([, { in: place, steps }]) =>
      place === "guest-kernel" || steps.some((step) => isAccess(step) && touchOf(step).by === "kernel"),
  );
  if (!isKernel) return "unknown";
  if (state === "panic" || sawAny(scenario, evidence, ["killed", "hung"])) return "no";
  if (sawAny(scenario, evidence, ["efault"])) return "yes";
  // Every page was there: nothing failed, nothing is decided.
  return sawAny(scenario, evidence, ["zero", "stale", "sigbus"]) ? "no" : "unknown";
}

/** Of several tasks, exactly those that touched a lost page get a report: each task's last access decides. */
function rightVictim(scenario: Scenario, evidence: Evidence): Finding {
  const tasks = guestActors(scenario).filter(([, actor]) => accessesOf(actor).length > 0);
  return tasks.length < 2 ? "unknown" : isEachReported(scenario, evidence);
}

/** Does each task that touched a lost page get a report, and no other? Each task's last access decides. */
function isEachReported(scenario: Scenario, evidence: Evidence): Finding {
  const tasks = guestActors(scenario).filter(([, actor]) => accessesOf(actor).length > 0);
  const findings = tasks.map(([name, actor]): Finding => {
    const last = accessesOf(actor).at(-1);
    const access = last === undefined ? undefined : evidence.observations.accesses[name]?.[last.label];
    if (last === undefined || access === undefined) return "no";
    const loss = lossEver(scenario, fileOffsetAt(scenario, last.step.offset));
    const wasReported = access.kind === "sigbus" || access.kind === "efault";
    const sawFile = access.kind === "value";
    if (loss === "unknown") return wasReported || sawFile ? "unknown" : "no";
    return (loss === "lost" ? wasReported : sawFile) ? "yes" : "no";
  });
  if (findings.includes("no")) return "no";
  return findings.includes("unknown") ? "unknown" : "yes";
}

/**
 * Stale bytes never were an answer. Zeros are one where the file holds them; they are silent damage where no page can be had.
 */
function noSilentData(scenario: Scenario, evidence: Evidence): Finding {
  const findings = guestActors(scenario).flatMap(([name, actor]) =>
    accessesOf(actor).map(({ label, step }): Finding => {
      const kind = evidence.observations.accesses[name]?.[label]?.kind;
      if (kind === "stale") return "no";
      if (kind !== "zero") return "yes";
      const zeros = zerosAt(scenario, fileOffsetAt(scenario, step.offset));
      return zeros === "held" ? "yes" : zeros === "silent" ? "no" : "unknown";
    }),
  );
  if (findings.includes("no")) return "no";
  return findings.includes("unknown") ? "unknown" : "yes";
}

/** The truncating process is neither held up nor refused, and no core burns on after it. */
function hostUnharmed(_scenario: Scenario, evidence: Evidence): Finding {
  const steps = Object.values(evidence.observations.host).flatMap((actor) => Object.values(actor));
  if (steps.some((step) => step.kind === "delayed" || step.kind === "denied")) return "no";
  return isLooping(evidence) ? "no" : "yes";
}

/** The file grew again: did the access that had failed come through? */
function reversible(scenario: Scenario, evidence: Evidence): Finding {
  const last = accessList(scenario, evidence).at(-1)?.access.kind;
  if (last === undefined) return "unknown";
  return last === "value" || last === "zero" ? "yes" : "no";
}

/** An access waited for I/O and came through: did the tasks beside it get on meanwhile? */
function keepsApf(_scenario: Scenario, evidence: Evidence): Finding {
  const bystanders = Object.values(evidence.observations.bystanders);
  if (bystanders.includes("starved")) return "no";
  return bystanders.length > 0 ? "yes" : "unknown";
}

/** With an NMI between delivery and reading: each task's last access is what it would be without. */
function nmiSafe(scenario: Scenario, evidence: Evidence): Finding {
  return scenario.nmi === undefined ? "unknown" : isEachReported(scenario, evidence);
}

/** The task of a nested guest gets a report, and the tasks beside it make progress. */
function nested(scenario: Scenario, evidence: Evidence): Finding {
  const isNested = guestActors(scenario).some(([, actor]) => actor.in === "guest-task" && actor.nested);
  if (!isNested) return "unknown";
  const bystanders = Object.values(evidence.observations.bystanders);
  const isWell = evidence.observations.guestKernel === "alive" && !bystanders.includes("starved");
  return isWell ? isEachReported(scenario, evidence) : "no";
}

const deciders: Readonly<Record<PropertyId, Property["decide"]>> = {
  terminates: terminates,
  contained: contained,
  "right-victim": rightVictim,
  "precise-load": precise(["load"]),
  "precise-store": precise(["store", "atomic"]),
  "kernel-access": kernelAccess,
  "no-silent-data": noSilentData,
  "host-truncation": precise(anyKind),
  "host-unharmed": hostUnharmed,
  reversible: reversible,
  "nmi-safe": nmiSafe,
  nested: nested,
  "any-backing": precise(anyKind),
  "keeps-apf": keepsApf,
  "any-cpu": null,
};

/** In the order of the scorecard's columns. */
export const properties: readonly Property[] = propertyRows.map((row) => ({
  ...row,
  decide: deciders[row.id],
}));
