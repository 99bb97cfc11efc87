/**
 * Helpers: processes that measure something in one go, with processes of their own. What ends or stops one of them from
 * outside is no finding and no defect: a LostChildError, which names it.
 */
import { LostChildError } from "../../../sys/src/index.ts";
import { errorStack, lastWords } from "../error-text.ts";
import { stoppedProcesses } from "../run/sweep.ts";
import { within } from "../within.ts";
import { type Child, type ChildExit, exitText } from "./child.ts";

/** Of a helper that has lost a process of its own; the last line of its stderr names it. EX_TEMPFAIL (sysexits.h). */
const LOST_EXIT = 75;
const LOOK_MS = 1000;

/** The helper's side: ends this process with what went wrong. */
export function failHelper(error: unknown): never {
  const isLost = error instanceof LostChildError;
  console.error(isLost ? error.message : errorStack(error));
  return process.exit(isLost ? LOST_EXIT : 1);
}

/** Calls `onLost` when the process ends. Returns how to expect its end. */
export function watchEnd(
  exited: Promise<ChildExit>,
  name: string,
  onLost: (error: Error) => void,
): () => void {
  let isExpected = false;
  void exited.then((exit) => {
    if (!isExpected) onLost(new LostChildError(`${name}: ${exitText(exit)}`));
  });
  return () => {
    isExpected = true;
  };
}

/** The error that an end without a result is. */
export function errorOfExit(exit: ChildExit, name: string): Error {
  const said = lastWords(exit.stderr);
  if (exit.kind === "exit" && exit.code === LOST_EXIT) return new LostChildError(`${name}: ${said}`);
  const isLost = exit.kind === "signal";
  const text = `${name}: its process: ${exitText(exit)}`;
  return isLost ? new LostChildError(text) : new Error(text);
}

export type HelperOptions = {
  /** In messages. */
  readonly name: string;
  /** Whose processes are looked at: the tag of the helper and of what it starts. */
  readonly directory: string;
  readonly boundMs: number;
};

/**
 * Waits for the helper's end. Throws a LostChildError, and kills it, where that takes longer than the bound, or a process
 * is stopped at two looks running: job control stops all at once, and this process with them.
 */
export async function helperEnd(
  child: Pick<Child<object, object>, "exited" | "kill">,
  { name, directory, boundMs }: HelperOptions,
): Promise<ChildExit> {
  const deadlineMs = performance.now() + boundMs;
  let before: readonly string[] = [];
  while (!(await within(child.exited, Math.min(LOOK_MS, Math.max(0, deadlineMs - performance.now()))))) {
    const stopped = stoppedProcesses(directory);
    const still = stopped.filter((one) => before.includes(one));
    before = stopped;
    const reason =
      still.length > 0
        ? `stopped from outside: ${still.join(", ")}`
        : performance.now() >= deadlineMs
          ? `no end within ${boundMs} ms`
          : null;
    if (reason === null) continue;
    await child.kill();
    throw new LostChildError(`${name}: ${reason}`);
  }
  return await child.exited;
}
