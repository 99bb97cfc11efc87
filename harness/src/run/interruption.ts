/** How a command handles the signals that interrupt it: `live.ts`, and `cli/serve.ts`, which has no folder, watch them. */
import {
  exitCodeOfSignal,
  type InterruptingSignal,
  interruptingSignals,
} from "../../../language/src/index.ts";

export type Interruption = {
  readonly signal: AbortSignal;
  by(): InterruptingSignal | null;
  release(): void;
};

/** The first signal ends what runs; the second one ends this process at once, and the janitor cleans up. */
export function watchSignals(): Interruption {
  const abort = new AbortController();
  let by: InterruptingSignal | null = null;
  const handler = (name: NodeJS.Signals): void => {
    const signal = interruptingSignals.find((one) => one === name) ?? "SIGTERM";
    if (by !== null) process.exit(exitCodeOfSignal(signal));
    by = signal;
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
