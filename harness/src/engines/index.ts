/**
 * The engines, in the order of reports. Each is loaded when it is asked for: what one needs (native modules, KVM)
 * must not keep another from running, nor cost time where only a list is wanted.
 */
import type { Engine } from "../engine.ts";
import type { EngineName } from "../evidence.ts";
import { checkedEngine } from "./checked.ts";

const loaders: Readonly<Partial<Record<EngineName, () => Promise<Engine>>>> = {
  model: async () => (await import("./model/engine.ts")).modelEngine,
  process: async () => (await import("./process/engine.ts")).processEngine,
  kvm: async () => (await import("./kvm/engine.ts")).kvmEngine,
};

export const engineNames: readonly EngineName[] = Object.keys(loaders) as EngineName[];

/** An engine by name, held to its contract. */
export async function loadEngine(name: EngineName): Promise<Engine> {
  const loader = loaders[name];
  if (loader === undefined) throw new Error(`there is no engine ${name}`);
  return checkedEngine(await loader());
}
