/**
 * A proposal: how an unresolvable fault is dealt with. A point on four axes, one per component that would have to change.
 * The values are the model's parts, which can carry out all of them; `none` is for what has no VM.
 */

import {
  type GuestPart,
  guestParts,
  type KvmPart,
  kvmParts,
  type LapicPlace,
  lapicPlaces,
  type ServerPart,
  serverParts,
  type VmmPart,
  vmmParts,
} from "./axes.ts";

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

/** A part of a recorded proposal that is no word of the axes today; null: there is none. */
export function unknownPart({ kvm, vmm, guest, server, lapic }: Proposal): string | null {
  const axes: readonly (readonly [string, string, readonly string[]])[] = [
    ["kvm", kvm, ["none", ...kvmParts]],
    ["vmm", vmm, ["none", ...vmmParts]],
    ["guest", guest, ["none", ...guestParts]],
    ["server", server, serverParts],
    ["lapic", lapic ?? "none", ["none", ...lapicPlaces]],
  ];
  const wrong = axes.find(([, word, known]) => !known.includes(word));
  return wrong === undefined ? null : `${wrong[0]} ${JSON.stringify(wrong[1])}`;
}
