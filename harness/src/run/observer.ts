/** Events of a run while it runs. The run neither records nor prints: its observers do. */
import type {
  Attestation,
  InterruptingSignal,
  MachineName,
  TraceEvent,
} from "../../../language/src/index.ts";
import type { BootConsole } from "../engine.ts";
import type { PlannedCase } from "./plan.ts";
import type { CaseResult } from "./result.ts";

/** Facts of a run before its first case. */
export type RunInfo = {
  readonly version: string;
  readonly startedAt: string;
  readonly kernel: string;
  readonly node: string;
  readonly pageSize: number;
  readonly kvmBackend: string | null;
  readonly runDirectory: string;
  readonly fileSystem: string;
  /** What this run was to do, after sharding. */
  readonly cases: number;
  readonly jobs: number;
  readonly timeoutMs: number;
  readonly repeat: number;
  /** Beside so many processes that never sleep. */
  readonly busy: number;
  readonly shard: { readonly index: number; readonly count: number } | null;
  readonly attestations: readonly Attestation[];
};

/** A machine that was booted for the run. */
export type MachineBooted = {
  readonly name: MachineName;
  /** null: it did not come up; its cases have the reason. */
  readonly attestation: Attestation | null;
  readonly openedMs: number;
};

/** The consoles of a machine on which something was not as expected or proved nothing. */
export type MachineConsoles = {
  readonly name: MachineName;
  readonly boots: readonly BootConsole[];
};

/** How a run ended. */
export type RunEnd = {
  readonly interruptedBy: InterruptingSignal | null;
  readonly defects: readonly string[];
  readonly durationMs: number;
};

export type RunObserver = {
  /** The run has its folder, no case has begun. */
  onBegin(info: RunInfo, cases: readonly PlannedCase[]): void;
  onBooted(machine: MachineBooted): void;
  onCaseStart(planned: PlannedCase): void;
  /** Each event while it happens, as far as the engine sees it then. */
  onEvent(event: TraceEvent): void;
  onCaseEnd(result: CaseResult): void;
  onConsoles(machine: MachineConsoles): void;
  /** The cases of a machine have ended; the machine is closed next. */
  onLaneEnd(): void;
  /** The last case has ended, the folder is still there. */
  onEnd(): void;
};
