/** How a run handles Ctrl-C and SIGTERM. */
import { exitCodes } from "../../../language/src/index.ts";

export type Interruption = {
  readonly signal: AbortSignal;
  by(): "SIGINT" | "SIGTERM" | null;
  release(): void;
};

/** Ctrl-C and SIGTERM end the run; the second one ends this process at once, and the janitor cleans up. */
export function watchSignals(): Interruption {
  const abort = new AbortController();
  let by: "SIGINT" | "SIGTERM" | null = null;
  const handler = (signal: "SIGINT" | "SIGTERM"): void => {
    if (by !== null) process.exit(signal === "SIGINT" ? exitCodes.interrupted : exitCodes.terminated);
    by = signal;
    abort.abort();
  };
  process.on("SIGINT", handler);
  process.on("SIGTERM", handler);
  return {
    signal: abort.signal,
    by: () => by,
    release() {
      process.off("SIGINT", handler);
      process.off("SIGTERM", handler);
    },
  };
}
