/** How a command handles the signals that interrupt it: `live.ts`, and `cli/serve.ts`, which has no folder, watch them. */
import {
  exitCodeOfSignal,
  type InterruptingSignal,
  interruptingSignals,
} from "../../../language/src/command-words.ts";

export type Interruption = {
  readonly signal: AbortSignal;
  by(): InterruptingSignal | null;
  release(): void;
};

/** One interruption may come as two signals: timeout(1) sends its to the process and then to its group. */
const SAME_MS = 100;

/**
 * The first signal ends what runs; another one later ends this process at once, and the janitor cleans up.
 * @param nowMs of a steady clock
 */
export function watchSignals(nowMs: () => number = () => performance.now()): Interruption {
  const abort = new AbortController();
  let by: InterruptingSignal | null = null;
  let firstMs = 0;
  const handler = (name: NodeJS.Signals): void => {
    const signal = interruptingSignals.find((one) => one === name) ?? "SIGTERM";
    if (by === signal && nowMs() - firstMs < SAME_MS) return;
    if (by !== null) process.exit(exitCodeOfSignal(signal));
    by = signal;
    firstMs = nowMs();
    abort.abort();
  };
  for (const signal of interruptingSignals) process.on(signal, handler);
  return {
    signal: abort.signal,
    by: () => by,
    release() {
      for (const signal of interruptingSignals) process.off(signal, handler);
    },
  };
}
