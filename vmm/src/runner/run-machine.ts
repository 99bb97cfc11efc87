/**
 * Runs a machine, for all its users. The vCPUs' messages go to handlers by kind; the final states are kept.
 * Not here: when to stop, which the caller decides.
 */
import type { RunnableMachine } from "../machine.ts";
import { type FinalState, finalOfAll, type VcpuMessage } from "./messages.ts";
import { startVm, type VmRunner, type VmRunnerOptions } from "./vm-runner.ts";

/** Handlers by kind of message. A message without a handler is dropped. */
export type MachineHandlers = {
  readonly [Type in VcpuMessage["type"]]?: (message: Extract<VcpuMessage, { type: Type }>) => void;
};

export type MachineRun = VmRunner & {
  /** Of all vCPUs, once they have ended; null before, or if one ended without it. */
  readonly final: () => FinalState | null;
  /** Stops the machine and waits until its threads have ended. */
  readonly end: () => Promise<void>;
};

export function runMachine(
  machine: RunnableMachine,
  handlers: MachineHandlers,
  options: VmRunnerOptions = {},
): MachineRun {
  const finals: FinalState[] = [];
  const runner = startVm(
    machine,
    (message) => {
      if (message.type === "ended") finals[message.cpu] = message.final;
      // A handler takes the messages of its own key (`MachineHandlers`).
      (handlers[message.type] as ((message: VcpuMessage) => void) | undefined)?.(message);
    },
    options,
  );
  return {
    ...runner,
    final: () => finalOfAll(machine.vcpus.map((_, cpu) => finals[cpu])),
    async end() {
      runner.stop();
      await runner.exited;
    },
  };
}
