/** The machine that daxfault runs on, with the engines that are to run on it. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Attestation, EngineName, Proposal, RunResult, Scenario } from "../../../language/src/index.ts";
import {
  type BootConsole,
  type BuiltIn,
  type Case,
  type CaseContext,
  type Engine,
  type Machine,
  type OpenContext,
  type Opening,
  type Support,
  stockKernels,
} from "../engine.ts";
import { startBusy } from "../engines/busy.ts";
import { guestOption } from "../engines/registry.ts";
import { builtInKvm } from "../kernel/patches.ts";
import type { GuestAsked } from "../kernel/spec.ts";

/**
 * Of a guest in QEMU's emulator, which boots for each case: less than a kernel's VM has, in which there is more than one program.
 * With 1, twenty seconds were no boot on a machine with other work.
 */
const EMULATED_SLOWNESS = 4;

class HereMachine implements Machine {
  readonly name = "here";
  readonly isAlone = false;
  readonly builtIn: BuiltIn;
  readonly #engines: ReadonlyMap<EngineName, Engine>;
  readonly #open: Engine[] = [];
  readonly #guest: GuestAsked;
  readonly #qemu: string | null;
  #endBusy = (): void => {};

  constructor(engines: readonly Engine[], guest: GuestAsked, qemu: string | null) {
    this.#guest = guest;
    this.#qemu = qemu;
    this.builtIn = { ...stockKernels, guest: builtInKvm(guest.spec) };
    this.#engines = new Map(engines.map((engine) => [engine.name, engine]));
  }

  option(engine: EngineName): string | null {
    const option = guestOption(engine, this.#guest).trim();
    return option === "" ? null : option;
  }

  supports(engine: EngineName, scenario: Scenario, proposal: Proposal): Support {
    const found = this.#engines.get(engine);
    if (found === undefined) return { kind: "no", reason: `engine ${engine} is not loaded`, fix: null };
    return found.supports(scenario, proposal, this.builtIn);
  }

  #those(names: readonly EngineName[]): readonly Engine[] {
    return [...this.#engines.values()].filter(({ name }) => names.includes(name));
  }

  async attestations(engines: readonly EngineName[]): Promise<readonly Attestation[]> {
    const attestations: Attestation[] = [];
    for (const engine of this.#those(engines)) attestations.push(await engine.attest());
    return attestations;
  }

  async open(engines: readonly EngineName[], context: OpenContext): Promise<Opening> {
    for (const engine of this.#those(engines)) {
      const directory = join(context.directory, engine.name);
      mkdirSync(directory);
      this.#open.push(engine);
      const guestKernel = async () => {
        const { guestKernelIn } = await import("../kernel/guest.ts");
        return guestKernelIn(directory, { ...this.#guest, signal: context.signal });
      };
      const daxQemu = async () => {
        const { obtainDaxQemu } = await import("../kernel/dax-qemu.ts");
        return obtainDaxQemu({ path: this.#qemu, signal: context.signal });
      };
      await engine.open({ ...context, directory, guestKernel, daxQemu });
    }
    this.#endBusy = startBusy(context.busy ?? 0, context.directory);
    return { kind: "up" };
  }

  slowness({ nature }: Pick<Case, "nature">): number {
    return nature.vmm === "qemu" && !nature.runsKvm ? EMULATED_SLOWNESS : 1;
  }

  async recover(): Promise<void> {}

  async run({ scenario, proposal, engine }: Case, context: CaseContext): Promise<RunResult> {
    const found = this.#engines.get(engine);
    if (found === undefined) return { kind: "engine-error", message: `engine ${engine} is not loaded` };
    return found.run(scenario, proposal, context);
  }

  consoles(): readonly BootConsole[] {
    return [];
  }

  async close(): Promise<void> {
    this.#endBusy();
    for (const engine of this.#open.splice(0)) await engine.close();
  }
}

/**
 * @param guest the kernel of Linux guests
 * @param qemu the user's QEMU with a DAX window; null: one that is found
 */
export function hereMachine(
  engines: readonly Engine[],
  guest: GuestAsked,
  qemu: string | null = null,
): Machine {
  return new HereMachine(engines, guest, qemu);
}
