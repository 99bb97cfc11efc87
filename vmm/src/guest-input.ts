/** What a vCPU's thread must know of the guest that runs on it, beside the machine: goes to the thread as a message. */
import type { TaskProgram } from "./guest/channel.ts";
import type { PageFaultForm } from "./policy/policy.ts";

/** Of any machine: a Linux guest has as many, the micro-guest fewer. */
export const MAX_VCPUS = 4;

export type GuestInput =
  | { readonly kind: "micro"; readonly programs: readonly TaskProgram[] }
  | LinuxGuestInput;

export type LinuxGuestInput = {
  readonly kind: "linux";
  readonly ramBytes: number;
  /** What the devices of all vCPUs share (linux-devices.ts). */
  readonly devices: SharedArrayBuffer;
  /** Of the RAM, at its end: what the guest's program shares with the host; 0: none. A `struct linux_case`, if not. */
  readonly sharedBytes: number;
  /** Guest physical pages of devices that the machine's owner implements, in the order of its list. */
  readonly mmio: readonly bigint[];
  /** See `INJECTED_FAULT_COUNTER`. */
  readonly hasNestedPaging: boolean;
  /** See `FaultContext`. */
  readonly pageFaultForm: PageFaultForm;
};
