/**
 * gVisor's way (pkg/sentry/platform/kvm, bluepillSigBus()): an NMI, which reaches the guest whatever IF is. It carries
 * no address; the guest takes it for the failure of the access that it interrupted.
 */
import { type FaultPolicy, resume } from "../../../policy/policy.ts";

export const nmiPolicy: FaultPolicy = {
  name: "nmi",
  prepare() {},
  onFault({ vcpu }) {
    vcpu.injectNmi();
    return resume("NMI");
  },
};
