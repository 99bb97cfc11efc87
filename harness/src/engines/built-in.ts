/** Whether the KVM at hand is the one that a proposal is about. Pure. */
import type { KvmPart, Proposal } from "../../../language/src/index.ts";
import type { Support } from "../engine.ts";

/** @param builtIn the proposal that KVM has built in */
export function supportsKvm(builtIn: KvmPart, { kvm }: Pick<Proposal, "kvm">): Support {
  if (kvm === "none" || kvm === builtIn) return { kind: "yes" };
  const no = (reason: string): Support => ({ kind: "no", reason, fix: null });
  if (builtIn === "today") return no(`kvm=${kvm} is in no kernel that this engine can ask`);
  return no(
    kvm === "today" ? `this kernel has kvm=${builtIn}` : `this kernel has kvm=${builtIn}, not kvm=${kvm}`,
  );
}
