/**
 * The tracepoints of KVM's fault path for the guest's window, in a kernel that is ours alone: every turn of the loop, in
 * the order in which it happened. The guest's other memory lies below the window, a Linux guest's devices and what it maps
 * for itself above it: the kernel filters both out.
 */

import type { KvmTrace } from "../../../language/src/index.ts";
import { MAX_WINDOW_BYTES, WINDOW_BASE } from "../../../vmm/src/index.ts";
import { openTrace, type TraceSelection } from "./tracefs.ts";

const PAGE_SHIFT = 12n;
/** A loop turns hundreds of times; what every turn is like shows in the first few. */
const LINES_MAX = 256;
const EINTR = 4;
/** KVM_EXIT_IO is a call of the guest's program, KVM_EXIT_HLT one with nothing to do. */
const EXIT_IO = 2;
const EXIT_HLT = 5;
/** Of a Linux guest the registers of its devices; of the micro-guest, which has none, an access that KVM emulates. */
const EXIT_MMIO = 6;

export type FaultPathOptions = {
  readonly hasDevices: boolean;
  /** Where the window is in the guest's memory; left out: where our own VMM has it. */
  readonly windowBase?: bigint;
};

const within = (base: bigint, field: string, shift: bigint): string => {
  const [from, to] = [base, base + BigInt(MAX_WINDOW_BYTES)].map((at) => `0x${(at >> shift).toString(16)}`);
  return `${field} >= ${from} && ${field} < ${to}`;
};

const ordinaryExits = (hasDevices: boolean): string =>
  [EXIT_IO, EXIT_HLT, ...(hasDevices ? [EXIT_MMIO] : [])].map((reason) => `reason != ${reason}`).join(" && ");

/** What the kernel is asked to record. */
export const selectionFor = ({ hasDevices, windowBase = WINDOW_BASE }: FaultPathOptions): TraceSelection => ({
  name: "faults",
  events: [
    { event: "kvm/kvm_page_fault", filter: within(windowBase, "fault_address", 0n) },
    { event: "kvm/kvm_try_async_get_page", filter: within(windowBase, "gfn", PAGE_SHIFT) },
    { event: "kvm/kvm_async_pf_repeated_fault", filter: within(windowBase, "gfn", PAGE_SHIFT) },
    { event: "kvm/kvm_async_pf_not_present", filter: within(windowBase, "gva", 0n) },
    { event: "kvm/kvm_async_pf_completed", filter: within(windowBase, "gva", 0n) },
    { event: "kvm/kvm_async_pf_ready", filter: within(windowBase, "gva", 0n) },
    { event: "kvmmmu/kvm_tdp_mmu_spte_changed", filter: within(windowBase, "gfn", PAGE_SHIFT) },
    // Of -EINTR there is one for each signal that stops the vCPU for a moment.
    {
      event: "kvm/kvm_userspace_exit",
      filter: `errno != -${EINTR} && (errno < 0 || (${ordinaryExits(hasDevices)}))`,
    },
  ],
  except: [],
  bufferKib: 64,
  processes: "all",
});

/** Starts tracing; call what it returns once, at the end. */
export function traceFaultPath(directory: string, options: FaultPathOptions): () => KvmTrace {
  const session = openTrace(directory, selectionFor(options));
  return () => {
    const trace = session.finish();
    if (trace.kind === "none") return trace;
    const lines = trace.text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
    return {
      kind: "trace",
      events: trace.events,
      lines: lines.slice(0, LINES_MAX).map((line) => line.trim()),
      cut: trace.lost + Math.max(0, lines.length - LINES_MAX),
    };
  };
}
