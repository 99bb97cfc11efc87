/** Kernels that are compiled here: before anything runs, with a line that says how far it is. */
import { exitCodeOfSignal } from "../../../language/src/index.ts";
import { obtainKernel } from "../kernel/cache.ts";
import { KernelError } from "../kernel/error.ts";
import type { KernelRole } from "../kernel/patches.ts";
import type { KernelSpec } from "../kernel/spec.ts";
import { type Kernel, type Progress, treesBeingRemoved } from "../kernel/store.ts";
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

export type BuildAsked = {
  readonly spec: KernelSpec;
  readonly role: KernelRole;
  /** What the user typed, for messages: `--kernel debian:6.12+final-efault`. */
  readonly option: string;
};

/**
 * Has a kernel, with progress. Returns the exit code of an interruption instead. Throws a UsageError where the kernel cannot
 * be had.
 */
export async function readyKernel({ spec, role, option }: BuildAsked): Promise<Kernel | number> {
  const interruption = watchSignals();
  const { progress, clear } = buildProgress(option);
  try {
    return await obtainKernel(spec, null, interruption.signal, role, progress);
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    clear();
    const by = interruption.by();
    if (by === null) throw new UsageError(`${option}: ${error.message}`);
    const left = treesBeingRemoved();
    const what = left.length === 0 ? "nothing is left of the build" : `rm still removes ${left.join(", ")}`;
    console.error(`daxfault: interrupted by ${by}: nothing was run, and ${visible(what)}`);
    return exitCodeOfSignal(by);
  } finally {
    clear();
    interruption.release();
  }
}

export type KernelsAsked = {
  readonly kernels: readonly KernelSpec[];
  /** null: the usual one. */
  readonly guestKernel: KernelSpec | null;
};

/**
 * Makes the kernels that take a compiler; any other one comes when its machine is opened. Returns the exit code of an
 * interruption, or null. Throws a UsageError where one cannot be had.
 */
export async function readyKernels({ kernels, guestKernel }: KernelsAsked): Promise<number | null> {
  const asked: readonly BuildAsked[] = [
    ...kernels.map((spec) => ({ spec, role: "under-test", option: `--kernel ${spec.text}` }) as const),
    ...(guestKernel === null
      ? []
      : [{ spec: guestKernel, role: "guest", option: `--guest-kernel ${guestKernel.text}` } as const]),
  ];
  for (const one of asked) {
    if (one.spec.kind !== "small" && one.spec.kind !== "patched") continue;
    const ready = await readyKernel(one);
    if (typeof ready === "number") return ready;
  }
  return null;
}
