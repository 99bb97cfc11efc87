/**
 * The engines `linux-qemu` and `linux-qemu-tcg`, `--engine linux --vmm qemu` on the command line: a case in a real Linux guest
 * in upstream QEMU, over our file server by vhost-user with a DAX window. With KVM, what becomes of a lost page is KVM's doing
 * and QEMU's; under TCG QEMU touches the page itself.
 */
import { release } from "node:os";
import type { Attestation, Proposal, RunResult, Scenario } from "../../../../../language/src/index.ts";
import { PAGE_SIZE } from "../../../../../sys/src/index.ts";
import type { CaseContext, DaxQemu, Engine, GuestKernel, OpenContext, Support } from "../../../engine.ts";
import { errorText } from "../../../error-text.ts";
import { KernelError } from "../../../kernel/error.ts";
import { hostSetupSupport, supportOf, thisMachine } from "../../../machine.ts";
import { supportsAccesses } from "../../guest-program.ts";
import { kvmAttestation, kvmFacts, supportsOnKvm } from "../../vm/kvm-support.ts";
import type { VmReport } from "../../vm/messages.ts";
import { runVmCase, type VmPool, vmPool } from "../../vm/run-case.ts";
import type { Accelerator } from "./arguments.ts";
import { planQemu, type QemuPlan, supportsQemu } from "./plan.ts";

/** How long a case may run, on a real machine: as on our own VMM. */
const LIFE_MS = 8000;
/** After the report: QEMU and the server are ended. */
const IDLE_MS = 4000;
/** What `-cpu max` has under TCG (target/i386/tcg). */
const EMULATED_CPU = { avx: true, avx512: false, cmpxchg16b: true } as const;

export const engineNameOf: Readonly<Record<Accelerator, string>> = {
  kvm: "linux-qemu",
  tcg: "linux-qemu-tcg",
};

/** What an engine needs of a run; a text: why it is not there. */
type Needs = { readonly kernel: GuestKernel; readonly qemu: DaxQemu } | { readonly failure: RunResult };

async function needsOf({ guestKernel, daxQemu }: OpenContext): Promise<Needs> {
  if (guestKernel === undefined || daxQemu === undefined) {
    return { failure: { kind: "engine-error", message: "no kernel and no QEMU were named for the guest" } };
  }
  let qemu: DaxQemu;
  try {
    qemu = await daxQemu();
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    return { failure: { kind: "unsupported", message: error.message } };
  }
  try {
    const kernel = await guestKernel();
    if (kernel.lacksInQemu.length === 0) return { kernel, qemu };
    const lacks = kernel.lacksInQemu.join("; ");
    const message = `--guest-kernel ${kernel.name}: it cannot be a guest in QEMU: ${lacks}`;
    return { failure: { kind: "engine-error", message } };
  } catch (error) {
    return { failure: { kind: "engine-error", message: errorText(error) } };
  }
}

const texts: Readonly<Record<Accelerator, string>> = {
  kvm: "A Linux guest in QEMU on KVM, over our file server by vhost-user with DAX: --engine linux --vmm qemu.",
  tcg: "The same in QEMU's emulator, where KVM cannot boot Linux: QEMU itself touches the lost page.",
};

class QemuEngine implements Engine {
  readonly name: string;
  readonly #accelerator: Accelerator;
  readonly #pool: VmPool<QemuPlan> = vmPool<QemuPlan>("harness/src/engines/linux/qemu/qemu-main.ts");
  #needs: Needs = { failure: { kind: "engine-error", message: "the engine was not opened" } };

  constructor(accelerator: Accelerator) {
    this.#accelerator = accelerator;
    this.name = engineNameOf[accelerator];
  }

  describe(): string {
    return texts[this.#accelerator];
  }

  async available(): Promise<Support> {
    return supportOf(thisMachine(), this.#accelerator === "kvm" ? ["linux-guest", "kvm"] : ["steps"]);
  }

  supports(scenario: Scenario, proposal: Proposal, builtIn?: Parameters<Engine["supports"]>[2]): Support {
    const anywhere = supportsQemu(this.#accelerator, scenario, proposal, builtIn);
    if (anywhere.kind === "no") return anywhere;
    if (this.#accelerator === "kvm") return supportsOnKvm(scenario, proposal);
    const host = hostSetupSupport(scenario);
    return host.kind === "no" ? host : supportsAccesses(scenario, EMULATED_CPU, "QEMU's TCG");
  }

  async attest(): Promise<Attestation> {
    return this.#attestation(this.#accelerator === "kvm" ? kvmFacts().capabilities : {});
  }

  #attestation(capabilities: Readonly<Record<string, number>>): Attestation {
    if (this.#accelerator === "kvm") return kvmAttestation(this.name, capabilities);
    return {
      engine: this.name,
      kernel: release(),
      kvmBackend: null,
      kvmParameters: {},
      capabilities: {},
      lapic: null,
      apfEnabled: null,
      pageSize: PAGE_SIZE,
      transport: null,
      windowBytes: null,
      vm: null,
      guest: null,
    };
  }

  async open(context: OpenContext): Promise<void> {
    this.#needs = await needsOf(context);
  }

  async run(scenario: Scenario, proposal: Proposal, context: CaseContext): Promise<RunResult> {
    const needs = this.#needs;
    if ("failure" in needs) return needs.failure;
    const accelerator = this.#accelerator;
    return runVmCase<QemuPlan>(scenario, proposal, context, {
      poolFor: () => this.#pool,
      lifeMs: LIFE_MS,
      idleMs: IDLE_MS,
      plan: (place) => planQemu(scenario, proposal, place, { accelerator, ...needs }),
      attestation: ({ guest }: VmReport) => ({
        ...this.#attestation(accelerator === "kvm" ? kvmFacts().capabilities : {}),
        guest: guest?.facts ?? null,
      }),
    });
  }

  async close(): Promise<void> {}
}

export const qemuKvmEngine: Engine = new QemuEngine("kvm");
export const qemuTcgEngine: Engine = new QemuEngine("tcg");
