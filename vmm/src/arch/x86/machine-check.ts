/**
 * The machine check of a vCPU whose neighbour had the error. Intel's processors signal an uncorrected one to all of them
 * (06H_EH and later; each that runs KVM is), and Linux waits a second for all to come before it panics (mce_start(),
 * arch/x86/kernel/cpu/mce/core.c): "Timeout: Not all CPUs entered broadcast exception handler". AMD's signal it to one, and so
 * does Intel's where it is local (MCG_STATUS.LMCES), for which MCG_CAP.LMCE_P must be offered: it is not here, as in
 * QEMU's named processors. Bank and status are QEMU's (cpu_x86_inject_mce(), target/i386/helper.c); but they are there for KVM
 * alone, which raises nothing without, and are taken away again: the vCPU has no error in its banks, and Linux would log one.
 */
import { msr } from "./abi.ts";
import type { Vcpu } from "./vcpu.ts";

const BANK = 1;
const BANK_STATUS: number = msr.MSR_IA32_MC0_STATUS + 4 * BANK;
/** MCi_STATUS (SDM vol. 3, 16.3.2.2). */
const VAL = 1n << 63n;
const UC = 1n << 61n;
const RIPV = 1n;
/** MCG_STATUS: a machine check is in progress: until the guest's handler clears it, another one shuts the processor down. */
const MCIP = 1n << 2n;
const CR4_MCE = 1n << 6n;

/** Of a vCPU, when a machine check of another one has come for it. */
export type MachineCheckState = {
  readonly isEnabled: boolean;
  readonly isInProgress: boolean;
  readonly interruptsOn: boolean;
  /** It has been put off before. */
  readonly isLate: boolean;
};

/**
 * `later`: the handler is at an earlier one, or may not have left its stack yet: it clears MCG_STATUS while interrupts are
 * off, some instructions before its IRET. `never`: the guest has not turned machine checks on, and would be shut down.
 */
export function whenToSignal({
  isEnabled,
  isInProgress,
  interruptsOn,
  isLate,
}: MachineCheckState): "now" | "later" | "never" {
  if (!isEnabled) return "never";
  return isInProgress || (isLate && !interruptsOn) ? "later" : "now";
}

/** What is needed of a vCPU between two KVM_RUNs. */
export type SignalledVcpu = Pick<
  Vcpu,
  "control4" | "getMsr" | "setMsr" | "interruptsOn" | "injectMachineCheck"
>;

/** Raises what another vCPU has broadcast, unless it has to wait. @returns whether it has been dealt with */
export function signalBroadcast(vcpu: SignalledVcpu, isLate: boolean): boolean {
  const when = whenToSignal({
    isEnabled: (vcpu.control4() & CR4_MCE) !== 0n,
    isInProgress: ((vcpu.getMsr(msr.MSR_IA32_MCG_STATUS) ?? 0n) & MCIP) !== 0n,
    interruptsOn: vcpu.interruptsOn(),
    isLate,
  });
  if (when === "now") {
    const nothing = { address: 0n, misc: 0n };
    vcpu.injectMachineCheck({ bank: BANK, status: VAL | UC, globalStatus: RIPV | MCIP, ...nothing });
    vcpu.setMsr(BANK_STATUS, 0n);
  }
  return when !== "later";
}
