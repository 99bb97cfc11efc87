/**
 * A proposal: how an unresolvable fault is dealt with. A point on the axes: one for each component that would have to
 * change, for what makes the exit, and for where the APIC lives. `none` is for what has no VM.
 */

import {
  type ExitPart,
  exitParts,
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
  /** What makes a failed fault an exit; `vmm` is what happens there. */
  readonly exits: ExitPart | "none";
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
export function unknownPart({ kvm, exits, vmm, guest, server, lapic }: Proposal): string | null {
  const axes: readonly (readonly [string, string, readonly string[]])[] = [
    ["kvm", kvm, ["none", ...kvmParts]],
    ["exits", exits, ["none", ...exitParts]],
    ["vmm", vmm, ["none", ...vmmParts]],
    ["guest", guest, ["none", ...guestParts]],
    ["server", server, serverParts],
    ["lapic", lapic ?? "none", ["none", ...lapicPlaces]],
  ];
  const wrong = axes.find(([, word, known]) => !known.includes(word));
  return wrong === undefined ? null : `${wrong[0]} ${JSON.stringify(wrong[1])}`;
}

/** `exits` and `vmm` of a proposal in place of a value that the `vmm` axis had before `exits` was split off it. */
export type SplitVmm = {
  readonly exits: ExitPart;
  readonly vmm: VmmPart;
};

/**
 * The `vmm` axis had `fence` and `no-hlt-exits`, which say what makes the exit; what a fence did there depended on the
 * guest. null for a value that is a reaction at the exit, as all are now, or that never was one.
 */
export function splitVmm(vmm: string, guest: string): SplitVmm | null {
  if (vmm === "no-hlt-exits") return { exits: "hlt-in-guest", vmm: "stop" };
  if (vmm !== "fence") return null;
  if (guest === "ve") return { exits: "fence", vmm: "inject-ve" };
  return { exits: "fence", vmm: guest.startsWith("mce-safe-") ? "inject-mce" : "inject-pf" };
}
