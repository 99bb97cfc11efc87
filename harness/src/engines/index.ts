/**
 * The engines, in the order of reports. Each is loaded when it is asked for: what one needs (native modules, KVM)
 * must not keep another from running, nor cost time where only a list is wanted.
 */

import { type EngineName, isKernelEngine, type LocalEngineName } from "../../../language/src/index.ts";
import type { Engine } from "../engine.ts";
import { parseKernelSpec } from "../kernel/spec.ts";
import { checkedEngine } from "./checked.ts";
import type { KernelEngineOptions } from "./kernel/engine.ts";

const loaders: Readonly<Partial<Record<LocalEngineName, () => Promise<Engine>>>> = {
  model: async () => (await import("./model/engine.ts")).modelEngine,
  process: async () => (await import("./process/engine.ts")).processEngine,
  kvm: async () => (await import("./kvm/engine.ts")).kvmEngine,
};

export const engineNames: readonly LocalEngineName[] = Object.keys(loaders) as LocalEngineName[];

/** An engine by name, held to its contract. Rejects for a name that means nothing. */
export async function loadEngine(name: EngineName): Promise<Engine> {
  if (isKernelEngine(name)) {
    const spec = parseKernelSpec(name.slice("kernel:".length));
    if (spec.kind === "problem") throw new Error(spec.message);
    return loadKernelEngine({ spec, modulesDirectory: null });
  }
  const loader = loaders[name];
  if (loader === undefined) throw new Error(`there is no engine ${name}`);
  return checkedEngine(await loader());
}

/** An engine inside a VM that boots a kernel. */
export async function loadKernelEngine(options: KernelEngineOptions): Promise<Engine> {
  const { kernelEngine } = await import("./kernel/engine.ts");
  return checkedEngine(kernelEngine(options));
}
