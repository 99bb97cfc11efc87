/** Today's QEMU, crosvm, Firecracker, libkrun: the VM ends. */
import { type FaultPolicy, stop } from "./policy.ts";

export const stopPolicy: FaultPolicy = {
  name: "stop",
  prepare() {},
  onFault: () => stop("the policy is to stop"),
};
