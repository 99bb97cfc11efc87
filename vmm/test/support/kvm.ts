/** Whether tests may use /dev/kvm here; a skip carries its reason in the test's title. */
import { existsSync } from "node:fs";
import { imagePath, Kvm } from "../../src/index.ts";

export type KvmCheck = { readonly reason: string | null; readonly note: string };

export function kvmOrReason(): KvmCheck {
  const reason = whyNot();
  return { reason, note: reason === null ? "" : ` (skipped: ${reason})` };
}

function whyNot(): string | null {
  if (process.env.DAXFAULT_NO_KVM === "1") return "DAXFAULT_NO_KVM=1";
  if (!existsSync(imagePath())) return "the micro-guest is not built";
  try {
    Kvm.open().close();
    return null;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
