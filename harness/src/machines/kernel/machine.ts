/**
 * The machines `kernel:SPEC`: boots a kernel in a VM and has its cases run there by the engines that run inside kernels,
 * one VM for all cases of a run as long as it lasts (boots.ts). What comes back is their evidence, with what is known of
 * the VM; the judge is the same as ever.
 *
 * A kernel that cannot be fetched or does not come up is reported at each of its cases; other kernels are not concerned.
 */

import type {
  Attestation,
  EngineName,
  KvmPart,
  Proposal,
  RunResult,
  Scenario,
} from "../../../../language/src/index.ts";
import type {
  BootConsole,
  BuiltIn,
  Case,
  CaseContext,
  DaxQemu,
  GuestKernel,
  Machine,
  NoDaxQemu,
  OpenContext,
  Opening,
  Support,
} from "../../engine.ts";
import { runChecked } from "../../engines/checked.ts";
import {
  type EngineRow,
  engineRow,
  guestOption,
  kernelEngines,
  type SupportsCase,
} from "../../engines/registry.ts";
import { obtainKernel } from "../../kernel/cache.ts";
import { obtainDaxQemu } from "../../kernel/dax-qemu.ts";
import { KernelError } from "../../kernel/error.ts";
import { guestKernelIn } from "../../kernel/guest.ts";
import { builtInKvm } from "../../kernel/patches.ts";
import { findQemu, QEMU_FIX, requireQemu, slownessOf } from "../../kernel/qemu.ts";
import type { KernelSpec } from "../../kernel/spec.ts";
import { type GuestAsked, usualGuest } from "../../kernel/spec.ts";
import { Boots } from "./boots.ts";
import { cpusFor } from "./cpus.ts";
import { startSession } from "./session.ts";

export type KernelMachineOptions = {
  readonly spec: KernelSpec;
  /** Where the modules of an image in a file are; null if it needs none. */
  readonly modulesDirectory: string | null;
  /** The engines that run inside; the usual ones if left out. */
  readonly engines?: readonly EngineRow[];
  /** The kernel of Linux guests inside; the usual one if left out. */
  readonly guest?: GuestAsked;
  /** The user's QEMU with a DAX window, for guests inside; null, or left out: one that is found. */
  readonly qemu?: string | null;
  /** The proposal that its KVM has built in, where the user names it; else what its patches say. */
  readonly kvm?: KvmPart | null;
};

/** Those that run inside kernels where none is named. */
export const usualEngines: readonly EngineRow[] = kernelEngines.filter(({ byDefault }) => byDefault);

/** Can a kernel be booted at all? */
export function bootSupport(): Support {
  if (findQemu() !== null) return { kind: "yes" };
  return { kind: "no", reason: "there is no qemu-system-x86_64 to boot a kernel in", fix: QEMU_FIX };
}

class KernelMachine implements Machine {
  readonly name: `kernel:${string}`;
  /** One story in the kernel's trace; emulated CPUs share one thread anyway. */
  readonly isAlone = true;
  readonly builtIn: BuiltIn;
  readonly #options: KernelMachineOptions;
  readonly #supports: ReadonlyMap<EngineName, SupportsCase>;
  /** null: there is nothing to boot, and `#failure` is the reason. */
  #boots: Boots | null = null;
  #failure = "it was not booted";
  #slowness = 1;

  constructor(options: KernelMachineOptions, supports: ReadonlyMap<EngineName, SupportsCase>) {
    this.#options = options;
    this.#supports = supports;
    this.name = `kernel:${options.spec.text}`;
    const { spec, kvm = null, guest = usualGuest } = options;
    this.builtIn = { kvm: builtInKvm(spec, kvm), guest: builtInKvm(guest.spec) };
  }

  option(engine: EngineName): string {
    const { spec, modulesDirectory, guest, kvm = null } = this.#options;
    const modules = modulesDirectory === null ? "" : ` --modules ${modulesDirectory}`;
    const named = kvm === null ? "" : ` --kvm ${kvm}`;
    return `${guestOption(engine, guest)}--kernel ${spec.text}${modules}${named}`;
  }

  supports(engine: EngineName, scenario: Scenario, proposal: Proposal): Support {
    const supports = this.#supports.get(engine);
    if (supports === undefined) {
      return { kind: "no", reason: `engine ${engine} does not run inside kernels`, fix: null };
    }
    return supports(scenario, proposal, this.builtIn);
  }

  /** Nothing is known before the kernel is up. */
  async attestations(): Promise<readonly Attestation[]> {
    return [];
  }

  /** Linux guests' kernel, where an engine among these has such guests. */
  async #guestKernel(engines: readonly EngineName[], context: OpenContext): Promise<GuestKernel | null> {
    const hasGuests = engines.some((name) => engineRow(name).nature.isLinuxGuest);
    return hasGuests
      ? await guestKernelIn(context.directory, {
          ...(this.#options.guest ?? usualGuest),
          signal: context.signal,
        })
      : null;
  }

  /** The same for a QEMU with a DAX window. */
  async #daxQemu(
    engines: readonly EngineName[],
    { signal }: OpenContext,
  ): Promise<DaxQemu | NoDaxQemu | null> {
    if (!engines.some((name) => engineRow(name).nature.vmm === "qemu")) return null;
    try {
      return await obtainDaxQemu({ path: this.#options.qemu ?? null, signal });
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      // The cases of other engines are not concerned.
      return { failure: error.message };
    }
  }

  async open(engines: readonly EngineName[], context: OpenContext): Promise<Opening> {
    try {
      const qemu = requireQemu();
      this.#slowness = slownessOf(qemu.accelerator);
      const kernel = await obtainKernel(this.#options.spec, this.#options.modulesDirectory, context.signal);
      const guest = await this.#guestKernel(engines, context);
      const guestQemu = await this.#daxQemu(engines, context);
      const cpus = cpusFor(engines, qemu.accelerator);
      this.#boots = new Boots(() =>
        startSession({ ...context, kernel, qemu, cpus, guest, guestQemu, builtIn: this.builtIn }),
      );
      await this.#boots.boot();
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      this.#failure = error.message;
    }
    const state = this.#boots?.state;
    return { kind: "booted", attestation: state?.kind === "up" ? state.session.attestation() : null };
  }

  slowness(): number {
    return this.#slowness;
  }

  async recover(): Promise<void> {
    await this.#boots?.recover();
  }

  run(one: Case, context: CaseContext): Promise<RunResult> {
    return runChecked(this.name, one.scenario, async () => {
      const state = this.#boots?.state ?? { kind: "down", why: this.#failure };
      if (state.kind === "down") return { kind: "engine-error", message: state.why };
      return state.session.run(one, context);
    });
  }

  consoles(): readonly BootConsole[] {
    return this.#boots?.consoles() ?? [];
  }

  async close(): Promise<void> {
    await this.#boots?.close();
  }
}

export async function kernelMachine(options: KernelMachineOptions): Promise<Machine> {
  const supports = new Map<EngineName, SupportsCase>();
  for (const { name, inKernels } of options.engines ?? usualEngines) {
    if (inKernels !== null) supports.set(name, await inKernels());
  }
  return new KernelMachine(options, supports);
}
