/**
 * The life of a command that works over time: its folder, signals, and the exit code that an interruption gives. Commands
 * without cases of `run` have it from here; those with cases from `run/run-plan.ts`.
 */
import { exitCodes } from "../../../language/src/index.ts";
import { openRunDirectory, type RunDirectory } from "../run/directory.ts";
import { type Interruption, watchSignals } from "../run/interruption.ts";
import { printDefects } from "./defects.ts";

/** The exit code of a command that was interrupted; null: it was not. */
export function interruptedCode(interruption: Pick<Interruption, "by">): number | null {
  switch (interruption.by()) {
    case null:
      return null;
    case "SIGINT":
      return exitCodes.interrupted;
    case "SIGTERM":
      return exitCodes.terminated;
  }
}

export type Life = { readonly directory: RunDirectory; readonly signal: AbortSignal };

export type LifeOptions = {
  /** As in messages: `daxfault bench guards`. */
  readonly command: string;
  /** Of an interrupted command: how far it came, for the message. */
  readonly soFar?: () => string;
};

/**
 * Runs the body in a folder that goes away afterwards. Returns the body's exit code; 130 or 143 if a signal came, whatever
 * the body made of it; 70 where something could not be cleaned up.
 */
export async function liveInFolder(
  { command, soFar }: LifeOptions,
  body: (life: Life) => Promise<number>,
): Promise<number> {
  const interruption = watchSignals();
  const directory = openRunDirectory();
  let code: number;
  let left: readonly string[] = [];
  try {
    code = await body({ directory, signal: interruption.signal });
  } catch (error) {
    // What a signal has ended is no defect.
    if (interruption.by() === null) throw error;
    code = exitCodes.interrupted;
  } finally {
    left = await directory.close();
    interruption.release();
  }
  printDefects(command, left);
  const interrupted = interruptedCode(interruption);
  if (interrupted !== null) {
    const how = soFar === undefined ? "the result is partial" : soFar();
    console.error(`${command}: interrupted by ${interruption.by()}: ${how}`);
    return interrupted;
  }
  return left.length > 0 ? exitCodes.defect : code;
}
