/**
 * The engine `kvm`: a case on /dev/kvm with our micro-guest. Real are KVM, the host's memory management and file systems,
 * the DAX window and the FUSE server.
 */
import { release } from "node:os";
import {
  type Attestation,
  enablesApf,
  type Proposal,
  type Scenario,
} from "../../../../language/src/index.ts";
import { PAGE_SIZE, poisonRefusal } from "../../../../sys/src/index.ts";
import { type CpuFeatures, cpuFeatures, Kvm, supportedCpuid } from "../../../../vmm/src/index.ts";
import type { Engine, Support } from "../../engine.ts";
import { hostSetupSupport, supportOf, thisMachine } from "../../machine.ts";
import { supportsAccesses } from "../guest-program.ts";
import { guardSupport } from "../vm/guard-support.ts";
import { runVmCase, vmPool } from "../vm/run-case.ts";
import { planCase, supportsAnywhere, type VmPlan } from "./plan.ts";

/** How long a guest may run: a proof of a loop takes a quarter of a second, a repair one more. */
const LIFE_MS = 8000;

/** After the report: nothing but memory and descriptors is given back. */
const IDLE_MS = 1000;

const pool = vmPool<VmPlan>("harness/src/engines/kvm/vm-main.ts");

function machineAttestation(capabilities: Readonly<Record<string, number>>): Attestation {
  return {
    engine: "kvm",
    kernel: release(),
    kvmBackend: thisMachine().kvmBackend,
    kvmParameters: thisMachine().kvmParameters,
    capabilities,
    lapic: null,
    apfEnabled: null,
    pageSize: PAGE_SIZE,
    transport: null,
    windowBytes: null,
    vm: null,
    guest: null,
  };
}

type KvmFacts = { readonly features: CpuFeatures; readonly capabilities: Readonly<Record<string, number>> };
let facts: KvmFacts | null = null;

/** The capabilities of /dev/kvm, read once. Only where it is available. */
function kvmFacts(): KvmFacts {
  if (facts === null) {
    const kvm = Kvm.open();
    facts = { features: cpuFeatures(supportedCpuid(kvm)), capabilities: kvm.capabilities() };
    kvm.close();
  }
  return facts;
}

const no = (reason: string): Support => ({ kind: "no", reason, fix: null });

function supportsMachine(scenario: Scenario, proposal: Proposal): Support {
  const { features, capabilities } = kvmFacts();
  if ((capabilities.KVM_CAP_BINARY_STATS_FD ?? 0) === 0) {
    return no(
      "this KVM has no counters to read (KVM_CAP_BINARY_STATS_FD): an endless loop could not be proven",
    );
  }
  if (enablesApf(proposal) && !features.asyncPageFaultInterrupt) {
    return no("this KVM offers no async page faults by interrupt (KVM_FEATURE_ASYNC_PF_INT)");
  }
  if (proposal.exits === "hlt-in-guest" && ((capabilities.KVM_CAP_X86_DISABLE_EXITS ?? 0) & 2) === 0) {
    return no("this KVM cannot give HLT to the guest (KVM_CAP_X86_DISABLE_EXITS)");
  }
  if (proposal.vmm === "poison") {
    const refusal = poisonRefusal();
    if (refusal !== null) return no(`pages cannot be poisoned here: ${refusal}`);
  }
  for (const name of scenario.needs) {
    if ((capabilities[name] ?? 0) === 0) return no(`this KVM has no ${name}`);
  }
  return supportsAccesses(scenario, features, "this KVM");
}

export const kvmEngine: Engine = {
  name: "kvm",
  describe: () =>
    "The micro-guest on /dev/kvm over a real file, a real DAX window and, where asked for, a FUSE mount.",
  async available() {
    return supportOf(thisMachine(), ["kvm", "micro-guest"]);
  },
  supports(scenario, proposal) {
    for (const answer of [
      supportsAnywhere(scenario, proposal),
      hostSetupSupport(scenario),
      guardSupport(proposal.server, scenario),
    ]) {
      if (answer.kind === "no") return answer;
    }
    return supportsMachine(scenario, proposal);
  },
  async attest() {
    return machineAttestation(kvmFacts().capabilities);
  },
  async open() {},
  run: (scenario, proposal, context) =>
    runVmCase(scenario, proposal, context, {
      poolFor: () => pool,
      lifeMs: LIFE_MS,
      idleMs: IDLE_MS,
      plan: (place) => planCase(scenario, proposal, place),
      attestation: ({ capabilities }) => machineAttestation(capabilities),
    }),
  async close() {},
};
