/**
 * The engine `kvm`: a case on /dev/kvm with our micro-guest. Real are KVM, the host's memory management and file systems,
 * the DAX window and the FUSE server.
 */
import type { Engine } from "../../engine.ts";
import { supportOf, thisMachine } from "../../machine.ts";
import { kvmAttestation, kvmFacts, supportsOnKvm } from "../vm/kvm-support.ts";
import { runVmCase, vmPool } from "../vm/run-case.ts";
import { planCase, supportsAnywhere, type VmPlan } from "./plan.ts";

/** How long a guest may run: a proof of a loop takes a quarter of a second, a repair one more. */
const LIFE_MS = 8000;

/** After the report: nothing but memory and descriptors is given back. */
const IDLE_MS = 1000;

const pool = vmPool<VmPlan>("harness/src/engines/kvm/vm-main.ts");

export const kvmEngine: Engine = {
  name: "kvm",
  describe: () =>
    "The micro-guest on /dev/kvm over a real file, a real DAX window and, where asked for, a FUSE mount.",
  async available() {
    return supportOf(thisMachine(), ["kvm", "micro-guest"]);
  },
  supports(scenario, proposal, builtIn) {
    const anywhere = supportsAnywhere(scenario, proposal, builtIn);
    return anywhere.kind === "no" ? anywhere : supportsOnKvm(scenario, proposal);
  },
  async attest() {
    return kvmAttestation("kvm", kvmFacts().capabilities);
  },
  async open() {},
  run: (scenario, proposal, context) =>
    runVmCase(scenario, proposal, context, {
      poolFor: () => pool,
      lifeMs: LIFE_MS,
      idleMs: IDLE_MS,
      plan: (place) => planCase(scenario, proposal, place),
      attestation: ({ capabilities }) => kvmAttestation("kvm", capabilities),
    }),
  async close() {},
};
