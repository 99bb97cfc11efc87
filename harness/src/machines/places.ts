/** The places that are asked for on the command line or by a program: engines on this machine, kernels with theirs. */
import type { EngineName, KvmPart } from "../../../language/src/index.ts";
import { engineRow, kernelEngines, loadEngine } from "../engines/registry.ts";
import { usualGuest } from "../kernel/guest.ts";
import { type KernelSpec, parseKernelSpec } from "../kernel/spec.ts";
import type { Place } from "../run/plan.ts";
import { hereMachine } from "./here.ts";
import { bootSupport, kernelMachine, usualEngines } from "./kernel/machine.ts";

export type PlacesAsked = {
  /** On this machine, one place each. */
  readonly engines: readonly EngineName[];
  readonly kernels: readonly KernelSpec[];
  /** Inside kernels; null: the usual ones. */
  readonly enginesInside?: readonly EngineName[] | null;
  /** The kernel of Linux guests; null: the usual one. */
  readonly guestKernel?: KernelSpec | null;
  /** The user's QEMU with a DAX window; null: one that is found. */
  readonly qemu?: string | null;
  /** Where the modules of kernels in files are. */
  readonly modulesDirectory: string | null;
  /** The proposal that the kernels' KVM has built in; null: what their patches say. */
  readonly kvm?: KvmPart | null;
};

/** The engines are loaded, nothing is opened. */
export async function loadPlaces({
  engines,
  kernels,
  enginesInside = null,
  guestKernel = null,
  qemu = null,
  modulesDirectory,
  kvm = null,
}: PlacesAsked): Promise<readonly Place[]> {
  const loaded = await Promise.all(engines.map(loadEngine));
  const guest = guestKernel === null ? usualGuest : { spec: guestKernel, modulesDirectory };
  const inside =
    enginesInside === null ? usualEngines : kernelEngines.filter(({ name }) => enginesInside.includes(name));
  const here = hereMachine(loaded, guest, qemu);
  const own = loaded.map(async (engine): Promise<Place> => {
    return { machine: here, engines: [engineRow(engine.name)], available: await engine.available() };
  });
  const booted = kernels.map(async (spec): Promise<Place> => {
    const machine = await kernelMachine({
      spec,
      modulesDirectory: spec.kind === "file" ? modulesDirectory : null,
      engines: inside,
      guest,
      qemu,
      kvm,
    });
    return { machine, engines: inside, available: bootSupport() };
  });
  return Promise.all([...own, ...booted]);
}

const KERNEL_PREFIX = "kernel:";

/** The SPEC of `kernel:SPEC`; null for the name of an engine. */
export function kernelOfName(name: string): string | null {
  return name.startsWith(KERNEL_PREFIX) ? name.slice(KERNEL_PREFIX.length) : null;
}

/** The place of one name: an engine on this machine, or `kernel:SPEC`. Rejects for a name that means nothing. */
export async function loadPlace(name: string): Promise<Place> {
  const kernel = kernelOfName(name);
  const spec = kernel === null ? null : parseKernelSpec(kernel);
  if (spec?.kind === "problem") throw new Error(spec.message);
  const asked = spec === null ? { engines: [name], kernels: [] } : { engines: [], kernels: [spec] };
  const [place] = await loadPlaces({ ...asked, modulesDirectory: null });
  if (place === undefined) throw new Error(`there is no engine ${name}`);
  return place;
}
