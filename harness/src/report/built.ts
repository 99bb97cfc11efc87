/** What of a kernel was built here: its patches, and what its cases are held against. */
import type { KernelVmFacts, PatchFacts } from "../../../language/src/index.ts";

function patchesText(patches: readonly PatchFacts[]): string {
  return patches.map(({ name, sha256 }) => `${name} (SHA-256 ${sha256})`).join(", ");
}

/** null: it is a package's kernel, or a file of the user's, with nothing said of it. */
export function builtText({ patches, kvm }: Pick<KernelVmFacts, "patches" | "kvm">): string | null {
  if (patches.length === 0 && kvm === "today") return null;
  return patches.length === 0 ? `kvm=${kvm}` : `with ${patchesText(patches)}: kvm=${kvm}`;
}

/** The same of a guest's kernel. */
export function guestBuiltText(patches: readonly PatchFacts[]): string {
  return patches.length === 0 ? "" : ` with ${patchesText(patches)}`;
}
