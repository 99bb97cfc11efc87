/** Which VM a command is about, and the look at it: for `diagnose` and `rescue`. */
import { exitCodes, type InterruptingSignal } from "../../../language/src/command-words.ts";
import { type Collected, collect } from "../diagnose/collect.ts";
import type { HostFacts } from "../diagnose/facts.ts";
import type { Found, Wanted } from "../diagnose/find.ts";
import type { Host } from "../diagnose/host.ts";
import { visible } from "../report/encode.ts";
import { watchSignals } from "../run/interruption.ts";
import { parseCount, UsageError } from "./usage.ts";

export type Setup = Pick<HostFacts, "kernel" | "isRoot">;

const PID_MAX = 2 ** 22;

export function wantedOf({ pid, name }: { readonly pid?: string; readonly name?: string }): Wanted {
  if (pid !== undefined && name !== undefined) throw new UsageError("--pid or --name, not both");
  if (pid !== undefined) return { kind: "pid", pid: parseCount("--pid", pid, 1, PID_MAX) };
  return name === undefined ? { kind: "all" } : { kind: "name", name };
}

function nothingFound(command: string, wanted: Wanted, { others, unseen }: Found): number {
  const left = unseen.length === 0 ? "" : `; not looked at: ${unseen.join("; ")}`;
  switch (wanted.kind) {
    case "all":
      if (unseen.length === 0) {
        console.error(`daxfault ${command}: no process here has a VM on KVM`);
        return exitCodes.nothingRan;
      }
      console.error(
        visible(`daxfault ${command}: no VM on KVM was seen; whether there is one cannot be said${left}`),
      );
      return exitCodes.inconclusive;
    case "pid":
      throw new UsageError(`--pid ${wanted.pid}: there is no such process, or it is another user's`);
    case "name": {
      const known = others.length === 0 ? "no VM here has a name" : `there are: ${others.join(", ")}`;
      throw new UsageError(`--name ${wanted.name}: no VM has this name; ${known}${left}`);
    }
  }
}

function whyNone({ isRoot, vms }: Pick<HostFacts, "isRoot" | "vms">): string {
  const seen = isRoot ? "" : ", as far as this user may see";
  const isQemu = vms.some((one) => one.process.startsWith("qemu"));
  return isQemu ? `${seen}: a QEMU without -accel kvm (TCG) has none` : seen;
}

/** The exit code of a look that found no VM; null: it found one. Throws a UsageError where the one that was named is none. */
export function nothingToLookAt(command: string, wanted: Wanted, { facts, found }: Collected): number | null {
  if (facts.vms.length === 0) return nothingFound(command, wanted, found);
  if (wanted.kind === "pid" && facts.vms.every(({ vms }) => vms === 0))
    throw new UsageError(`--pid ${wanted.pid}: the process holds no VM on KVM${whyNone(facts)}`);
  return null;
}

/** Looks until a signal comes; a signal ends it in order. */
export async function lookAround(
  host: Host,
  wanted: Wanted,
  setup: Setup,
): Promise<Collected | InterruptingSignal> {
  const interruption = watchSignals();
  const collected = await collect(host, wanted, setup, interruption.signal);
  interruption.release();
  return interruption.by() ?? collected;
}
