/**
 * The two ports of a run. `Engine`: how a case is executed; an adapter interprets the scenario's steps in its own way
 * and returns evidence, never a verdict. `checkedEngine` wraps every adapter and lists all breaches of this contract.
 * `Machine`: where engines run, here or inside a VM that has booted a kernel.
 */

import type {
  Attestation,
  EngineName,
  EngineNature,
  KvmPart,
  MachineName,
  PatchFacts,
  Proposal,
  RunResult,
  Scenario,
  TraceEvent,
} from "../../language/src/index.ts";

export type Case = {
  readonly scenario: Scenario;
  readonly proposal: Proposal;
  readonly engine: EngineName;
  readonly nature: EngineNature;
  readonly machine: MachineName;
};

/** yes, or no with one sentence why and, where something can be done, what. */
export type Support =
  | { readonly kind: "yes" }
  | { readonly kind: "no"; readonly reason: string; readonly fix: string | null };

/** The proposals that kernels were built with; `today`: none. */
export type BuiltIn = {
  /** KVM's of the kernel under test. */
  readonly kvm: KvmPart;
  /** What the kernel of Linux guests understands. */
  readonly guest: KvmPart;
};

export const stockKernels: BuiltIn = { kvm: "today", guest: "today" };

/** The context that a run gives each case. */
export type CaseContext = {
  /** An empty folder of this case's own inside the run directory; removed by the run, mounts below it included. */
  readonly directory: string;
  /** Hard limit of the whole case, preparation and cleaning up included. */
  readonly timeoutMs: number;
  /** Aborted by Ctrl-C: end at once, leave nothing. */
  readonly signal: AbortSignal;
  /** Told of events while they happen, as far as the engine sees them then; the evidence has all of them. */
  readonly onEvent?: (event: TraceEvent) => void;
  /** How many times slower than on a real machine things may be (emulation): an engine's own limits are multiplied by it. */
  readonly slowness: number;
};

/** The kernel of a Linux guest, in files that can be read where the engine runs. */
export type GuestKernel = {
  /** The SPEC's text. */
  readonly name: string;
  /** The package and its version, or the path. */
  readonly origin: string;
  /** `uname -r`; null where the image does not contain it. */
  readonly release: string | null;
  /** SHA-256 of the image. */
  readonly sha256: string;
  /** What its sources were patched with; empty: nothing. */
  readonly patches: readonly PatchFacts[];
  /** A vmlinux, or a bzImage. */
  readonly imagePath: string;
  /** With its modules and the only program of the guest (vmm/guest/linux). */
  readonly initrdPath: string;
  /** The same with the kernel's KVM. */
  readonly nestedInitrdPath: string;
  /** The same with the drivers of virtio by PCI, for a guest in QEMU. */
  readonly pciInitrdPath: string;
  /** What it lacks to be a guest in QEMU, a text each; empty: nothing, or its configuration is not at hand. */
  readonly lacksInQemu: readonly string[];
};

/** A QEMU with a DAX window for virtio-fs (kernel/dax-qemu.ts). */
export type DaxQemu = {
  /** The program, and the arguments that come first. */
  readonly command: readonly string[];
  /** As `--version` says it. */
  readonly version: string;
  /** A path, or the package and its version. */
  readonly origin: string;
};

/** One that cannot be had, as far as is known elsewhere: why. */
export type NoDaxQemu = { readonly failure: string };

/** The context that a run gives an engine or a machine as a whole. */
export type OpenContext = {
  /** A folder inside the run's. */
  readonly directory: string;
  readonly signal: AbortSignal;
  /** Beside so many processes that never sleep, on the machine whose kernel runs the cases; none if left out. */
  readonly busy?: number;
  /** Gets the guest's kernel: downloads and unpacks what is not there. Rejects with a KernelError. Asked by engines with a Linux guest. */
  readonly guestKernel?: () => Promise<GuestKernel>;
  /** Gets a QEMU with a DAX window, likewise. Asked by engines with a Linux guest in QEMU. */
  readonly daxQemu?: () => Promise<DaxQemu>;
};

/** An engine as cases are planned for it. */
export type EngineKind = {
  readonly name: EngineName;
  readonly nature: EngineNature;
  /**
   * The proposals that it carries out: those with a VM, those without one, those that are not about KVM (`native`, and the
   * file server's), or all, also those that no kernel has.
   */
  readonly proposals: "with-vm" | "without-vm" | "without-kvm" | "all";
};

export interface Engine {
  readonly name: EngineName;
  /** One line for `daxfault list engines`. */
  describe(): string;
  /** Can this machine run it at all? Detects features, never versions. */
  available(): Promise<Support>;
  /**
   * Can it run this case? Pure.
   * @param builtIn what the kernels have that it would run on; left out: stock kernels
   */
  supports(scenario: Scenario, proposal: Proposal, builtIn?: BuiltIn): Support;
  /** Before its first case. Does not reject for a missing resource: its cases then report it. */
  open(context: OpenContext): Promise<void>;
  /** What will run the cases, printed before the first one. Each evidence carries its own, taken where it ran. */
  attest(): Promise<Attestation>;
  /** Never rejects for what a case does (hang, crash, signal): those are observations. */
  run(scenario: Scenario, proposal: Proposal, context: CaseContext): Promise<RunResult>;
  close(): Promise<void>;
}

/** The console output of one boot of a machine. */
export type BootConsole = {
  /** The id that the boot was given. */
  readonly bootId: string;
  readonly lines: readonly string[];
};

export type Opening =
  /** It was up already. */
  | { readonly kind: "up" }
  /** It was booted; null: it did not come up, and its cases have the reason. */
  | { readonly kind: "booted"; readonly attestation: Attestation | null };

export interface Machine {
  readonly name: MachineName;
  /** The options that name it and the engine; null: `--engine NAME`. */
  option(engine: EngineName): string | null;
  readonly builtIn: BuiltIn;
  /** Its cases have it to themselves: one at a time, whatever `--jobs` is. */
  readonly isAlone: boolean;
  /** Can the engine run this case on it, as far as is known before it is open? Pure. */
  supports(engine: EngineName, scenario: Scenario, proposal: Proposal): Support;
  /** What will run the engines' cases, as far as is known before it is open. */
  attestations(engines: readonly EngineName[]): Promise<readonly Attestation[]>;
  /** Before the first case, for the engines that have cases. Does not reject for a missing resource: its cases then report it. */
  open(engines: readonly EngineName[], context: OpenContext): Promise<Opening>;
  /** How much slower than a real machine it runs a case: 1, or more under emulation. */
  slowness(one: Pick<Case, "nature">): number;
  /**
   * Before each case, outside its limit: puts right what an earlier case has broken. Does not reject: where that is not
   * possible, `run` says why.
   */
  recover(): Promise<void>;
  /** Runs a case on one of its engines, under the contract of `Engine.run`. */
  run(one: Case, context: CaseContext): Promise<RunResult>;
  /** The output of its consoles so far, boot by boot; empty where it was not booted. */
  consoles(): readonly BootConsole[];
  close(): Promise<void>;
}
