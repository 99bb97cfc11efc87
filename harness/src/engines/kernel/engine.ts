/**
 * The engines `kernel:SPEC`: boots a kernel in a VM and has the cases run there by the machine's own engines, one VM for
 * all cases of a run as long as it lasts (boots.ts). What comes back is their evidence, with what is known of the VM;
 * the judge is the same as ever.
 *
 * A kernel that cannot be had or does not come up is said at each of its cases; other kernels are not concerned.
 */

import {
  type Attestation,
  executingEngine,
  type KernelEngineName,
  type Proposal,
  type RunResult,
  type Scenario,
} from "../../../../language/src/index.ts";
import type { CaseContext, Engine, OpenContext, Support } from "../../engine.ts";
import { obtainKernel } from "../../kernel/cache.ts";
import type { BootConsole } from "../../kernel/console.ts";
import { KernelError } from "../../kernel/error.ts";
import { findQemu, QEMU_FIX, requireQemu, slownessOf } from "../../kernel/qemu.ts";
import type { KernelSpec } from "../../kernel/spec.ts";
import { supportsPair, supportsProposal } from "../kvm/plan.ts";
import { Boots } from "./boots.ts";
import { startSession } from "./session.ts";

export type KernelEngineOptions = {
  readonly spec: KernelSpec;
  /** Where the modules of an image in a file are; null if it needs none. */
  readonly modulesDirectory: string | null;
};

class KernelEngine implements Engine {
  readonly name: KernelEngineName;
  readonly option: string;
  /** One story in the kernel's trace; emulated CPUs share one thread anyway. */
  readonly isAlone = true;
  readonly #options: KernelEngineOptions;
  /** null: there is nothing to boot, and `#failure` says why. */
  #boots: Boots | null = null;
  #failure = "it was not booted";
  #slowness = 1;

  constructor(options: KernelEngineOptions) {
    this.#options = options;
    this.name = `kernel:${options.spec.text}`;
    const modules = options.modulesDirectory === null ? "" : ` --modules ${options.modulesDirectory}`;
    this.option = `--kernel ${options.spec.text}${modules}`;
  }

  describe(): string {
    return `The engines kvm and process inside a VM that has booted ${this.#options.spec.text}.`;
  }

  async available(): Promise<Support> {
    if (findQemu() !== null) return { kind: "yes" };
    return { kind: "no", reason: "there is no qemu-system-x86_64 to boot a kernel in", fix: QEMU_FIX };
  }

  supports(scenario: Scenario, proposal: Proposal): Support {
    if (executingEngine(this.name, proposal) === "process") return { kind: "yes" };
    const proposed = supportsProposal(proposal);
    return proposed.kind === "no" ? proposed : supportsPair(scenario, proposal);
  }

  async open(context: OpenContext): Promise<void> {
    try {
      const qemu = requireQemu();
      this.#slowness = slownessOf(qemu.accelerator);
      const kernel = await obtainKernel(this.#options.spec, this.#options.modulesDirectory, context.signal);
      this.#boots = new Boots(() => startSession({ ...context, kernel, qemu }));
      await this.#boots.boot();
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      this.#failure = error.message;
    }
  }

  async attest(): Promise<Attestation | null> {
    const state = this.#boots?.state;
    return state?.kind === "up" ? state.session.attestation() : null;
  }

  slowness(): number {
    return this.#slowness;
  }

  consoles(): readonly BootConsole[] {
    return this.#boots?.consoles() ?? [];
  }

  async recover(): Promise<void> {
    await this.#boots?.recover();
  }

  async run(scenario: Scenario, proposal: Proposal, context: CaseContext): Promise<RunResult> {
    const state = this.#boots?.state ?? { kind: "down", why: this.#failure };
    if (state.kind === "down") return { kind: "engine-error", message: state.why };
    return state.session.run(scenario, proposal, context);
  }

  async close(): Promise<void> {
    await this.#boots?.close();
  }
}

export function kernelEngine(options: KernelEngineOptions): Engine {
  return new KernelEngine(options);
}
