/**
 * Which of KVM's tracepoints a step of the model passes, so that a trace of a kernel can be followed through the model
 * (explore/follow.ts). Sources: include/trace/events/kvm.h, arch/x86/kvm/trace.h, arch/x86/kvm/mmu/mmutrace.h.
 *
 * Two of a kernel's are left out on purpose. kvm_async_pf_completed is written after the entry has gone onto the list of
 * those that are done (async_pf_execute()), so that it may come behind the kvm_async_pf_ready that it is the cause of;
 * kvm_unmap_hva_range is passed for any memory of the VMM's. What the latter does to the guest is seen page by page.
 */
import type { Late } from "../explore/follow.ts";
import { type ModelEvent, TRACEPOINT } from "../explore/model.ts";
import type { Context } from "./fields.ts";
import { eptWords } from "./page.ts";
import type { Stop } from "./vcpu.ts";

export type FaultTracepoint =
  | "kvm_page_fault"
  | "kvm_try_async_get_page"
  | "kvm_async_pf_repeated_fault"
  | "kvm_async_pf_not_present"
  | "kvm_async_pf_ready";

export type ExitReason = "EFAULT" | "KVM_EXIT_MMIO" | "KVM_EXIT_INTERNAL_ERROR" | "KVM_EXIT_SHUTDOWN";

/** The tracepoints that model and kernel have in common, as one line each: equal lines are the same event. */
export const tracepointText = {
  /** @param vcpu index of the vCPU  @param page index of the model's page */
  fault: (tracepoint: FaultTracepoint, vcpu: number, page: number): string =>
    `${tracepoint} vcpu ${vcpu} page ${page}`,
  /** kvm_tdp_mmu_spte_changed or kvm_mmu_set_spte: the second level maps the page. */
  map: (page: number): string => `spte set, page ${page}`,
  /** kvm_tdp_mmu_spte_changed: it does so no longer. */
  unmap: (page: number): string => `spte cleared, page ${page}`,
  /** The same, for reasons of the host's own. */
  hostZap: (page: number): string => `spte cleared for the host's own reasons, page ${page}`,
  /** kvm_userspace_exit */
  exit: (vcpu: number, reason: ExitReason): string => `kvm_userspace_exit vcpu ${vcpu} ${reason}`,
} as const;

/** Is it about what the second level maps? */
export function isMapping(event: string): boolean {
  return event.startsWith("spte ");
}

/** The events of a step that passes them. */
export const tracepointEvents = {
  fault: (tracepoint: FaultTracepoint, vcpu: number, page: number): ModelEvent => ({
    kind: TRACEPOINT,
    from: "kvm",
    to: "kvm",
    detail: tracepointText.fault(tracepoint, vcpu, page),
  }),
  /** A zap that the host initiates. */
  hostZap: (page: number): ModelEvent => ({
    kind: TRACEPOINT,
    from: "host",
    to: "kvm",
    detail: tracepointText.hostZap(page),
  }),
  /** KVM_RUN returns. -EINTR is no event: a signal may come for a reason that has nothing to do with the guest. */
  exit(vcpu: number, stop: Stop): ModelEvent | null {
    const reason = exitReasonOf(stop);
    return reason === null
      ? null
      : { kind: TRACEPOINT, from: "kvm", to: "vmm", detail: tracepointText.exit(vcpu, reason) };
  },
} as const;

function exitReasonOf(stop: Stop): ExitReason | null {
  switch (stop) {
    case "efault":
    case "memory-fault":
      return "EFAULT";
    case "mmio":
      return "KVM_EXIT_MMIO";
    case "internal-error":
      return "KVM_EXIT_INTERNAL_ERROR";
    case "triple-fault":
      return "KVM_EXIT_SHUTDOWN";
    case "poison":
    case "none":
      return null;
  }
}

const CLEARED = "spte cleared,";

/**
 * A vCPU's fault is an exit of its CPU, and kvm_page_fault the first line that KVM writes after it: another vCPU, or a
 * truncation, may have got further in between. Whatever else a vCPU does it writes behind that line. What the host zaps is
 * gone before the line says so: handle_changed_spte() (arch/x86/kvm/mmu/tdp_mmu.c) writes it after the exchange, and a
 * vCPU may fault on the page meanwhile.
 */
export const lateFaults: Late = {
  mayBe: (event) => event.startsWith("kvm_page_fault ") || event.startsWith(CLEARED),
  writerOf(event, actor) {
    const vcpu = / vcpu ([0-9]+)/.exec(event)?.[1] ?? /^vcpu([0-9]+)$/.exec(actor)?.[1];
    // A vCPU that zaps by itself (its VMM's mmap) does nothing else before the line is written.
    if (event.startsWith(CLEARED)) return vcpu === undefined ? actor : null;
    return vcpu === undefined ? null : `vcpu ${vcpu}`;
  },
};

/**
 * What a step passes, in KVM's order: the second level as it differs from before (lower pages first), then what the step
 * itself says. (A page-ready maps its page before it writes its own line: kvm_arch_async_page_ready().)
 */
export function tracepointsOf(
  ctx: Context,
  before: Uint8Array,
  after: Uint8Array,
  events: readonly ModelEvent[],
): readonly string[] {
  const said = events.flatMap((event) => (event.kind === TRACEPOINT ? [event.detail] : []));
  const mappings: string[] = [];
  for (let page = 0; page < ctx.pages; page++) {
    const isMapped = (state: Uint8Array): boolean => state[ctx.offsets.ept + page] !== eptWords.byte("none");
    const was = isMapped(before);
    const is = isMapped(after);
    if (was === is || said.includes(tracepointText.hostZap(page))) continue;
    mappings.push(is ? tracepointText.map(page) : tracepointText.unmap(page));
  }
  return [...mappings, ...said];
}
