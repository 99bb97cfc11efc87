/**
 * The life of a command that works over time: signals, folder, clean-up. The one place where signals are watched and a
 * run's folder is opened; `run-plan.ts` lives by it, and by way of `cli/life.ts` each command that runs no plan.
 *
 * A body that occupies the thread leaves signals to the kernel: a handler would run only after the body. The signal then
 * ends the process, and the janitor removes the folder and ends its processes, as after SIGKILL.
 */
import type { InterruptingSignal } from "../../../language/src/index.ts";
import { runDirectoryParent } from "../paths.ts";
import { openRunDirectory, type RunDirectory } from "./directory.ts";
import { type Interruption, watchSignals } from "./interruption.ts";

export type Life = { readonly directory: RunDirectory; readonly signal: AbortSignal };

export type LifeEnd<Value> = {
  /** What the body returned; null: a signal ended it. */
  readonly value: Value | null;
  readonly interruptedBy: InterruptingSignal | null;
  /** What could not be cleaned up, one sentence each: normally nothing. */
  readonly left: readonly string[];
};

export type LifeOptions = {
  /** The folder that the run's folder lies in. */
  readonly parent?: string;
  /** `kernel`: the body occupies the thread. */
  readonly signals?: "watched" | "kernel";
};

const leftToKernel: Interruption = {
  signal: new AbortController().signal,
  by: () => null,
  release() {},
};

/** Runs the body in a folder that goes away afterwards. Rejects as the body does, unless a signal came first. */
export async function live<Value>(
  { parent = runDirectoryParent, signals = "watched" }: LifeOptions,
  body: (life: Life) => Promise<Value> | Value,
): Promise<LifeEnd<Value>> {
  const interruption = signals === "watched" ? watchSignals() : leftToKernel;
  let value: Value | null = null;
  let left: readonly string[] = [];
  try {
    const directory = openRunDirectory(parent);
    try {
      value = await body({ directory, signal: interruption.signal });
    } catch (error) {
      // What a signal has ended is no defect.
      if (interruption.by() === null) throw error;
    } finally {
      left = await directory.close();
    }
  } finally {
    interruption.release();
  }
  return { value, interruptedBy: interruption.by(), left };
}
