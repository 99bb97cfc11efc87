/** What an access to a lost page sees, by the proposal's answer and the kind of access: the oracle that expectations write `lost` for. */
import type { Answer } from "../answers.ts";
import type { FileCall, Touch } from "../scenario/guest-verbs.ts";

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
  { kind, by, instruction }: Pick<Touch | FileCall, "kind" | "by" | "instruction">,
  { inKernel }: { readonly inKernel: boolean },
): string | null {
  const words = losses[answer];
  if (words === null || (inKernel && answer !== "exits" && answer !== "loops")) return null;
  // What a system call on the file meets is the file's matter, not the window's.
  if (instruction === null) return null;
  // With zeros in place of the code page execution is undefined.
  if (kind === "fetch" && answer === "zeros") return null;
  if (kind === "store") return by === "kernel" ? words.kernelWrite : words.store;
  return by === "kernel" ? words.kernelRead : words.load;
}
