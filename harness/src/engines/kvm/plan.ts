/**
 * From a scenario and a proposal to what the VM process does: guest programs with addresses, signal numbers, the
 * machine's set-up. Pure; refuses a case that this engine cannot run.
 */

import {
  allAccesses,
  enablesApf,
  fileCallOf,
  type GuestPersona,
  guestActors,
  guestPersonas,
  type Layout,
  mappingsOf,
  type NmiVariant,
  type Proposal,
  type Scenario,
  STUCK,
  signalNames,
  touchOf,
  type VmmStep,
  type WindowMapping,
} from "../../../../language/src/index.ts";
import { MAX_WINDOW_BYTES, type PolicyName } from "../../../../vmm/src/index.ts";
import type { Support } from "../../engine.ts";
import { type GuestTask, guestTasks, windowBytesOf } from "../guest-program.ts";
import { sealedReason } from "../sealed.ts";
import type { GuardPlan } from "./guard.ts";

/** Everything the VM process gets. Plain data: it crosses a process border. */
export type VmPlan = {
  readonly layout: Layout;
  readonly filePath: string;
  readonly sourceDirectory: string;
  readonly mappings: readonly WindowMapping[];
  readonly windowBytes: number;
  /** Mapped MAP_PRIVATE, and nothing of it in memory when the guest begins. */
  readonly privateSwapped: boolean;
  readonly machine: {
    readonly lapicInKernel: boolean;
    readonly hltInGuest: boolean;
    readonly asyncPageFaults: GuestPersona["asyncPageFaults"];
    readonly nmiIsSigbus: boolean;
    readonly pageFaultIsError: boolean;
    readonly pageReadyErrors: boolean;
    readonly sleepsLate: boolean;
    readonly nmi: NmiVariant | "off";
    readonly machineCheckSafe: "none" | "reads" | "all";
    readonly policy: PolicyName;
  };
  /** The guard that reports truncations to the window's owner; null: none. */
  readonly guard: GuardPlan | null;
  /** Watch the file and take away from the guest what its end has left behind. */
  readonly fence: boolean;
  /** Guest tasks in the order of the scenario. */
  readonly tasks: readonly GuestTask[];
  /** Number = index. */
  readonly signals: readonly string[];
  readonly vmmActors: readonly { readonly actor: string; readonly steps: readonly VmmStep[] }[];
  /** An actor awaits `stuck`, so the case does not end there. */
  readonly stuckIsAwaited: boolean;
  /** The guest may run no longer than this. */
  readonly lifeMs: number;
  /** `CaseContext.slowness`. */
  readonly slowness: number;
  /** No page's I/O takes longer. */
  readonly ioPatienceMs: number;
  /** No READ stays without an answer. */
  readonly isIoAnswered: boolean;
  /** Nor beyond this moment (`monotonicMs`), however late it was started. */
  readonly latestEndMs: number;
};

const yes: Support = { kind: "yes" };
const no = (reason: string, fix: string | null = null): Support => ({ kind: "no", reason, fix });

/** Which axis values this engine can carry out, machine features aside. */
export function supportsProposal(proposal: Proposal): Support {
  if (proposal.lapic === null) return no("the proposal has no VM");
  if (proposal.kvm !== "today") return no(`kvm=${proposal.kvm} is in no kernel that this engine can ask`);
  if (proposal.vmm === "none") return no("the proposal has no VMM");
  if (proposal.guest === "none") return no("the proposal has no guest");
  return yes;
}

/** Some pairs would show nothing. */
export function supportsPair(scenario: Scenario, proposal: Proposal): Support {
  const fetches = allAccesses(scenario).some((step) => touchOf(step).kind === "fetch");
  if (fetches && proposal.vmm === "remap-zero") {
    return no("with zeros in place of its code the guest executes whatever zeros mean: no observation");
  }
  const call = fileCallOf(scenario);
  if (call !== null) return no(`${call} is a system call on a file; the micro-guest has none`);
  const nested = guestActors(scenario).find(([, actor]) => actor.in === "guest-task" && actor.nested);
  if (nested !== undefined) return no(`${nested[0]} runs in a guest's guest; the micro-guest has none`);
  const reachesOriginal = sealedReason(scenario, proposal.server);
  if (reachesOriginal !== null) return no(reachesOriginal);
  return yes;
}

/** Can this VMM run the case, on whatever machine? */
export function supportsAnywhere(scenario: Scenario, proposal: Proposal): Support {
  const proposed = supportsProposal(proposal);
  return proposed.kind === "no" ? proposed : supportsPair(scenario, proposal);
}

export type PlanPlace = Pick<
  VmPlan,
  "filePath" | "sourceDirectory" | "lifeMs" | "slowness" | "ioPatienceMs" | "latestEndMs"
> & {
  readonly leaseSocket: string | null;
};

export function planCase(scenario: Scenario, proposal: Proposal, place: PlanPlace): VmPlan {
  const { leaseSocket, ...files } = place;
  const signals = signalNames(scenario);
  const mappings = mappingsOf(scenario);
  const windowBytes = windowBytesOf(scenario);
  if (windowBytes > MAX_WINDOW_BYTES)
    throw new RangeError(`window of ${windowBytes} bytes: at most ${MAX_WINDOW_BYTES}`);
  const actors = Object.entries(scenario.actors);
  const persona = guestPersonas[proposal.guest];
  return {
    ...files,
    isIoAnswered: !(scenario.backing.mount?.faults ?? []).some(({ action }) => action.kind === "hang"),
    layout: scenario.layout,
    mappings,
    windowBytes,
    privateSwapped: scenario.backing.kind === "private-swapped",
    machine: {
      lapicInKernel: proposal.lapic === "kernel",
      hltInGuest: proposal.exits === "hlt-in-guest",
      asyncPageFaults: enablesApf(proposal) ? persona.asyncPageFaults : "off",
      // Elsewhere an NMI is none of the VMM's reports.
      nmiIsSigbus: proposal.vmm === "nmi" && persona.pageFaultIsError,
      pageFaultIsError: persona.pageFaultIsError,
      pageReadyErrors: persona.pageReadyErrors,
      sleepsLate: false,
      nmi: scenario.nmi ?? "off",
      machineCheckSafe: persona.machineCheckSafe,
      policy: proposal.vmm === "none" ? "stop" : proposal.vmm,
    },
    guard: proposal.server === "none" ? null : { name: proposal.server, leaseSocket },
    fence: proposal.exits === "fence",
    tasks: guestTasks(scenario),
    signals,
    vmmActors: actors.flatMap(([actor, one]) => (one.in === "vmm" ? [{ actor, steps: one.steps }] : [])),
    stuckIsAwaited: actors.some(([, { steps }]) =>
      steps.some((step) => step.verb === "await" && step.name === STUCK),
    ),
  };
}
