/**
 * What an engine returns: observations, never a verdict. One JSON object that crosses process borders;
 * 64-bit numbers are bigint in memory and "0x.." strings in JSON (see `report/jsonl`).
 */
import type { Access, Bystander, EventKind, GuestKernel, HostStep, Vmm } from "./vocabulary.ts";

export type EngineName = "model" | "process" | "kvm";

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
  readonly engine: EngineName;
  /** uname -r of the kernel that ran the case. */
  readonly kernel: string;
  /** Module behind /dev/kvm: kvm_intel, kvm_amd, kvm_pvm ..; null for engines without KVM. */
  readonly kvmBackend: string | null;
  /** KVM capabilities by name with KVM_CHECK_EXTENSION's answer. Empty without KVM. */
  readonly capabilities: Readonly<Record<string, number>>;
  /** As created: is the local APIC in the kernel? null without KVM. */
  readonly lapic: "user" | "kernel" | null;
  /** MSR_KVM_ASYNC_PF_EN read back with KVM_GET_MSRS at the end; null where KVM has no such MSR. */
  readonly apfEnabled: boolean | null;
  readonly pageSize: number;
  /** FUSE transport that the host actor's mount really used, read from the mount table; null if none was needed. */
  readonly transport: "libfuse" | "devfuse" | null;
  /** Size of the DAX window in bytes, or null if the case has none. */
  readonly windowBytes: number | null;
};

export type TraceEvent = {
  readonly kind: EventKind;
  /** Which actor, or `kvm`, `vmm`, `guest`. */
  readonly actor: string;
  /** Milliseconds since the case began (monotonic). */
  readonly atMs: number;
  /** Guest physical address, where the event has one. */
  readonly gpa: bigint | null;
  /** One line for people: `#PF error 0x4 cr2 0x1000`. */
  readonly detail: string;
};

export type Observations = {
  /** By actor, then by step label (`load#2`): what the access saw. */
  readonly accesses: Readonly<Record<string, Readonly<Record<string, Access>>>>;
  /** By actor, then by step label (`truncate#1`). */
  readonly host: Readonly<Record<string, Readonly<Record<string, HostStep>>>>;
  /** History, never empty; null for engines without a VMM. */
  readonly vmm: readonly Vmm[] | null;
  readonly guestKernel: GuestKernel | null;
  /** By actor, for tasks that only count. */
  readonly bystanders: Readonly<Record<string, Bystander>>;
};

export type Evidence = {
  readonly attestation: Attestation;
  readonly observations: Observations;
  readonly counts: Readonly<Partial<Record<EventKind, number>>>;
  /** KVM's own counters (KVM_GET_STATS_FD) by name, of the vCPU, at the end, and the guest's (`guest_..`). Empty without KVM. */
  readonly counters: Readonly<Record<string, bigint>>;
  /**
   * By actor, then by step label: how long the access was under way, in milliseconds, until it had come back or its task was
   * told. Only of accesses that came to that, and of engines that take time.
   */
  readonly accessMs: Readonly<Record<string, Readonly<Record<string, number>>>>;
  readonly trace: readonly TraceEvent[];
  readonly exhaustiveness: Exhaustiveness;
  readonly durationMs: number;
};

/** An engine either has evidence or says why not. A time-out, a crash of the engine and a lost child are told apart. */
export type RunResult =
  | { readonly kind: "evidence"; readonly evidence: Evidence }
  | { readonly kind: "timeout"; readonly message: string }
  | { readonly kind: "engine-error"; readonly message: string };
