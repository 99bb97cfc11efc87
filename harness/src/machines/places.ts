/** The places that are asked for on the command line or by a program: engines on this machine, kernels with theirs. */
import type { EngineName, KvmPart } from "../../../language/src/index.ts";
import { engineRow, kernelEngines, loadEngine } from "../engines/registry.ts";
import {
  type GuestAsked,
  type KernelSpec,
  kernelOfName,
  parseKernelSpec,
  usualGuest,
} from "../kernel/spec.ts";
import type { Place } from "../run/plan.ts";
import { hereMachine } from "./here.ts";

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

/** Kernels that are to be booted. What boots them is loaded only where one is asked for. */
async function loadKernels(
  { kernels, enginesInside = null, modulesDirectory, qemu = null, kvm = null }: PlacesAsked,
  guest: GuestAsked,
): Promise<readonly Place[]> {
  if (kernels.length === 0) return [];
  const { bootSupport, kernelMachine, usualEngines } = await import("./kernel/machine.ts");
  const inside =
    enginesInside === null ? usualEngines : kernelEngines.filter(({ name }) => enginesInside.includes(name));
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
  return Promise.all(booted);
}

/** The engines are loaded, nothing is opened. */
export async function loadPlaces(asked: PlacesAsked): Promise<readonly Place[]> {
  const { engines, guestKernel = null, modulesDirectory } = asked;
  const loaded = await Promise.all(engines.map(loadEngine));
  const guest = guestKernel === null ? usualGuest : { spec: guestKernel, modulesDirectory };
  const here = hereMachine(loaded, guest, asked.qemu ?? null);
  const own = loaded.map(async (engine): Promise<Place> => {
    return { machine: here, engines: [engineRow(engine.name)], available: await engine.available() };
  });
  return [...(await Promise.all(own)), ...(await loadKernels(asked, guest))];
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
