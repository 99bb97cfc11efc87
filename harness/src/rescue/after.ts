/** Whether a VM goes on after something was done for it: looked at until it does, within a bound. */
import { collect } from "../diagnose/collect.ts";
import type { VmFacts } from "../diagnose/facts.ts";
import type { Host } from "../diagnose/host.ts";
import { diagnose, type Verdict } from "../diagnose/verdict.ts";

/** A worker of the kernel's that waits for a slow page, and a guest that catches up, need some time. */
const LOOKS = 6;

export type After = {
  readonly goesOn: boolean;
  /** From the end of the step to the end of the look that shows it, or of the last look. */
  readonly afterMs: number;
  /** null: the process has ended. */
  readonly verdict: Verdict | null;
};

export async function lookAfter(host: Host, { pid, startTicks }: VmFacts): Promise<After> {
  const beginMs = host.nowMs();
  let verdict: Verdict | null = null;
  for (let look = 0; look < LOOKS; look += 1) {
    const { facts } = await collect(host, { kind: "pid", pid }, { kernel: "", isRoot: true });
    const [vm] = facts.vms;
    const afterMs = host.nowMs() - beginMs;
    if (vm === undefined || vm.isGone || vm.startTicks !== startTicks)
      return { goesOn: false, afterMs, verdict: null };
    ({ verdict } = diagnose(vm, facts.pageWorkers));
    if (verdict.severity === "fine") return { goesOn: true, afterMs, verdict };
  }
  return { goesOn: false, afterMs: host.nowMs() - beginMs, verdict };
}
