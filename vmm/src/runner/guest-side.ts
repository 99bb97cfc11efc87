/**
 * The port that a guest's side of a vCPU thread implements: what its own exits mean, and where it was at one that a policy
 * deals with. Implemented for the micro-guest (micro-side.ts) and for Linux (linux-side.ts).
 */
import type { VcpuExit } from "../kvm/exit.ts";
import type { FaultContext } from "../policy/policy.ts";
import type { EndReason, Place } from "./messages.ts";

export type Taken =
  /** Dealt with: KVM_RUN again. */
  | { readonly kind: "done" }
  /** The machine ends, for this reason. */
  | { readonly kind: "ended"; readonly why: EndReason }
  /** Nothing of the guest's: the policy's turn. */
  | { readonly kind: "not-mine" };

export const done: Taken = { kind: "done" };
export const notMine: Taken = { kind: "not-mine" };
export const ended = (why: EndReason): Taken => ({ kind: "ended", why });

export interface GuestSide {
  /** Deals with an exit, if it is the guest's own: a port, a register, a halt. */
  take(exit: VcpuExit): Taken;
  /** The access that the vCPU was about to make; null if it need only be tried again: the page is back, or the guest no longer maps it. */
  faultContext(exit: VcpuExit): FaultContext | null;
  place(exit: VcpuExit): Place | null;
  /** The kick signal has interrupted KVM_RUN. */
  tick(): void;
}
