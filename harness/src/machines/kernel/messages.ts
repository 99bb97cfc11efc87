/** Messages between the machine outside and the agent inside a VM. */
import type { EngineName, Proposal, RunResult, Scenario } from "../../../../language/src/index.ts";
import type { BuiltIn } from "../../engine.ts";

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
