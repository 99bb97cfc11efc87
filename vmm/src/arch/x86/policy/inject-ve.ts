/**
 * #VE with its information area, as Intel's hardware would reflect an EPT violation (SDM vol. 3, 25.5.7). No KVM ABI
 * does so; a VMM can, at an exit. One may be outstanding: while the guest has not cleared `busy`, none can be delivered.
 */

import { type FaultPolicy, hex, resume, stop } from "../../../policy/policy.ts";
import { machineLayout } from "../layout.ts";

const VECTOR_VE = 20;
const EXIT_REASON_EPT_VIOLATION = 48;
const BUSY = 0xffffffff;
/** Exit qualification of EPT violations: read, write, fetch; linear address valid. */
const qualification = { read: 1n, write: 2n, fetch: 4n } as const;
const LINEAR_ADDRESS_VALID = 1n << 7n;

export const injectVe: FaultPolicy = {
  name: "inject-ve",
  prepare() {},
  onFault({ vcpu, cpu, access, ram }) {
    if (access === null) return stop("no guest physical address for the information area");
    const at = machineLayout;
    const area = Number(at.VE_INFORMATION_ADDRESS) + cpu * at.CPU_AREA_BYTES;
    if (ram.getUint32(area + at.offsetofVeBusy, true) !== 0) {
      return stop("a #VE is outstanding: the guest has not cleared the busy word");
    }
    ram.setUint32(area, EXIT_REASON_EPT_VIOLATION, true);
    ram.setUint32(area + at.offsetofVeBusy, BUSY, true);
    const bits = qualification[access.kind] | LINEAR_ADDRESS_VALID;
    ram.setBigUint64(area + at.offsetofVeExitQualification, bits, true);
    ram.setBigUint64(area + at.offsetofVeLinearAddress, access.gva, true);
    ram.setBigUint64(area + at.offsetofVePhysicalAddress, access.gpa, true);
    vcpu.injectException(VECTOR_VE, null);
    return resume(`#VE qualification ${hex(bits)} gla ${hex(access.gva)} gpa ${hex(access.gpa)}`);
  },
};
