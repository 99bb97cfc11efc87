/**
 * From a scenario and a proposal to what the VM process does: guest programs with addresses, signal numbers, the
 * machine's set-up. Pure; refuses a case that this engine cannot run.
 */

import {
  allAccesses,
  enablesApf,
  type GuestPersona,
  guestActors,
  guestPersonas,
  isMappedIntoGuest,
  linuxCallOf,
  type NmiVariant,
  type Proposal,
  type Scenario,
  touchOf,
} from "../../../../language/src/index.ts";
import { type BuiltIn, type Support, stockKernels } from "../../engine.ts";
import { supportsKvm } from "../built-in.ts";
import { sealedReason } from "../sealed.ts";
import { type CasePlan, commonPlan, type PlanPlace } from "../vm/plan.ts";

/** Everything the VM process gets. Plain data: it crosses a process border. */
export type VmPlan = CasePlan & {
  /** How the window's memory is made. */
  readonly memory: Pick<Scenario["backing"], "kind" | "readonly" | "handler">;
  readonly machine: {
    readonly lapicInKernel: boolean;
    readonly hltInGuest: boolean;
    readonly asyncPageFaults: GuestPersona["asyncPageFaults"];
    readonly nmiIsSigbus: boolean;
    readonly pageFaultIsError: boolean;
    readonly pageReadyErrors: boolean;
    readonly handsOverVeInfo: boolean;
    readonly kvmRaisesMachineChecks: boolean;
    readonly takesMachineChecks: boolean;
    readonly sleepsLate: boolean;
    readonly nmi: NmiVariant | "off";
    readonly machineCheckSafe: "none" | "reads" | "all";
  };
};

const yes: Support = { kind: "yes" };
const no = (reason: string, fix: string | null = null): Support => ({ kind: "no", reason, fix });

/** Which axis values this engine can carry out, machine features aside. */
export function supportsProposal(proposal: Proposal, builtIn: BuiltIn = stockKernels): Support {
  if (proposal.lapic === null) return no("the proposal has no VM");
  const kvm = supportsKvm(builtIn.kvm, proposal);
  if (kvm.kind === "no") return kvm;
  if (proposal.vmm === "none") return no("the proposal has no VMM");
  if (proposal.guest === "none") return no("the proposal has no guest");
  return yes;
}

/** Some pairs would show nothing. */
export function supportsPair(scenario: Scenario, proposal: Proposal): Support {
  const fetches = allAccesses(scenario).some((step) => touchOf(step).kind === "fetch");
  if (fetches && proposal.vmm === "remap-zero") {
    return no("remap-zero replaces the code page with zeros: what the guest executes then is undefined");
  }
  if (!isMappedIntoGuest(scenario.layout)) {
    return no(`layout ${scenario.layout} is about a guest's page cache; the micro-guest has none`);
  }
  if (proposal.server !== "none" || proposal.exits === "fence") {
    const { kind } = scenario.backing;
    if (kind === "userfaultfd")
      return no(
        "who watches the file learns nothing of a page that the handler of a userfaultfd does not fill",
      );
    if (kind === "guest-memfd") return no("who watches the file learns nothing of a guest_memfd");
  }
  const call = linuxCallOf(scenario);
  if (call !== null) return no(`${call} is a system call that the micro-guest has not`);
  if (scenario.backing.cache !== undefined) {
    return no("the micro-guest is no client of a file server: it holds no attributes");
  }
  const nested = guestActors(scenario).find(([, actor]) => actor.in === "guest-task" && actor.nested);
  if (nested !== undefined) return no(`${nested[0]} runs in a guest's guest; the micro-guest has none`);
  const reachesOriginal = sealedReason(scenario, proposal.server);
  if (reachesOriginal !== null) return no(reachesOriginal);
  return yes;
}

/** Can this VMM run the case, on whatever machine? */
export function supportsAnywhere(scenario: Scenario, proposal: Proposal, builtIn?: BuiltIn): Support {
  const proposed = supportsProposal(proposal, builtIn);
  return proposed.kind === "no" ? proposed : supportsPair(scenario, proposal);
}

export function planCase(scenario: Scenario, proposal: Proposal, place: PlanPlace): VmPlan {
  const persona = guestPersonas[proposal.guest];
  return {
    ...commonPlan(scenario, proposal, place),
    memory: scenario.backing,
    machine: {
      lapicInKernel: proposal.lapic === "kernel",
      hltInGuest: proposal.exits === "hlt-in-guest",
      asyncPageFaults: enablesApf(proposal) ? persona.asyncPageFaults : "off",
      // Elsewhere an NMI is none of the VMM's reports.
      nmiIsSigbus: proposal.vmm === "nmi" && persona.pageFaultIsError,
      pageFaultIsError: persona.pageFaultIsError,
      pageReadyErrors: persona.pageReadyErrors,
      handsOverVeInfo: proposal.kvm === "inject-ve" && persona.understandsVe,
      kvmRaisesMachineChecks: proposal.kvm === "inject-mce",
      takesMachineChecks: proposal.guest !== "unaware",
      sleepsLate: false,
      nmi: scenario.nmi ?? "off",
      machineCheckSafe: persona.machineCheckSafe,
    },
  };
}
