/**
 * Which of KVM's tracepoints a step of the model passes, so that a trace of a kernel can be followed through the model
 * (explore/follow.ts). Sources: include/trace/events/kvm.h, arch/x86/kvm/trace.h, arch/x86/kvm/mmu/mmutrace.h.
 *
 * Two of a kernel's are left out on purpose. kvm_async_pf_completed is written after the entry has gone onto the list of
 * those that are done (async_pf_execute()), so that it may come behind the kvm_async_pf_ready that it is the cause of;
 * kvm_unmap_hva_range is passed for any memory of the VMM's. What the latter does to the guest is seen page by page.
 */
import type { Late } from "../explore/follow.ts";
import { type EventSink, type ModelEvent, TRACEPOINT } from "../explore/model.ts";
import { at, type Context, EPT, STOP } from "./fields.ts";

export type FaultTracepoint =
  | "kvm_page_fault"
  | "kvm_try_async_get_page"
  | "kvm_async_pf_repeated_fault"
  | "kvm_async_pf_not_present"
  | "kvm_async_pf_ready";

export type ExitReason = "EFAULT" | "KVM_EXIT_MMIO" | "KVM_EXIT_INTERNAL_ERROR" | "KVM_EXIT_SHUTDOWN";

/** The tracepoints that model and kernel have in common, as one line each: equal lines are the same event. */
export const passage = {
  /** @param vcpu index of the vCPU  @param page index of the model's page */
  fault: (tracepoint: FaultTracepoint, vcpu: number, page: number): string =>
    `${tracepoint} vcpu ${vcpu} page ${page}`,
  /** kvm_tdp_mmu_spte_changed or kvm_mmu_set_spte: the second level maps the page. */
  map: (page: number): string => `spte set, page ${page}`,
  /** kvm_tdp_mmu_spte_changed: it does so no longer. */
  unmap: (page: number): string => `spte cleared, page ${page}`,
  /** The same, for reasons of the host's own. */
  letGo: (page: number): string => `spte cleared for the host's own reasons, page ${page}`,
  /** kvm_userspace_exit */
  exit: (vcpu: number, reason: ExitReason): string => `kvm_userspace_exit vcpu ${vcpu} ${reason}`,
} as const;

/** Is it about what the second level maps? */
export function isMapping(event: string): boolean {
  return event.startsWith("spte ");
}

export function pass(
  events: EventSink | null,
  tracepoint: FaultTracepoint,
  vcpu: number,
  page: number,
): void {
  events?.({ kind: TRACEPOINT, from: "kvm", to: "kvm", detail: passage.fault(tracepoint, vcpu, page) });
}

export function mappingLetGo(events: EventSink | null, page: number): void {
  events?.({ kind: TRACEPOINT, from: "host", to: "kvm", detail: passage.letGo(page) });
}

/** KVM_RUN returns. What a signal ends (-EINTR) is no event of its own: signals also come for no reason of the guest's. */
export function userspaceExit(events: EventSink | null, vcpu: number, stop: number): void {
  if (events === null) return;
  const reason = exitReasonOf(stop);
  if (reason === null) return;
  events({ kind: TRACEPOINT, from: "kvm", to: "vmm", detail: passage.exit(vcpu, reason) });
}

function exitReasonOf(stop: number): ExitReason | null {
  switch (stop) {
    case STOP.efault:
    case STOP.memoryFault:
      return "EFAULT";
    case STOP.mmio:
      return "KVM_EXIT_MMIO";
    case STOP.internalError:
      return "KVM_EXIT_INTERNAL_ERROR";
    case STOP.tripleFault:
      return "KVM_EXIT_SHUTDOWN";
    default:
      return null;
  }
}

/**
 * A vCPU's fault is an exit of its CPU, and kvm_page_fault the first line that KVM writes after it: another vCPU, or a
 * truncation, may have got further in between. Whatever else a vCPU does it writes behind that line.
 */
export const lateFaults: Late = {
  mayBe: (event) => event.startsWith("kvm_page_fault "),
  writerOf(event, actor) {
    const vcpu = / vcpu ([0-9]+)/.exec(event)?.[1] ?? /^vcpu([0-9]+)$/.exec(actor)?.[1];
    return vcpu === undefined ? null : `vcpu ${vcpu}`;
  },
};

/**
 * What a step passes, in KVM's order: the second level as it differs from before (lower pages first), then what the step
 * itself says. (A page-ready maps its page before it writes its own line: kvm_arch_async_page_ready().)
 */
export function passagesOf(
  ctx: Context,
  before: Uint8Array,
  after: Uint8Array,
  events: readonly ModelEvent[],
): readonly string[] {
  const said = events.flatMap((event) => (event.kind === TRACEPOINT ? [event.detail] : []));
  const mappings: string[] = [];
  for (let page = 0; page < ctx.pages; page++) {
    const was = at(before, ctx.f.ept + page) !== EPT.none;
    const is = at(after, ctx.f.ept + page) !== EPT.none;
    if (was === is || said.includes(passage.letGo(page))) continue;
    mappings.push(is ? passage.map(page) : passage.unmap(page));
  }
  return [...mappings, ...said];
}
