/**
 * The engines, one row each, in the order of reports: from the model to the nearest to reality. Nothing else lists them:
 * names on the command line, the schema of records, doctor, plans and preferences are read off these rows. Each engine is
 * loaded when it is asked for: what one needs (native modules, KVM) must not keep another from running, nor cost time
 * where only a list is wanted.
 */

import type { EngineName, Proposal, Scenario } from "../../../language/src/index.ts";
import type { BuiltIn, Engine, EngineKind, Support } from "../engine.ts";
import type { FeatureName } from "../machine.ts";

export type SupportsCase = (scenario: Scenario, proposal: Proposal, builtIn?: BuiltIn) => Support;

export type EngineRow = EngineKind & {
  /** Whether it runs where no engine is named. */
  readonly byDefault: boolean;
  /** Features of a machine that it cannot do without. */
  readonly needs: readonly FeatureName[];
  /** Features that some of its scenarios need besides. */
  readonly someNeed: readonly FeatureName[];
  readonly load: () => Promise<Engine>;
  /**
   * KVM injects interrupts into its guests, also beside what a case asks for (timers, devices): emulated, their kernel gets
   * one CPU (machines/kernel/cpus.ts).
   */
  readonly guestTakesInterrupts: boolean;
  /** Whether a booted kernel can run a case on it, as far as is known before the kernel is up; null: not inside kernels. */
  readonly inKernels: (() => Promise<SupportsCase>) | null;
};

const rows = [
  {
    name: "model",
    nature: { isReal: false, runsKvm: false },
    proposals: "all",
    byDefault: true,
    needs: [],
    someNeed: [],
    load: async (): Promise<Engine> => (await import("./model/engine.ts")).modelEngine,
    guestTakesInterrupts: false,
    inKernels: null,
  },
  {
    name: "mmap-io",
    nature: { isReal: true, runsKvm: false },
    proposals: "without-vm",
    byDefault: false,
    needs: ["mmap-io"],
    someNeed: ["fuse", "root"],
    load: async (): Promise<Engine> => (await import("./mmap-io/engine.ts")).mmapIoEngine,
    guestTakesInterrupts: false,
    inKernels: null,
  },
  {
    name: "process",
    nature: { isReal: true, runsKvm: false },
    proposals: "without-vm",
    byDefault: true,
    needs: ["steps"],
    someNeed: ["fuse", "root", "direct-io"],
    load: async (): Promise<Engine> => (await import("./process/engine.ts")).processEngine,
    guestTakesInterrupts: false,
    inKernels: async (): Promise<SupportsCase> => () => ({ kind: "yes" }),
  },
  {
    name: "kvm",
    nature: { isReal: true, runsKvm: true },
    proposals: "with-vm",
    byDefault: true,
    needs: ["kvm", "micro-guest"],
    someNeed: ["fuse", "root", "swap", "hugetlb", "userfaultfd", "memory-failure"],
    load: async (): Promise<Engine> => (await import("./kvm/engine.ts")).kvmEngine,
    guestTakesInterrupts: true,
    inKernels: async (): Promise<SupportsCase> => (await import("./kvm/plan.ts")).supportsAnywhere,
  },
  {
    name: "linux",
    nature: { isReal: true, runsKvm: true, isLinuxGuest: true },
    proposals: "with-vm",
    byDefault: false,
    needs: ["linux-guest", "kvm"],
    someNeed: ["fuse", "root"],
    guestTakesInterrupts: true,
    load: async (): Promise<Engine> => (await import("./linux/engine.ts")).linuxEngine,
    inKernels: async (): Promise<SupportsCase> => (await import("./linux/plan.ts")).supportsOwnVmm,
  },
  {
    name: "linux-qemu-tcg",
    nature: { isReal: true, runsKvm: false, isLinuxGuest: true, vmm: "qemu" },
    proposals: "without-kvm",
    byDefault: false,
    needs: ["steps"],
    someNeed: ["fuse", "root"],
    guestTakesInterrupts: false,
    load: async (): Promise<Engine> => (await import("./linux/qemu/engine.ts")).qemuTcgEngine,
    inKernels: null,
  },
  {
    name: "linux-qemu",
    nature: { isReal: true, runsKvm: true, isLinuxGuest: true, vmm: "qemu" },
    proposals: "with-vm",
    byDefault: false,
    needs: ["linux-guest", "kvm"],
    someNeed: ["fuse", "root"],
    guestTakesInterrupts: true,
    load: async (): Promise<Engine> => (await import("./linux/qemu/engine.ts")).qemuKvmEngine,
    inKernels: async (): Promise<SupportsCase> => {
      const { supportsQemu } = await import("./linux/qemu/plan.ts");
      return (...asked) => supportsQemu("kvm", ...asked);
    },
  },
] as const;

/** The names of the engines. */
export type RegisteredName = (typeof rows)[number]["name"];

export const engineRows: readonly EngineRow[] = rows;
export const engineNames: readonly RegisteredName[] = rows.map(({ name }) => name);

/** The engine whose VMM `--vmm` names. */
export const LINUX: RegisteredName = "linux";

/** The VMMs of a Linux guest: ours, and upstream QEMU. */
export const vmmNames = ["own", "qemu"] as const;
export type VmmName = (typeof vmmNames)[number];

/** The engine with a Linux guest in that VMM. @param withKvm KVM runs the guest; only QEMU can do without */
export function linuxEngineIn(vmm: VmmName, withKvm: boolean): RegisteredName {
  switch (vmm) {
    case "own":
      return LINUX;
    case "qemu":
      return withKvm ? "linux-qemu" : "linux-qemu-tcg";
  }
}

/** Those that run where none is named. */
export const defaultNames: readonly RegisteredName[] = rows
  .filter(({ byDefault }) => byDefault)
  .map(({ name }) => name);

/** The engines that run nothing real: their outcomes are no observations. */
export const modelNames: readonly EngineName[] = engineRows
  .filter(({ nature }) => !nature.isReal)
  .map(({ name }) => name);
/** Of the others, the nearest to reality first. */
export const realNames: readonly EngineName[] = engineNames
  .filter((name) => !modelNames.includes(name))
  .toReversed();

/** The engines that run inside booted kernels. */
export const kernelEngines: readonly EngineRow[] = engineRows.filter(({ inKernels }) => inKernels !== null);

/** The options that name an engine with a Linux guest, and the guest's kernel; empty for another engine. */
export function guestOption(
  name: EngineName,
  guest: { readonly spec: { readonly text: string } } | undefined,
): string {
  if (!engineRow(name).nature.isLinuxGuest) return "";
  const kernel = guest === undefined ? "" : `--guest-kernel ${guest.spec.text} `;
  const vmm = engineRow(name).nature.vmm === undefined ? "" : `--vmm ${engineRow(name).nature.vmm} `;
  return `--engine ${vmm === "" ? name : LINUX} ${vmm}${kernel}`;
}

/** The row of an engine. Throws for a name that means nothing. */
export function engineRow(name: EngineName): EngineRow {
  const row = engineRows.find((one) => one.name === name);
  if (row === undefined) throw new Error(`there is no engine ${name}`);
  return row;
}

/** An engine by name, held to its contract. */
export async function loadEngine(name: EngineName): Promise<Engine> {
  const { checkedEngine } = await import("./checked.ts");
  return checkedEngine(await engineRow(name).load());
}
