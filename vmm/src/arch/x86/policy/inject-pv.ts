/**
 * A paravirtual error interrupt: the address in a shared area, then an ordinary interrupt, as Christopherson asked for
 * ("it should be an IRQ": protected guests cannot take injected exceptions). Cannot reach a guest with interrupts off.
 */

import { type FaultPolicy, hex, resume, stop } from "../../../policy/policy.ts";
import { machineLayout } from "../layout.ts";
import { signalMsi } from "../vm.ts";

export const injectPv: FaultPolicy = {
  name: "inject-pv",
  prepare() {},
  onFault({ vcpu, cpu, vmFd, lapicInKernel, access, interruptsOn, ram }) {
    if (access === null) return stop("no address for the shared area");
    if (!interruptsOn) return stop("interrupts are off: the error cannot be delivered");
    const at = machineLayout;
    const area = Number(at.PV_ERROR_ADDRESS) + cpu * at.CPU_AREA_BYTES;
    ram.setUint32(area, 1, true);
    ram.setBigUint64(area + at.offsetofPvErrorLinearAddress, access.gva, true);
    ram.setBigUint64(area + at.offsetofPvErrorPhysicalAddress, access.gpa, true);
    if (lapicInKernel) signalMsi(vmFd, cpu, at.VECTOR_PV_ERROR);
    else vcpu.injectInterrupt(at.VECTOR_PV_ERROR);
    return resume(`interrupt ${at.VECTOR_PV_ERROR} gva ${hex(access.gva)}`);
  },
};
