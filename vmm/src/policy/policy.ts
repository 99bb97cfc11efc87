/**
 * The VMM's reaction when KVM_RUN gives up on a page: the port that every policy implements.
 *
 * A policy runs on the vCPU's thread, between two KVM_RUNs. It may use only what a VMM of the real world has: the exit,
 * registers, the guest's memory, its own mappings. The scenario is unknown to it.
 */
import type { VmmPart } from "../../../language/src/index.ts";
import type { DecodedAccess, Vcpu } from "../arch/index.ts";
import type { VcpuExit } from "../kvm/exit.ts";

/** The `vmm` axis. What makes the exit is another one (`exits`). */
export type PolicyName = VmmPart;

/**
 * The error code of an injected #PF. `not-present`: as the processor would push it if the guest's own page tables had lost
 * the page; `present-read`: a protection violation of a read, whatever the access: Linux takes any other #PF that its
 * page tables do not explain for spurious and tries again (access_error(), arch/x86/mm/fault.c).
 */
export type PageFaultForm = "not-present" | "present-read";

/** With its guest physical address: by the guest's page tables, which still map it. */
export type LocatedAccess = DecodedAccess & { readonly gpa: bigint };

export type FaultContext = {
  readonly vcpu: Vcpu;
  /** Its number. */
  readonly cpu: number;
  readonly vmFd: number;
  readonly lapicInKernel: boolean;
  readonly exit: VcpuExit;
  /** The access of the interrupted instruction, or null if it is unknown. */
  readonly access: LocatedAccess | null;
  readonly pageFaultForm: PageFaultForm;
  /** RFLAGS.IF: can an interrupt be delivered now? */
  readonly interruptsOn: boolean;
  /** The guest's RAM, from guest physical address 0. */
  readonly ram: DataView;
  readonly window: { readonly hva: bigint; readonly sizeBytes: number };
  /** Has every other vCPU take a machine check for the one that this vCPU gets. */
  broadcastMachineCheck(): void;
};

export type PolicyAction =
  /** Enter the guest again. `detail` goes to the trace. */
  | { readonly kind: "resume"; readonly detail: string }
  /** Not possible here: the VM stops, for this reason. */
  | { readonly kind: "stop"; readonly reason: string };

export interface FaultPolicy {
  readonly name: PolicyName;
  /** Once, before the guest's first instruction. */
  prepare(vcpu: Vcpu): void;
  onFault(context: FaultContext): PolicyAction;
  /** SIGBUS for this thread while in KVM_RUN (kvm_send_hwpoison_signal()); absent: none is expected. */
  onSigbus?(context: FaultContext, hva: bigint): PolicyAction;
  /** SIGBUS for this thread of a memory error that nobody has met (BUS_MCEERR_AO). Returns what was done, for the trace. */
  onMemoryError?(vcpu: Vcpu, gpa: bigint): string;
}

export const resume = (detail: string): PolicyAction => ({ kind: "resume", detail });
export const stop = (reason: string): PolicyAction => ({ kind: "stop", reason });

export function hex(value: bigint): string {
  return `0x${value.toString(16)}`;
}
