/**
 * Answers: what a proposal makes of a fault that cannot be resolved. A closed list; each preset has one (`presets.ts`).
 * The answer and the kind of access decide what an access to a lost page sees. Expectations write `lost` for it, and a
 * cell for an answer is a cell for all presets that have it.
 */
import type { AccessStep } from "./scenario/labels.ts";

export const answers = [
  "signals",
  "exits",
  "loops",
  "reports",
  "machine-check",
  "zeros",
  "recalls",
  "seals",
] as const;
/**
 * `signals`: no VM, the process gets SIGBUS. `exits`: KVM_RUN returns -EFAULT and the VMM stops. `loops`: KVM retries the
 * fault for ever. `reports`: the guest is given an error for the address, and sends SIGBUS. `machine-check`: the guest gets
 * #MC. `zeros`: the VMM maps zeros in place of the page. `recalls`: a guard takes the range away first, and the access is
 * reported. `seals`: the page cannot be lost.
 */
export type Answer = (typeof answers)[number];

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

/** The VMM's last state where a page is lost: null without a VMM, and where no page can be lost. */
export function vmmAfterLoss(answer: Answer): string | null {
  return losses[answer]?.vmm ?? null;
}

/**
 * What an access to a lost page sees; null where the answer does not decide it.
 * @param inKernel The access is an instruction of the guest's kernel: nothing there handles an error.
 */
export function lostWord(
  answer: Answer,
  verb: AccessStep["verb"],
  { inKernel }: { readonly inKernel: boolean },
): string | null {
  const words = losses[answer];
  if (words === null || (inKernel && answer !== "exits" && answer !== "loops")) return null;
  switch (verb) {
    case "fetch":
      // With zeros in place of the code page execution is undefined.
      return answer === "zeros" ? null : words.load;
    case "load":
    case "atomic":
    case "copy-from":
      return words.load;
    case "store":
    case "copy-to":
    case "push":
      return words.store;
    case "kernel-read":
      return words.kernelRead;
    case "kernel-write":
      return words.kernelWrite;
  }
}
