/**
 * A #PF with the real guest virtual address: what the guest would get if its own page tables had lost the page.
 * The guest kernel must know that the page tables are not the reason; in its own accesses it needs an exception table.
 */
import { type FaultPolicy, hex, resume, stop } from "../../../policy/policy.ts";

/** Error code of #PF (SDM vol. 3, 4.7). */
const PRESENT = 1;
const WRITE = 2;
const USER = 4;
const FETCH = 16;

export const injectPf: FaultPolicy = {
  name: "inject-pf",
  prepare() {},
  onFault({ vcpu, access, pageFaultForm }) {
    if (access === null) return stop("the instruction cannot be decoded: no address for CR2");
    const user = vcpu.currentPrivilegeLevel() === 3 ? USER : 0;
    const asProcessor = access.kind === "write" ? WRITE : access.kind === "fetch" ? FETCH : 0;
    const kind = pageFaultForm === "present-read" ? PRESENT : asProcessor;
    vcpu.injectPageFault(access.gva, user | kind);
    return resume(`#PF error ${user | kind} cr2 ${hex(access.gva)}`);
  },
};
