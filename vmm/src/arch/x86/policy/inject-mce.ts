/**
 * A machine check as for consumed poison (SRAR), in the form that QEMU gives it (kvm_mce_inject(),
 * target/i386/kvm/kvm.c): bank 9, data load. On AMD without the bits that only Intel defines; on Intel broadcast to every
 * vCPU, as its processors do (../machine-check.ts).
 */

import {
  type FaultContext,
  type FaultPolicy,
  hex,
  type PolicyAction,
  resume,
  stop,
} from "../../../policy/policy.ts";
import type { Vcpu } from "../vcpu.ts";

/** MCG_CAP: ten banks, MCG_CTL present, software error recovery. */
const CAPABILITIES = 10n | (1n << 8n) | (1n << 24n);
const BANK = 9;
/** MCi_STATUS (SDM vol. 3, 16.3.2.2). */
const VAL = 1n << 63n;
const UC = 1n << 61n;
const EN = 1n << 60n;
const MISCV = 1n << 59n;
const ADDRV = 1n << 58n;
const S = 1n << 56n;
const AR = 1n << 55n;
/** AMD (APM vol. 2, 9.3.2): the processor goes on, the error is met later. */
const DEFERRED = 1n << 44n;
const POISON = 1n << 43n;
/** Memory hierarchy error, data read, level 0: 0x134, whatever the access was, as QEMU and KVM's selftests do. */
const DATA_LOAD = 0x134n;
/** MCG_STATUS: restart IP valid, error IP valid, in progress. */
const RIPV_EIPV_MCIP = 7n;
const RIPV_MCIP = 5n;
/** MCi_MISC: the address is physical, its low 12 bits mean nothing. */
const PHYSICAL_PAGE = (2n << 6n) | 12n;

/** @returns what it was, for the trace */
export function injectMachineCheck(
  { vcpu, broadcastMachineCheck }: Pick<FaultContext, "vcpu" | "broadcastMachineCheck">,
  gpa: bigint,
): string {
  const isIntel = vcpu.isIntel();
  const recovery = isIntel ? S | AR : 0n;
  vcpu.injectMachineCheck({
    bank: BANK,
    status: VAL | UC | EN | MISCV | ADDRV | recovery | DATA_LOAD,
    address: gpa,
    misc: PHYSICAL_PAGE,
    globalStatus: RIPV_EIPV_MCIP,
  });
  if (isIntel) broadcastMachineCheck();
  return `#MC bank ${BANK} address ${hex(gpa)}`;
}

/**
 * An error that nobody has met yet, as QEMU gives it to a guest on AMD: a deferred one, with the poison bit for its address to be
 * usable. It is in the bank, and KVM raises nothing: the guest finds it when it polls. A guest on Intel gets none here.
 * @returns what it was, for the trace
 */
export function recordDeferredError(vcpu: Vcpu, gpa: bigint): string {
  if (vcpu.isIntel()) return "nothing for a guest on Intel";
  vcpu.injectMachineCheck({
    bank: BANK,
    status: VAL | EN | MISCV | ADDRV | DEFERRED | POISON,
    address: gpa,
    misc: PHYSICAL_PAGE,
    globalStatus: RIPV_MCIP,
  });
  return `deferred error in bank ${BANK} address ${hex(gpa)}`;
}

export function prepareMachineChecks(vcpu: Vcpu): void {
  vcpu.setupMachineChecks(CAPABILITIES);
}

export const injectMce: FaultPolicy = {
  name: "inject-mce",
  prepare: prepareMachineChecks,
  onFault(context: FaultContext): PolicyAction {
    const { access } = context;
    if (access === null) return stop("no guest physical address for MCi_ADDR");
    return resume(injectMachineCheck(context, access.gpa));
  },
};
