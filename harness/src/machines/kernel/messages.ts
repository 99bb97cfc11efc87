/** Messages between the machine outside and the agent inside a VM. */
import type { EngineName, Proposal, RunResult, Scenario } from "../../../../language/src/index.ts";
import type { BuiltIn, DaxQemu, GuestKernel, NoDaxQemu } from "../../engine.ts";

/** What the agent is started with. */
export type AgentTask = {
  /** The kernel of Linux guests, in files of the root file system; null: there are none. */
  readonly guest: GuestKernel | null;
  /** QEMU for those that run in it; null: none does. */
  readonly qemu: DaxQemu | NoDaxQemu | null;
  /** Beside so many processes that never sleep. */
  readonly busy: number;
};

export type ToInside = {
  readonly type: "run";
  readonly id: number;
  readonly engine: EngineName;
  readonly scenario: Scenario;
  readonly proposal: Proposal;
  /** What the kernel inside and that of Linux guests were built with. */
  readonly builtIn: BuiltIn;
  readonly timeoutMs: number;
  readonly slowness: number;
};

/** The agent's findings before the first case. */
export type InsideFacts = {
  /** The engine that was asked for KVM's capabilities. */
  readonly engine: EngineName;
  /** uname -r */
  readonly kernel: string;
  /** /proc/cmdline */
  readonly commandLine: string;
  readonly kvmBackend: string | null;
  readonly kvmParameters: Readonly<Record<string, string>>;
  readonly capabilities: Readonly<Record<string, number>>;
  /** Where cases have their files, and on what. */
  readonly fileSystem: string;
};

export type FromInside =
  | { readonly type: "hello"; readonly facts: InsideFacts }
  | { readonly type: "result"; readonly id: number; readonly result: RunResult };
