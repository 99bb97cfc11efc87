/** What an access to a lost page sees, by the proposal's answer and the kind of access: the oracle that expectations write `lost` for. */
import type { Answer } from "../answers.ts";
import type { VmmPart } from "../axes.ts";
import type { LinuxCall, Touch } from "../scenario/guest-verbs.ts";

/** What happens where a page is lost: the VMM's last state, null without a VMM, and what each kind of access sees. */
type Loss = {
  readonly vmm: string | null;
  readonly load: string;
  readonly store: string;
  /** A copy by the guest's kernel, from and to the page. */
  readonly kernelRead: string;
  readonly kernelWrite: string;
};

function loss(
  vmm: string | null,
  [load, store, kernelRead, kernelWrite]: readonly [string, string, string, string],
): Loss {
  return { vmm, load, store, kernelRead, kernelWrite };
}

const ADRERR = "sigbus(BUS_ADRERR)";
const MCEERR = "sigbus(BUS_MCEERR_AR)";

/** One row an answer. Linux's exception tables cover a copy's loads from poisoned memory, not its stores. */
const losses: Readonly<Record<Answer, Loss | null>> = {
  // VMM, then what a load, a store, a kernel-read and a kernel-write see.
  signals: loss(null, ["sigbus", "sigbus", "efault", "efault"]),
  exits: loss("stopped(efault)", ["killed", "killed", "killed", "killed"]),
  loops: loss("looping", ["hung", "hung", "hung", "hung"]),
  reports: loss("running", [ADRERR, ADRERR, "efault", "efault"]),
  "machine-check": loss("running", [MCEERR, MCEERR, "efault", "killed"]),
  zeros: loss("running", ["zero", "stale", "zero", "stale"]),
  recalls: loss("running", [ADRERR, ADRERR, "efault", "efault"]),
  seals: null,
};

const SEGV = "sigsegv(SEGV_ACCERR)";
/** Linux 6.1 takes the address that the machine check has; one with amd_mce_usable_address() (2023) does not. */
const MCE_KERNEL = "sigbus(SI_KERNEL)|sigbus(BUS_MCEERR_AR)";

/**
 * What a Linux guest makes of its VMM's report. A #PF that its page tables do not explain is an access error to it
 * (access_error(), arch/x86/mm/fault.c). The address of a machine check in bank 9 is not usable to a Linux on AMD that has
 * amd_mce_usable_address(), so it kills without one (kill_me_now(), arch/x86/kernel/cpu/mce/core.c). An NMI is nothing to
 * it: the access is tried again until the VMM gives up. Not listed: not decided here.
 */
const linuxLosses: Readonly<Partial<Record<VmmPart, Loss>>> = {
  "inject-pf": loss("running", [SEGV, SEGV, "efault", "efault"]),
  "inject-mce": loss("running", [MCE_KERNEL, MCE_KERNEL, MCEERR, "killed"]),
  poison: loss("running", [MCE_KERNEL, MCE_KERNEL, MCEERR, "killed"]),
};

/**
 * Where KVM itself reports and the VMM does nothing: a Linux with the proposal's patch does what the proposal says; a stock
 * one takes KVM's machine check, whose poison bit makes its address usable.
 */
const kvmMachineCheck: Loss = loss("running", [MCEERR, MCEERR, MCEERR, "killed"]);

/**
 * What stands for the VMM of a Linux guest: its policy at a lost page; `none`: the proposal has no VMM. `emulated`: the VMM
 * executes the guest's accesses itself (QEMU's TCG), as a process that has the file mapped.
 */
export type LinuxVmm = VmmPart | "none" | "emulated";

/** Without KVM the lost page is the VMM's own: filemap_fault() sends it SIGBUS, and every task of the guest goes with it. */
const emulatedLoss: Loss = loss("killed(SIGBUS)", ["killed", "killed", "killed", "killed"]);

/**
 * Where a Linux guest does not understand the report, the proposal is another one. An emulated VMM dies of its guest's first
 * access to a lost page, in the middle of what all others do: that is an exit, of another kind.
 */
export function answerOnLinux(answer: Answer | null, vmm: LinuxVmm): Answer | null {
  if (vmm === "emulated" && answer === "signals") return "exits";
  return vmm === "nmi" && answer === "reports" ? "exits" : answer;
}

/** `onLinux`: the VMM of a Linux guest; null: the guest is as the proposal has it. */
function lossOf(answer: Answer, onLinux: LinuxVmm | null): Loss | null {
  if (onLinux === "emulated") return answer === "exits" ? emulatedLoss : null;
  const isReport = answer === "reports" || answer === "recalls" || answer === "machine-check";
  if (onLinux === null || !isReport) return losses[answer];
  if (onLinux === "none") return null;
  if (onLinux === "stop" && answer !== "recalls")
    return answer === "reports" ? losses.reports : kvmMachineCheck;
  return linuxLosses[onLinux] ?? null;
}

/**
 * The VMM's last state where a page is lost: null without a VMM, and where no page can be lost.
 * @param onLinux the VMM of a Linux guest; null: the guest is as the proposal has it
 */
export function vmmAfterLoss(answer: Answer, onLinux: LinuxVmm | null = null): string | null {
  return lossOf(answer, onLinux)?.vmm ?? null;
}

/**
 * What an access to a lost page sees; null where the answer does not decide it.
 * @param inKernel The access is an instruction of the guest's kernel: nothing there handles an error.
 */
export function lostWord(
  answer: Answer,
  { kind, by, instruction }: Pick<Touch | LinuxCall, "kind" | "by" | "instruction">,
  { inKernel, onLinux = null }: { readonly inKernel: boolean; readonly onLinux?: LinuxVmm | null },
): string | null {
  const words = lossOf(answer, onLinux);
  if (words === null || (inKernel && answer !== "exits" && answer !== "loops")) return null;
  // What a system call on the file meets is the file's matter, not the window's; a child's access is as any other.
  if (instruction === null && by === "kernel") return null;
  // With zeros in place of the code page execution is undefined.
  if (kind === "fetch" && answer === "zeros") return null;
  if (kind === "store") return by === "kernel" ? words.kernelWrite : words.store;
  return by === "kernel" ? words.kernelRead : words.load;
}
