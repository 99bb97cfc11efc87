/**
 * A proposal: how an unresolvable fault is dealt with. A point on four axes, one per component that would have to change.
 * The values are the model's parts, which can carry out all of them; `none` is for what has no VM.
 */

import type { GuestPart, KvmPart, LapicPlace, ServerPart, VmmPart } from "./axes.ts";

export type Proposal = {
  readonly id: string;
  /** One line. */
  readonly title: string;
  readonly kvm: KvmPart | "none";
  readonly vmm: VmmPart | "none";
  readonly guest: GuestPart | "none";
  readonly server: ServerPart;
  /**
   * Where the local APIC lives; decides whether KVM can go the asynchronous way at all (`kvm_can_do_async_pf()`,
   * arch/x86/kvm/x86.c, tests `lapic_in_kernel()` first). null where there is no VM.
   */
  readonly lapic: LapicPlace | null;
};
