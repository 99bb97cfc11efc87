/** A guest's kernel that is compiled here: before anything runs, with a line that says how far it is. */
import { exitCodeOfSignal } from "../../../language/src/index.ts";
import { obtainKernel } from "../kernel/cache.ts";
import { KernelError } from "../kernel/error.ts";
import type { KernelSpec } from "../kernel/spec.ts";
import type { Progress } from "../kernel/store.ts";
import { visible } from "../report/encode.ts";
import { watchSignals } from "../run/interruption.ts";
import { UsageError } from "./usage.ts";

/** Where no terminal shows each line: one in so many milliseconds. */
const QUIET_MS = 30_000;
const CLEAR_LINE = "\r\x1b[K";

/** On standard error: one line that changes on a terminal, else a line now and then. */
function buildProgress(what: string): { readonly progress: Progress; readonly clear: () => void } {
  const { isTTY, columns = 80 } = process.stderr;
  let shownMs = Number.NEGATIVE_INFINITY;
  return {
    progress(text) {
      const line = `${what}: ${visible(text)}`;
      if (isTTY) process.stderr.write(`${CLEAR_LINE}${line.slice(0, columns - 1)}`);
      else if (performance.now() - shownMs > QUIET_MS) {
        shownMs = performance.now();
        process.stderr.write(`${line}\n`);
      }
    },
    clear: () => void (isTTY && process.stderr.write(CLEAR_LINE)),
  };
}

/**
 * Makes the kernel where that takes a compiler; any other one comes when its machine is opened. Returns the exit code of an
 * interruption, or null. Throws a UsageError where it cannot be had.
 */
export async function readyGuestKernel(spec: KernelSpec | null): Promise<number | null> {
  if (spec?.kind !== "small") return null;
  const option = `--guest-kernel ${spec.text}`;
  const interruption = watchSignals();
  const { progress, clear } = buildProgress(option);
  try {
    await obtainKernel(spec, null, interruption.signal, "guest", progress);
    return null;
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    clear();
    const by = interruption.by();
    if (by === null) throw new UsageError(`${option}: ${error.message}`);
    console.error(`daxfault: interrupted by ${by}: nothing was run, and nothing is left of the build`);
    return exitCodeOfSignal(by);
  } finally {
    clear();
    interruption.release();
  }
}
