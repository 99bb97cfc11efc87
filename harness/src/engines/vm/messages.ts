/** Messages between an engine with a VM and the VM process of a case. */

import type { EventKind, LinuxGuestFacts } from "../../../../language/src/index.ts";
import type {
  EndReason,
  FinalState,
  LoopProof,
  Place,
  StepResult,
  TaskState,
  VcpuExit,
} from "../../../../vmm/src/index.ts";
import type { Share } from "../attendance.ts";
import type { CasePlan } from "./plan.ts";

export type ToVm<Plan extends CasePlan> =
  | { readonly type: "start"; readonly plan: Plan }
  | { readonly type: "signal"; readonly name: string }
  /** Every host actor has done its last step. */
  | { readonly type: "host-settled" }
  /** The answer to `take`. */
  | { readonly type: "taken" };

export type FromVm =
  /**
   * The window is mapped and the vCPU is about to run. `filePath`: what is mapped, as other processes reach it, if it is
   * not the case's file (a sealed copy).
   */
  | { readonly type: "ready"; readonly filePath: string | null }
  | { readonly type: "signal"; readonly name: string; readonly from: string }
  /** An access that has finished, sent before the next signal of any task: the file is still unchanged. */
  | { readonly type: "saw"; readonly task: number; readonly step: number; readonly bytes: Uint8Array }
  /**
   * Who is about to change the file, or what is mapped of it, waits until what was sent has been taken. With what is lost if
   * that is the end of the process.
   */
  | ({ readonly type: "take" } & Pick<FinalState, "asyncPageFaultMsr">)
  /**
   * The case is over and something still waits for a page: a thread of a vCPU, or a worker of KVM's. Its report follows
   * once nothing does.
   */
  | { readonly type: "waits" }
  | { readonly type: "report"; readonly report: VmReport }
  /** Nothing of the case is left in the process: it may have another one. */
  | { readonly type: "idle" };

/** One state that the VMM went through. */
export type VmState =
  | { readonly kind: "running" }
  | { readonly kind: "stopped"; readonly exit: VcpuExit; readonly place: Place | null }
  | {
      readonly kind: "looping";
      readonly proof: LoopProof;
      readonly faultsPerSecond: number;
      readonly place: Place | null;
    }
  | { readonly kind: "waiting"; readonly place: Place | null }
  /** A VMM that is a program of its own: its process has gone, and the guest with it. */
  | { readonly kind: "killed"; readonly signal: string };

export type VmEvent = {
  readonly kind: EventKind;
  readonly actor: string;
  /** CLOCK_MONOTONIC, in milliseconds with fractions. */
  readonly atMonotonicMs: number;
  readonly gpa: bigint | null;
  readonly detail: string;
};

export type TaskReport = {
  readonly actor: string;
  readonly state: TaskState;
  readonly currentStep: number;
  readonly count: bigint;
  /**
   * Growth of `count` since the guest got into trouble; without trouble while an access waited for I/O (`waiting.ts`);
   * over the whole case if none did.
   */
  readonly countSinceTrouble: bigint;
  /** What the thread of its vCPU got over the same time; null: not known. */
  readonly share: Share | null;
  /** By step. */
  readonly results: readonly Pick<StepResult, "status" | "number" | "began" | "ended">[];
};

export type VmReport = {
  readonly capabilities: Readonly<Record<string, number>>;
  readonly history: readonly VmState[];
  readonly end: EndReason;
  /** The life limit ended it: what is pending neither returned nor was proven to loop. */
  readonly outOfTime: boolean;
  readonly final: FinalState | null;
  readonly tasks: readonly TaskReport[];
  readonly apfNotPresentCount: number;
  readonly apfReadyCount: number;
  readonly nmiCount: number;
  readonly oopsCount: number;
  /** Scheduling decisions of the guest's kernel, in all and since the guest got into trouble: it is alive. */
  readonly heartbeat: number;
  readonly heartbeatSinceTrouble: number;
  readonly events: readonly VmEvent[];
  /** Of a Linux guest. */
  readonly guest?: { readonly facts: LinuxGuestFacts; readonly console: readonly string[] };
};
