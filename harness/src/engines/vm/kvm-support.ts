/** What this machine's KVM is, and whether it can run a case, whatever guest the case has. */
import { release } from "node:os";
import {
  type Attestation,
  type EngineName,
  enablesApf,
  type Proposal,
  type Scenario,
} from "../../../../language/src/index.ts";
import { PAGE_SIZE, poisonRefusal } from "../../../../sys/src/index.ts";
import {
  type CpuFeatures,
  cpuFeatures,
  GUEST_MEMFD_FLAG_INIT_SHARED,
  GUEST_MEMFD_FLAG_MMAP,
  Kvm,
  type KvmFeature,
  supportedCpuid,
} from "../../../../vmm/src/index.ts";
import type { Support } from "../../engine.ts";
import { hostSetupSupport, thisMachine } from "../../machine.ts";
import { supportsAccesses } from "../guest-program.ts";
import { guardSupport } from "./guard-support.ts";

/** Its pages are the guest's and the host's. */
const MAPPABLE_GUEST_MEMFD = GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED;

type KvmFacts = { readonly features: CpuFeatures; readonly capabilities: Readonly<Record<string, number>> };
let facts: KvmFacts | null = null;

/** The capabilities of /dev/kvm, read once. Only where it is available. */
export function kvmFacts(): KvmFacts {
  if (facts === null) {
    const kvm = Kvm.open();
    facts = { features: cpuFeatures(supportedCpuid(kvm)), capabilities: kvm.capabilities() };
    kvm.close();
  }
  return facts;
}

const no = (reason: string): Support => ({ kind: "no", reason, fix: null });

/** What a KVM with the proposal built in offers its guests by CPUID; null: nothing. */
function offeredFeature({ kvm }: Proposal): KvmFeature | null {
  switch (kvm) {
    case "ready-error":
      return "KVM_FEATURE_ASYNC_PF_ERROR";
    case "inject-ve":
      return "KVM_FEATURE_VE_INFO";
    case "none":
    case "today":
    case "uniform-efault":
    case "error-gfn":
    case "error-pending":
    case "exit-request":
    case "final-efault":
    case "memory-fault-exit":
    case "inject-mce":
    case "legacy-pf":
      return null;
  }
}

/** Is there a guest_memfd that the host may map (KVM_CAP_GUEST_MEMFD_FLAGS, Linux 6.18)? */
export function guestMemfdSupport(capabilities: Readonly<Record<string, number>>): Support {
  const flags = capabilities.KVM_CAP_GUEST_MEMFD_FLAGS ?? 0;
  if ((flags & MAPPABLE_GUEST_MEMFD) === MAPPABLE_GUEST_MEMFD) return { kind: "yes" };
  return {
    kind: "no",
    reason: `this KVM has no guest_memfd that the host may map (since Linux 6.18): KVM_CAP_GUEST_MEMFD_FLAGS is ${flags}`,
    fix: "scripts/daxfault run '*guest-memfd*' --kernel debian:backports",
  };
}

/** By the handler of its userfaultfd. */
function poisonsPages({ backing }: Scenario): boolean {
  return backing.handler?.rules.some(({ action }) => action.kind === "poison") ?? false;
}

/** Can KVM here run the case? Its host and its guard included. */
export function supportsOnKvm(scenario: Scenario, proposal: Proposal): Support {
  for (const answer of [hostSetupSupport(scenario), guardSupport(proposal.server, scenario)]) {
    if (answer.kind === "no") return answer;
  }
  const { features, capabilities } = kvmFacts();
  if ((capabilities.KVM_CAP_BINARY_STATS_FD ?? 0) === 0) {
    return no(
      "this KVM has no counters to read (KVM_CAP_BINARY_STATS_FD): an endless loop could not be proven",
    );
  }
  if (enablesApf(proposal) && !features.kvm.KVM_FEATURE_ASYNC_PF_INT) {
    return no("this KVM offers no async page faults by interrupt (KVM_FEATURE_ASYNC_PF_INT)");
  }
  const needed = offeredFeature(proposal);
  if (needed !== null && !features.kvm[needed]) return no(`this KVM does not offer ${needed}`);
  if (proposal.exits === "hlt-in-guest" && ((capabilities.KVM_CAP_X86_DISABLE_EXITS ?? 0) & 2) === 0) {
    return no("this KVM cannot give HLT to the guest (KVM_CAP_X86_DISABLE_EXITS)");
  }
  if (proposal.vmm === "poison" || poisonsPages(scenario)) {
    const refusal = poisonRefusal();
    if (refusal !== null)
      return no(`pages cannot be poisoned here (UFFDIO_POISON, since Linux 6.6): ${refusal}`);
  }
  if (scenario.backing.kind === "guest-memfd") {
    const answer = guestMemfdSupport(capabilities);
    if (answer.kind === "no") return answer;
  }
  for (const name of scenario.needs) {
    if ((capabilities[name] ?? 0) === 0) return no(`this KVM has no ${name}`);
  }
  return supportsAccesses(scenario, features, "this KVM");
}

/** Of an engine on this machine's KVM, without what a case adds. */
export function kvmAttestation(
  engine: EngineName,
  capabilities: Readonly<Record<string, number>>,
): Attestation {
  const { kvmBackend, kvmParameters } = thisMachine();
  const { kvm } = kvmFacts().features;
  const offered = Object.fromEntries(Object.entries(kvm).map(([name, is]) => [name, is ? 1 : 0]));
  return {
    engine,
    kernel: release(),
    kvmBackend,
    kvmParameters,
    capabilities: { ...capabilities, ...offered },
    lapic: null,
    apfEnabled: null,
    pageSize: PAGE_SIZE,
    transport: null,
    windowBytes: null,
    vm: null,
    guest: null,
  };
}
