/**
 * Answers: what a proposal does with a fault that cannot be resolved. A closed list; each preset has one (`presets.ts`).
 * The answer and the kind of access decide what an access to a lost page sees (`judge/loss.ts`). Expectations write `lost`
 * for it, and a cell for an answer is a cell for all presets that have it.
 */
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
