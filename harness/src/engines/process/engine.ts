/**
 * The engine `process`: no VM. A static program of ours maps the file and does the guest tasks' steps, a process for each
 * task: the micro-guest's interpreter and accesses, one instruction each (vmm/guest/linux). Real are the host's memory
 * management and file systems; SIGBUS comes with the kernel's si_code.
 */
import { readFileSync } from "node:fs";
import { allAccesses, isDirect, type Proposal, type Scenario } from "../../../../language/src/index.ts";
import type { Engine, Support } from "../../engine.ts";
import { supportOf, thisMachine } from "../../machine.ts";
import { type AccessFeatures, supportsAccesses } from "../guest-program.ts";
import { nativeAttestation, runNative, supportsNative } from "../native.ts";
import { startSteps } from "./steps.ts";

/** From /proc/cpuinfo, whose flags are those that the kernel lets processes use. */
export function accessFeatures(cpuinfo: string): AccessFeatures {
  const flags = new Set((/^flags\s*:(.*)$/m.exec(cpuinfo)?.[1] ?? "").trim().split(/\s+/));
  return { avx: flags.has("avx"), avx512: flags.has("avx512f"), cmpxchg16b: flags.has("cx16") };
}

let features: AccessFeatures | null = null;

function ownFeatures(): AccessFeatures {
  features ??= accessFeatures(readFileSync("/proc/cpuinfo", "utf8"));
  return features;
}

export const processEngine: Engine = {
  name: "process",
  describe: () =>
    "No VM: a process of the host for each task maps the file and touches it. Real host memory and file systems.",
  async available() {
    return supportOf(thisMachine(), ["steps"]);
  },
  supports(scenario: Scenario, proposal: Proposal): Support {
    const native = supportsNative(scenario, proposal);
    const files = allAccesses(scenario).some(isDirect) ? supportOf(thisMachine(), ["direct-io"]) : native;
    if (files.kind === "no") return native.kind === "no" ? native : files;
    return native.kind === "no" ? native : supportsAccesses(scenario, ownFeatures(), "this processor");
  },
  async attest() {
    return nativeAttestation("process");
  },
  async open() {},
  run: (scenario, _proposal, context) => runNative("process", startSteps, scenario, context),
  async close() {},
};
