/**
 * Anonymous memory in place of the lost page, marked with UFFDIO_POISON (Linux 6.6): KVM's next lookup finds -EHWPOISON,
 * which it tests before the asynchronous path, and sends BUS_MCEERR_AR to the vCPU's thread. From there it is a machine
 * check like any other. Needs userfaultfd for kernel faults: root, or vm.unprivileged_userfaultfd.
 */
import { mapPoisonedPage } from "../../../../../sys/src/index.ts";
import { WINDOW_BASE } from "../../../guest/channel.ts";
import { type FaultPolicy, hex, resume, stop } from "../../../policy/policy.ts";
import { faultingPage } from "../../../policy/remap-zero.ts";
import { injectMachineCheck, prepareMachineChecks, recordDeferredError } from "./inject-mce.ts";

export const poisonPolicy: FaultPolicy = {
  name: "poison",
  prepare: prepareMachineChecks,
  onFault(context) {
    const hva = faultingPage(context);
    if (hva === null) return stop("the access is not in the window");
    mapPoisonedPage(hva);
    return resume(`poisoned page at hva ${hex(hva)}`);
  },
  onSigbus(context, hva) {
    const gpa = WINDOW_BASE + (hva - context.window.hva);
    return resume(`BUS_MCEERR_AR hva ${hex(hva)}: ${injectMachineCheck(context, gpa)}`);
  },
  onMemoryError: (vcpu, gpa) => `BUS_MCEERR_AO: ${recordDeferredError(vcpu, gpa)}`,
};
