/**
 * The columns of the scorecard, each decided by a function from one ending of a case to yes or no: the ending of a real
 * run, or one that the model allows. Apart from verdicts: a property can be false exactly as expected. A case decides the
 * properties that its scenario names; what no case decides is unknown, never guessed.
 */
import { type PropertyId, propertyRows } from "../properties.ts";
import type { Proposal } from "../proposal.ts";
import {
  type AccessStep,
  isAboutBytes,
  isAccess,
  type LinuxCall,
  type Touch,
  touchOf,
} from "../scenario/guest-verbs.ts";
import { actOf, isAction } from "../scenario/host-verbs.ts";
import {
  accessesOf,
  type GuestActor,
  guestActors,
  hostActors,
  isNested,
  type Labelled,
} from "../scenario/labels.ts";
import { lossEver, zerosAt } from "../scenario/losses.ts";
import type { Scenario } from "../scenario/scenario.ts";
import { fileOffsetAt } from "../scenario/window.ts";
import type { AccessKind, AccessWord, VmmWord } from "../vocabulary.ts";
import type { Ending } from "./ending.ts";

/** yes and no are decisions; unknown: this ending does not decide. */
export type Finding = "yes" | "no" | "unknown";

/** One ending of a case, and the parts of the case on which its meaning depends. */
export type Decidable = {
  readonly scenario: Scenario;
  readonly proposal: Proposal;
  readonly ending: Ending;
};

type Decide = (decidable: Decidable) => Finding;

export type Property = {
  readonly id: string;
  /** One line. */
  readonly title: string;
  /** null: nothing that can be run today decides it. */
  readonly decide: Decide | null;
  /** Must every ending of a case have it, or is one enough? What comes back once the VMM gets round to it is `some`. */
  readonly quantifier: "every" | "some";
};

type Touched = {
  readonly touch: Touch | LinuxCall;
  readonly access: AccessWord;
  readonly fileOffset: bigint;
};

/** The outcomes of the guest's accesses to bytes, with the kind of access: in the order of the scenario's actors. */
function accessList({ scenario, ending }: Decidable): readonly Touched[] {
  return guestActors(scenario).flatMap(([name, actor]) =>
    accessesOf(actor).flatMap(({ label, step }) => {
      const access = ending.outcome.accesses[name]?.[label];
      if (access === undefined || !isAboutBytes(step)) return [];
      return [{ touch: touchOf(step), access, fileOffset: fileOffsetAt(scenario, step.offset) }];
    }),
  );
}

/** Of all accesses. */
function sawAny({ ending }: Decidable, kinds: readonly AccessKind[]): boolean {
  return Object.values(ending.outcome.accesses).some((labels) =>
    Object.values(labels).some(({ kind }) => kinds.includes(kind)),
  );
}

function vmmHistory({ outcome }: Ending): readonly VmmWord[] {
  return outcome.vmm ?? [];
}

function isLooping(ending: Ending): boolean {
  return vmmHistory(ending).some(({ kind }) => kind === "looping");
}

function bystandersOf({ outcome }: Ending): readonly string[] {
  return Object.values(outcome.bystanders);
}

/** No where one says no; yes where one says yes and none leaves it open. */
function allOf(findings: readonly Finding[]): Finding {
  if (findings.includes("no")) return "no";
  return findings.length > 0 && !findings.includes("unknown") ? "yes" : "unknown";
}

function terminates(decidable: Decidable): Finding {
  return isLooping(decidable.ending) || sawAny(decidable, ["hung"]) ? "no" : "yes";
}

/**
 * The VM lives on, and its other tasks make the progress that they would have made. A vCPU that spins or waits to the end
 * is not contained, whoever else gets on: it is lost to the guest.
 */
function contained({ ending }: Decidable): Finding {
  const history = vmmHistory(ending);
  if (history.some(({ kind }) => kind === "stopped" || kind === "killed")) return "no";
  const last = history.at(-1)?.kind;
  if (last === "looping" || last === "waiting" || ending.outcome.guestKernel === "panic") return "no";
  const bystanders = bystandersOf(ending);
  if (bystanders.includes("starved")) return "no";
  return bystanders.length > 0 ? "yes" : "unknown";
}

/**
 * Did the failure surface at the very access, so that it could be reported to the task? SIGSEGV is none: mmap(2) promises
 * SIGBUS for a page behind the end of its file, and a task that handles that is not told. Nor is SIGBUS with SI_KERNEL: it
 * has no address, so nothing says which access failed.
 */
function isReported(access: AccessWord, ending: Ending): Finding {
  switch (access.kind) {
    case "sigbus":
      return access.code === "SI_KERNEL" ? "no" : "yes";
    case "efault":
    case "errno":
    case "short":
      return "yes";
    case "hung":
    case "sigsegv":
      return "no";
    case "killed": {
      const stop = vmmHistory(ending).find((vmm) => vmm.kind === "stopped");
      // MMIO is no report of a failure: it asks the VMM for the bytes of a device.
      const isError = stop?.kind === "stopped" && ["efault", "memory-fault"].includes(stop.reason);
      return isError && ending.exitAt === "access" ? "yes" : "no";
    }
    case "value":
    case "zero":
    case "stale":
    case "done":
    case "not-reached":
      return "unknown";
  }
}

/**
 * Precise for accesses of these kinds by a task's own instruction: every one that failed was reported. Those to its own
 * stack are none of them: SIGBUS cannot be delivered to a stack that is gone.
 */
function precise(kinds: readonly (Touch | LinuxCall)["kind"][]): Decide {
  return (decidable) => {
    const findings = accessList(decidable)
      .filter(
        ({ touch }) => touch.by === "task" && touch.instruction !== "stack" && kinds.includes(touch.kind),
      )
      .map(({ access }) => isReported(access, decidable.ending));
    if (findings.includes("no")) return "no";
    return findings.includes("yes") ? "yes" : "unknown";
  };
}

const anyKind = ["load", "store", "atomic", "fetch"] as const;

/** The kernel's own access fails with an error that it can handle, and the kernel lives. */
function kernelAccess(decidable: Decidable): Finding {
  const { scenario, ending } = decidable;
  const isKernel = guestActors(scenario).some(
    ([, { in: place, steps }]) =>
      place === "guest-kernel" || steps.some((step) => isAccess(step) && touchOf(step).by === "kernel"),
  );
  if (!isKernel) return "unknown";
  if (ending.outcome.guestKernel === "panic" || sawAny(decidable, ["killed", "hung", "sigsegv"])) return "no";
  if (sawAny(decidable, ["efault", "errno"])) return "yes";
  // Every page was there, or the call ended where the file does: nothing failed, nothing is decided.
  const isWrong = accessList(decidable).some(({ access }) =>
    ["zero", "stale", "sigbus"].includes(access.kind),
  );
  return isWrong ? "no" : "unknown";
}

function byteAccessesOf(actor: GuestActor): readonly Labelled<AccessStep>[] {
  return accessesOf(actor).filter(({ step }) => isAboutBytes(step));
}

/** Of several tasks, exactly those that touched a lost page get a report: each task's last access decides. */
function rightVictim(decidable: Decidable): Finding {
  const tasks = guestActors(decidable.scenario).filter(([, actor]) => byteAccessesOf(actor).length > 0);
  return tasks.length < 2 ? "unknown" : isEachReported(decidable);
}

/** Words of an access that failed and told its task so in the way that a lost page is promised to. */
const reportedWords: readonly AccessKind[] = ["sigbus", "efault", "errno", "short"];

/** Does each task that touched a lost page get a report, and no other? Each task's last access decides. */
function isEachReported({ scenario, ending }: Decidable): Finding {
  const tasks = guestActors(scenario).filter(([, actor]) => byteAccessesOf(actor).length > 0);
  return allOf(
    tasks.map(([name, actor]): Finding => {
      const last = byteAccessesOf(actor).at(-1);
      const access = last === undefined ? undefined : ending.outcome.accesses[name]?.[last.label];
      if (last === undefined || access === undefined) return "no";
      const loss = lossEver(scenario, fileOffsetAt(scenario, last.step.offset));
      const wasReported = reportedWords.includes(access.kind);
      const sawFile = access.kind === "value";
      if (loss === "unknown") return wasReported || sawFile ? "unknown" : "no";
      return (loss === "lost" ? wasReported : sawFile) ? "yes" : "no";
    }),
  );
}

/**
 * Stale bytes never were an answer. Zeros are one where the file holds them; they are silent damage where no page can be had.
 */
function noSilentData(decidable: Decidable): Finding {
  return allOf(
    accessList(decidable).map(({ access, fileOffset }): Finding => {
      if (access.kind === "stale") return "no";
      if (access.kind !== "zero") return "yes";
      const zeros = zerosAt(decidable.scenario, fileOffset);
      return zeros === "held" ? "yes" : zeros === "silent" ? "no" : "unknown";
    }),
  );
}

/** The truncating process is neither held up for longer than the bound of a run, nor refused; no core burns on after it. */
function hostUnharmed({ ending }: Decidable): Finding {
  const steps = Object.values(ending.outcome.host).flatMap((actor) => Object.values(actor));
  if (steps.some(({ kind }) => kind === "delayed" || kind === "denied" || kind === "killed")) return "no";
  return isLooping(ending) ? "no" : "yes";
}

/** Does the host store bytes at that offset? Then a page of zeros there is not the file's. */
function isStoredTo(scenario: Scenario, fileOffset: bigint): boolean {
  return hostActors(scenario).some(([, actor]) =>
    actor.steps.some((step) => {
      const range = isAction(step) ? actOf(step).rewrites?.(step, scenario.backing.size) : undefined;
      return range !== undefined && fileOffset >= range.from && fileOffset < range.to;
    }),
  );
}

/**
 * The file has grown again: does the last access see its bytes? A VMM that maps zeros of its own is told from the file by
 * bytes that the host stores. A VM that has stopped does not go on by itself.
 */
function reversible(decidable: Decidable): Finding {
  const { scenario, proposal, ending } = decidable;
  const last = accessList(decidable).at(-1);
  if (last === undefined) return "unknown";
  if (vmmHistory(ending).some(({ kind }) => kind === "stopped")) return "no";
  if (last.access.kind === "value") return "yes";
  if (last.access.kind !== "zero" || isStoredTo(scenario, last.fileOffset)) return "no";
  return proposal.vmm === "remap-zero" ? "unknown" : "yes";
}

/** An access waited for I/O and came through: did the tasks beside it get on meanwhile? A VM that has stopped says nothing of that. */
function keepsApf({ ending }: Decidable): Finding {
  if (vmmHistory(ending).some(({ kind }) => kind === "stopped")) return "unknown";
  const bystanders = bystandersOf(ending);
  if (bystanders.includes("starved")) return "no";
  return bystanders.length > 0 ? "yes" : "unknown";
}

/** With an NMI between delivery and reading: each task's last access is what it would be without, and the kernel lives. */
function nmiSafe(decidable: Decidable): Finding {
  const { scenario, ending } = decidable;
  if (scenario.nmi === undefined || !ending.nmi) return "unknown";
  return ending.outcome.guestKernel === "panic" ? "no" : isEachReported(decidable);
}

/** The task of a nested guest meets a lost page: it gets a report, and the tasks beside it make progress. */
function nested(decidable: Decidable): Finding {
  const { scenario, ending } = decidable;
  if (!isNested(scenario) || ending.metLostPage === false) return "unknown";
  const isWell = ending.outcome.guestKernel === "alive" && !bystandersOf(ending).includes("starved");
  return isWell ? isEachReported(decidable) : "no";
}

/** Words of an access that met a page that no mapping leads to any more, and no guard had taken away. */
const metWords: readonly AccessKind[] = ["sigbus", "sigsegv", "efault", "killed", "hung"];

/**
 * No access ever meets a lost page that is still mapped: the guard took the mapping away before the file got shorter, or
 * refused the truncation. A notification comes after the fact: that it was in time once proves nothing.
 */
function prevented(decidable: Decidable): Finding {
  const { scenario, proposal, ending } = decidable;
  const isLost = accessList(decidable).some(({ fileOffset }) => lossEver(scenario, fileOffset) === "lost");
  if (!isLost) return "unknown";
  if (ending.metLostPage !== null) return ending.metLostPage ? "no" : "yes";
  const host = Object.values(ending.outcome.host).flatMap((actor) => Object.values(actor));
  const last = vmmHistory(ending).at(-1)?.kind ?? "running";
  if (isLooping(ending) || last !== "running") return "no";
  if (host.some(({ kind }) => kind === "denied")) return "yes";
  if (ending.wasRecalled) return proposal.server === "notify" ? "unknown" : "yes";
  return sawAny(decidable, metWords) ? "no" : "unknown";
}

const deciders: Readonly<Record<PropertyId, Decide | null>> = {
  terminates,
  contained,
  "right-victim": rightVictim,
  "precise-load": precise(["load"]),
  "precise-store": precise(["store", "atomic"]),
  "kernel-access": kernelAccess,
  "no-silent-data": noSilentData,
  "host-truncation": precise(anyKind),
  "host-unharmed": hostUnharmed,
  prevented,
  reversible,
  "nmi-safe": nmiSafe,
  nested,
  "any-backing": precise(anyKind),
  "keeps-apf": keepsApf,
  "any-cpu": null,
};

/** In the order of the scorecard's columns. */
export const properties: readonly Property[] = propertyRows.map((row) => ({
  ...row,
  decide: deciders[row.id],
  quantifier: row.id === "reversible" ? "some" : "every",
}));

/** The answer of a case, by its endings. */
export type CaseFinding = {
  /** By the property's quantifier: one ending without it is enough for no, or one with it for yes. */
  readonly finding: Finding;
  /** All answers of its endings; what a real run of the case showed has to be among them. */
  readonly possible: ReadonlySet<Exclude<Finding, "unknown">>;
  /** The ending that decided: the first with the finding. */
  readonly ending: Ending | null;
};

export type DecidableCase = Omit<Decidable, "ending"> & { readonly endings: readonly Ending[] };

/** What the case says of the property. */
export function findingOf(
  { decide, quantifier }: Property,
  { scenario, proposal, endings }: DecidableCase,
): CaseFinding {
  const decided = endings.map((ending) => ({
    ending,
    finding: decide?.({ scenario, proposal, ending }) ?? "unknown",
  }));
  const first = (word: Finding): (typeof decided)[number] | undefined =>
    decided.find(({ finding }) => finding === word);
  const chosen = quantifier === "every" ? (first("no") ?? first("yes")) : (first("yes") ?? first("no"));
  return {
    finding: chosen?.finding ?? "unknown",
    possible: new Set(decided.flatMap(({ finding }) => (finding === "unknown" ? [] : [finding]))),
    ending: chosen?.ending ?? null,
  };
}
