/**
 * The result of an engine: observations, never a verdict. One JSON object that crosses process borders;
 * 64-bit numbers are bigint in memory and "0x.." strings in JSON (see `report/jsonl`).
 */
import type { KvmPart, Transport } from "./axes.ts";
import type { ByStep, Outcome } from "./outcome.ts";
import type { Access, EventKind, HostResult, Vmm } from "./vocabulary.ts";

/** The name of an engine, as it is registered: `kvm`. The language knows engines by their nature alone. */
export type EngineName = string;

/** The features of an engine on which the meaning of its evidence depends. */
export type EngineNature = {
  /**
   * Something real ran the case: it has mounts, addresses and events that happened. false: a model, whose events are those
   * of one interleaving of many, and whose times are steps.
   */
  readonly isReal: boolean;
  /** KVM ran the guest: it has a backend, and a DAX window where the scenario asks for one. */
  readonly runsKvm: boolean;
  /** The guest is Linux: whatever persona the proposal wishes for, it is what its kernel is. */
  readonly isLinuxGuest?: true;
  /** The VMM is QEMU, a program of its own; left out: ours, or none. Without KVM it emulates the guest (TCG). */
  readonly vmm?: "qemu";
};

/** Where an engine runs: on this machine, or inside a VM that has booted the kernel that the user calls SPEC. */
export type MachineName = "here" | `kernel:${string}`;

/** The common name of a case's engine and machine: `kvm`; the usual engine of a kernel; a Linux guest on that kernel. */
export type PlaceName = EngineName | `kernel:${string}` | `${EngineName}@kernel:${string}`;

/** As tables and records have it: `kvm`, `kernel:debian:6.12`, `linux@kernel:debian:6.12`. */
export function placeName({
  engine,
  machine,
  nature,
}: {
  readonly engine: EngineName;
  readonly machine: MachineName;
  readonly nature: EngineNature;
}): PlaceName {
  if (machine === "here") return engine;
  return nature.isLinuxGuest ? `${engine}@${machine}` : machine;
}

/** How much of what could have happened was looked at. Only `exhaustive` may say "never" or "always". */
export type Exhaustiveness =
  | { readonly kind: "exhaustive"; readonly states: number }
  | { readonly kind: "bounded"; readonly by: string; readonly states: number }
  | { readonly kind: "sampled"; readonly runs: number; readonly seed: number | null };

/**
 * Proof of what really executed the case, collected at the place where it ran. Compared with what was asked for:
 * evidence from the wrong engine proves nothing.
 */
export type Attestation = {
  /** The engine that ran the case itself, also inside a VM. */
  readonly engine: EngineName;
  /** uname -r of the kernel that ran the case. */
  readonly kernel: string;
  /** Module behind /dev/kvm: kvm_intel, kvm_amd, kvm_pvm ..; null for engines without KVM. */
  readonly kvmBackend: string | null;
  /** Parameters of the KVM modules: `kvm_amd.npt` -> `Y` (/sys/module/MODULE/parameters). Empty without KVM. */
  readonly kvmParameters: Readonly<Record<string, string>>;
  /** KVM capabilities by name with KVM_CHECK_EXTENSION's answer. Empty without KVM. */
  readonly capabilities: Readonly<Record<string, number>>;
  /** As created: is the local APIC in the kernel? null without KVM. */
  readonly lapic: "user" | "kernel" | null;
  /** MSR_KVM_ASYNC_PF_EN read back with KVM_GET_MSRS at the end; null where KVM has no such MSR. */
  readonly apfEnabled: boolean | null;
  readonly pageSize: number;
  /** FUSE transport that the host actor's mount really used, read from the mount table; null if none was needed. */
  readonly transport: Transport | null;
  /** Size of the DAX window in bytes, or null if the case has none. */
  readonly windowBytes: number | null;
  /** The VM that the case ran inside of, on a kernel that was booted for it; null on the machine itself. */
  readonly vm: KernelVmFacts | null;
  /** The Linux guest of the case; null where the guest is another one, or there is none. */
  readonly guest: LinuxGuestFacts | null;
};

/** A patch that a kernel was built with. */
export type PatchFacts = {
  /** As the SPEC names it: a proposal, or a file. */
  readonly name: string;
  /** Of its text. */
  readonly sha256: string;
};

/** A Linux guest: what was booted, and what of its set-up decides what it does about a lost page. */
export type LinuxGuestFacts = {
  /** The user's name for its kernel: the SPEC. */
  readonly kernel: string;
  /** The package and its version, or the path. */
  readonly origin: string;
  /** SHA-256 of the image. */
  readonly imageSha256: string;
  /** In the order of application; empty: it was not built here, or without any. */
  readonly patches: readonly PatchFacts[];
  /** `uname -r` of the image. */
  readonly release: string;
  readonly commandLine: string;
  readonly cpus: number;
  /** Cases that this boot had served before, this one included. */
  readonly bootCase: number;
  /** KVM_FEATURE_ASYNC_PF and its relatives in CPUID. */
  readonly asyncPageFaults: "offered" | "hidden";
  /** AMD's overflow recovery and SUCCOR in CPUID. */
  readonly machineCheckRecovery: "offered" | "hidden";
  /** How the file is mounted: `virtiofs dax=always`. */
  readonly mount: string;
  /** Of a guest in QEMU; left out: on our own VMM. */
  readonly qemu?: QemuFacts;
};

/** The QEMU of a Linux guest, and what the guest found there. */
export type QemuFacts = {
  /** A path, or the package and its version. */
  readonly origin: string;
  readonly version: string;
  readonly accelerator: "kvm" | "tcg";
  /** The run state that QMP's query-status said last, before QEMU was ended or had gone. */
  readonly status: string;
  /** Version of FUSE in the guest's kernel: `7.41`; null: it did not say. */
  readonly fuse: string | null;
  /** Of the DAX window, as the guest's driver found it; null: there was none. */
  readonly daxWindowBytes: number | null;
};

/** A VM that booted a kernel under test: what was asked for from outside, what was found inside. */
export type KernelVmFacts = {
  /** The user's name for the kernel: the SPEC. */
  readonly kernel: string;
  /** The package and its version, or the path. */
  readonly origin: string;
  /** SHA-256 of the image. */
  readonly imageSha256: string;
  /** In the order of application; empty: it was not built here, or without any. */
  readonly patches: readonly PatchFacts[];
  /** The proposal that its KVM has built in. */
  readonly kvm: KvmPart;
  /** `uname -r` that the image must have; null where it does not contain it. */
  readonly imageRelease: string | null;
  /** The id that this boot was given. */
  readonly bootId: string;
  /** /proc/cmdline, read inside. */
  readonly commandLine: string;
  readonly qemu: string;
  readonly accelerator: "kvm" | "tcg";
  readonly cpus: number;
  readonly memoryMiB: number;
};

export type TraceEvent = {
  readonly kind: EventKind;
  /** Which actor, or `kvm`, `vmm`, `guest`. */
  readonly actor: string;
  /** Milliseconds since the case began (monotonic). */
  readonly atMs: number;
  /** Guest physical address, where the event has one. */
  readonly gpa: bigint | null;
  /** One line of text: `#PF error 0x4 cr2 0x1000`. */
  readonly detail: string;
  /** Of a host actor's call: how long it took, in milliseconds. */
  readonly tookMs?: number;
};

/** Tracepoints of the kernel's own KVM, as tracefs gives them, one a line. */
export type KvmTrace =
  | {
      readonly kind: "trace";
      /** The enabled tracepoints: `kvm:kvm_page_fault`. */
      readonly events: readonly string[];
      /** From the first on; about the guest's window only. */
      readonly lines: readonly string[];
      /** How many more there were. */
      readonly cut: number;
    }
  | { readonly kind: "none"; readonly reason: string };

/** An outcome with its figures. */
export type Observations = {
  readonly accesses: ByStep<Access>;
  readonly host: ByStep<HostResult>;
  readonly vmm: readonly Vmm[] | null;
} & Pick<Outcome, "guestKernel" | "bystanders">;

/** What a model knows of an end beside its outcome; properties need it, comparisons with real runs do not. */
export type EndFacts = {
  /** KVM_RUN returned for a failed access while another task than its own was current. */
  readonly exitElsewhere: boolean;
  /** An access met a lost page that was still mapped: nothing had taken the mapping away before. */
  readonly metLostPage: boolean;
  /** The NMI of the case came. */
  readonly nmi: boolean;
};

/** One of the ways in which a model lets a case end. */
export type ModelEnd = {
  readonly observations: Observations;
  readonly facts: EndFacts;
  /** A shortest way to it, as `daxfault explore --replay` takes it. */
  readonly token: string;
};

export type Evidence = {
  readonly attestation: Attestation;
  readonly observations: Observations;
  /** Of a model: every way to end, the first one being `observations`. Empty for what happened once. */
  readonly ends: readonly ModelEnd[];
  readonly counts: Readonly<Partial<Record<EventKind, number>>>;
  /** KVM's own counters (KVM_GET_STATS_FD) by name, of the vCPU, at the end, and the guest's (`guest_..`). Empty without KVM. */
  readonly counters: Readonly<Record<string, bigint>>;
  /**
   * By actor, then by step label: how long the access was under way, in milliseconds, until it had come back or its failure
   * was reported to its task. Only of accesses that ended so, and of engines that take time.
   */
  readonly accessMs: Readonly<Record<string, Readonly<Record<string, number>>>>;
  readonly trace: readonly TraceEvent[];
  /** Where the kernel is the case's alone: on machines `kernel:SPEC`. null: not asked for. */
  readonly kvmTrace: KvmTrace | null;
  /** Of a Linux guest, while the case ran: the last lines. */
  readonly guestConsole?: readonly string[];
  readonly exhaustiveness: Exhaustiveness;
  readonly durationMs: number;
};

/**
 * An engine returns either evidence or the reason for none. A time-out, a crash of the engine, a lost child, a machine
 * that had no time for the case and an emulator that erred are distinct.
 */
export type RunResult =
  | { readonly kind: "evidence"; readonly evidence: Evidence }
  | { readonly kind: "timeout"; readonly message: string }
  | { readonly kind: "engine-error"; readonly message: string }
  /** The machine was too busy with something else: whatever was seen may be its doing. The message has the figures. */
  | { readonly kind: "busy"; readonly message: string }
  /** The emulator under the kernel did what no processor does: whatever was seen may be its doing. */
  | { readonly kind: "emulator-defect"; readonly message: string }
  /** Known only where it was to run: that kernel or that machine cannot. */
  | { readonly kind: "unsupported"; readonly message: string }
  /** The kernel that ran the case died of it, or meanwhile: an observation of the gravest kind. */
  | { readonly kind: "kernel-crash"; readonly message: string };
