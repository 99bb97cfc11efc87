/**
 * The engine `linux`: a case in a real Linux guest on our own VMM, over virtio-fs with a DAX window, served by our file
 * server. What becomes of a process, of its kernel and of the VM is Linux's doing.
 */
import { release } from "node:os";
import type { Attestation, Proposal, RunResult, Scenario } from "../../../../language/src/index.ts";
import { PAGE_SIZE, poisonRefusal } from "../../../../sys/src/index.ts";
import { cpuFeatures, Kvm, supportedCpuid } from "../../../../vmm/src/index.ts";
import type { CaseContext, Engine, GuestKernel, OpenContext, Support } from "../../engine.ts";
import { errorText } from "../../error-text.ts";
import { hostSetupSupport, supportOf, thisMachine } from "../../machine.ts";
import { supportsAccesses } from "../guest-program.ts";
import { guardSupport } from "../vm/guard-support.ts";
import type { VmReport } from "../vm/messages.ts";
import { runVmCase, type VmPool, vmPool } from "../vm/run-case.ts";
import { type BootPlan, type LinuxPlan, planLinux, supportsLinux } from "./plan.ts";

/** How long a case may run, on a real machine: a proof of a loop takes a quarter of a second, a repair one more. */
const LIFE_MS = 8000;

/** After the report: the guest ends its tasks and unmounts, or is ended itself. Above SETTLE_MS (guest-main.ts). */
const IDLE_MS = 4000;

/** Guests that wait for a case at once, of some 100 MiB each: async page faults or none, HLT in the guest or not. */
const IDLE_BOOTS_MAX = 4;

/** Processes with a guest each, by what the guest was booted with, the last used last: one that is idle has it up. */
const pools = new Map<string, VmPool<LinuxPlan>>();

function poolFor(boot: BootPlan): VmPool<LinuxPlan> {
  const key = JSON.stringify(boot);
  const pool = pools.get(key) ?? vmPool<LinuxPlan>("harness/src/engines/linux/guest-main.ts");
  pools.delete(key);
  pools.set(key, pool);
  for (const [old, unused] of [...pools].slice(0, -IDLE_BOOTS_MAX)) {
    pools.delete(old);
    void unused.endIdle();
  }
  return pool;
}

const no = (reason: string): Support => ({ kind: "no", reason, fix: null });

type KvmFacts = ReturnType<typeof readKvm>;
let facts: KvmFacts | null = null;

function readKvm() {
  const kvm = Kvm.open();
  const found = { features: cpuFeatures(supportedCpuid(kvm)), capabilities: kvm.capabilities() };
  kvm.close();
  return found;
}

/** Of /dev/kvm, read once. Only where it is available. */
function kvmFacts(): KvmFacts {
  facts ??= readKvm();
  return facts;
}

function supportsMachine(scenario: Scenario, proposal: Proposal): Support {
  const { features, capabilities } = kvmFacts();
  if (proposal.exits === "hlt-in-guest" && ((capabilities.KVM_CAP_X86_DISABLE_EXITS ?? 0) & 2) === 0) {
    return no("this KVM cannot give HLT to the guest (KVM_CAP_X86_DISABLE_EXITS)");
  }
  if (proposal.vmm === "poison") {
    const refusal = poisonRefusal();
    if (refusal !== null) return no(`pages cannot be poisoned here: ${refusal}`);
  }
  const known: Readonly<Record<string, number>> = capabilities;
  for (const name of ["KVM_CAP_BINARY_STATS_FD", "KVM_CAP_EXCEPTION_PAYLOAD", ...scenario.needs]) {
    if ((known[name] ?? 0) === 0) return no(`this KVM has no ${name}`);
  }
  return supportsAccesses(scenario, features, "this KVM");
}

function machineAttestation(report: VmReport | null): Attestation {
  const { kvmBackend, kvmParameters } = thisMachine();
  return {
    engine: "linux",
    kernel: release(),
    kvmBackend,
    kvmParameters,
    capabilities: report?.capabilities ?? kvmFacts().capabilities,
    lapic: null,
    apfEnabled: null,
    pageSize: PAGE_SIZE,
    transport: null,
    windowBytes: null,
    vm: null,
    guest: report?.guest?.facts ?? null,
  };
}

/** The guest's kernel, or why there is none. */
let kernel: GuestKernel | { readonly failure: string } = { failure: "the engine was not opened" };

async function open({ guestKernel }: OpenContext): Promise<void> {
  try {
    kernel = (await guestKernel?.()) ?? { failure: "no kernel was named for the guest" };
  } catch (error) {
    kernel = { failure: errorText(error) };
  }
}

async function run(scenario: Scenario, proposal: Proposal, context: CaseContext): Promise<RunResult> {
  if ("failure" in kernel) return { kind: "engine-error", message: `--guest-kernel: ${kernel.failure}` };
  const own = kernel;
  return runVmCase<LinuxPlan>(scenario, proposal, context, {
    poolFor: ({ boot }) => poolFor(boot),
    lifeMs: LIFE_MS,
    idleMs: IDLE_MS,
    plan: (place) => planLinux(scenario, proposal, place, own),
    attestation: machineAttestation,
  });
}

export const linuxEngine: Engine = {
  name: "linux",
  describe: () =>
    "A Linux guest on our VMM, over virtio-fs with a DAX window: --guest-kernel says which kernel.",
  async available() {
    return supportOf(thisMachine(), ["linux-guest", "kvm"]);
  },
  supports(scenario, proposal) {
    for (const answer of [
      supportsLinux(scenario, proposal),
      hostSetupSupport(scenario),
      guardSupport(proposal.server, scenario),
    ]) {
      if (answer.kind === "no") return answer;
    }
    return supportsMachine(scenario, proposal);
  },
  async attest() {
    return machineAttestation(null);
  },
  open,
  run,
  async close() {},
};
