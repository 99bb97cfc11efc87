/**
 * The result of a host step, from how long it took. Held up is what took longer than the bound without the time in which
 * it, or the file server that answers it, waited for a processor. Pure.
 */
import type { HostResult } from "../../../language/src/index.ts";

export type StepTime = {
  readonly ms: number;
  /** Of it: waiting for a processor. */
  readonly heldUpMs: number;
  readonly errno: string | null;
};

/** null: not known. It took long enough to be held up, but only with the waits for a processor. */
export function hostResultOf({ ms, heldUpMs, errno }: StepTime, boundMs: number): HostResult | null {
  if (errno !== null) return { kind: "denied", errno };
  if (ms <= boundMs) return { kind: "done" };
  return ms - heldUpMs > boundMs ? { kind: "delayed", ms } : null;
}

/** For a case that waits in vain: of the host's steps, those that have ended their process, which does no step after it. */
export function killedText(host: Readonly<Record<string, Readonly<Record<string, HostResult>>>>): string {
  const killed = Object.entries(host).flatMap(([name, steps]) =>
    Object.entries(steps).flatMap(([label, result]) =>
      result.kind === "killed" ? [`${name}.${label} has ended its process (${result.signal})`] : [],
    ),
  );
  return killed.length === 0 ? "" : `; ${killed.join(", ")}: no step after it is done`;
}

export function heldUpText(step: string, { ms, heldUpMs }: StepTime): string {
  return (
    `the machine was busy: ${step} took ${Math.round(ms)} ms, of which it or the file server ` +
    `waited for a processor for ${Math.round(heldUpMs)} ms`
  );
}
