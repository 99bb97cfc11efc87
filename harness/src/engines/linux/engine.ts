/**
 * The engine `linux`: a case in a real Linux guest on our own VMM, over virtio-fs with a DAX window or without,
 * served by our file server, or with an NVDIMM. What becomes of a process, of its kernel and of the VM is Linux's doing.
 */
import {
  type Attestation,
  isNested,
  type Proposal,
  type RunResult,
  type Scenario,
} from "../../../../language/src/index.ts";
import type { CaseContext, Engine, GuestKernel, OpenContext, Support } from "../../engine.ts";
import { errorText } from "../../error-text.ts";
import { supportOf, thisMachine } from "../../machine.ts";
import { kvmAttestation, kvmFacts, supportsOnKvm } from "../vm/kvm-support.ts";
import type { VmReport } from "../vm/messages.ts";
import { runVmCase, type VmPool, vmPool } from "../vm/run-case.ts";
import { type BootPlan, type LinuxPlan, planLinux, supportsOwnVmm } from "./plan.ts";

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

/** A #PF is injected with its address by a payload. */
function supportsHere(scenario: Scenario, proposal: Proposal): Support {
  if (isNested(scenario) && !kvmFacts().features.virtualization) {
    return no("this KVM offers its guests neither SVM nor VMX: kvm_amd or kvm_intel with nested=1 does");
  }
  const { KVM_CAP_EXCEPTION_PAYLOAD: payload = 0 } = kvmFacts().capabilities;
  return payload === 0 ? no("this KVM has no KVM_CAP_EXCEPTION_PAYLOAD") : supportsOnKvm(scenario, proposal);
}

function attestation({ capabilities, guest }: VmReport): Attestation {
  return { ...kvmAttestation("linux", capabilities), guest: guest?.facts ?? null };
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
  if ("failure" in kernel) return { kind: "engine-error", message: kernel.failure };
  const own = kernel;
  return runVmCase<LinuxPlan>(scenario, proposal, context, {
    poolFor: ({ boot }) => poolFor(boot),
    lifeMs: LIFE_MS,
    idleMs: IDLE_MS,
    plan: (place) => planLinux(scenario, proposal, place, own),
    attestation,
  });
}

export const linuxEngine: Engine = {
  name: "linux",
  describe: () =>
    "A Linux guest on our VMM, over virtio-fs with DAX or without, or with an NVDIMM: --guest-kernel says which kernel.",
  async available() {
    return supportOf(thisMachine(), ["linux-guest", "kvm"]);
  },
  supports(scenario, proposal, builtIn) {
    const anywhere = supportsOwnVmm(scenario, proposal, builtIn);
    return anywhere.kind === "no" ? anywhere : supportsHere(scenario, proposal);
  },
  async attest() {
    return kvmAttestation("linux", kvmFacts().capabilities);
  },
  open,
  run,
  async close() {},
};
