/** The life of a command without a plan of cases: `run/live.ts`, with its messages and its exit code. */
import { exitCodeOfSignal, exitCodes } from "../../../language/src/index.ts";
import { type Life, type LifeOptions as LiveOptions, live } from "../run/live.ts";
import { printDefects } from "./defects.ts";

export type { Life };

export type LifeOptions = LiveOptions & {
  /** As in messages: `daxfault bench guards`. */
  readonly command: string;
  /** Of an interrupted command: how far it came, for the message. */
  readonly soFar?: () => string;
};

/**
 * Runs the body in a folder that goes away afterwards. Returns the body's exit code; 129, 130 or 143 if a signal came,
 * whatever the body made of it; 70 where something could not be cleaned up.
 */
export async function liveInFolder(
  { command, soFar, ...options }: LifeOptions,
  body: (life: Life) => Promise<number> | number,
): Promise<number> {
  const { value, interruptedBy, left } = await live(options, body);
  printDefects(command, left);
  if (interruptedBy !== null) {
    const how = soFar === undefined ? "the result is partial" : soFar();
    console.error(`${command}: interrupted by ${interruptedBy}: ${how}`);
    return exitCodeOfSignal(interruptedBy);
  }
  return left.length > 0 ? exitCodes.defect : (value ?? exitCodes.defect);
}
