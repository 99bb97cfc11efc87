/**
 * What KVM under test has built in besides what every release has (`DAXFAULT_KVM`), and the persona that the kernel of
 * Linux guests plays (`DAXFAULT_GUEST`): for kernels in files, which say nothing of it. Both empty: a release.
 */
import { type GuestPart, guestParts, type KvmPart, kvmParts } from "../../../language/src/index.ts";

/** The environment variables; they count inside a VM as outside. */
export function underTest(): Record<string, string> {
  const names = ["DAXFAULT_KVM", "DAXFAULT_GUEST"];
  return Object.fromEntries(names.flatMap((name) => (process.env[name] ? [[name, process.env[name]]] : [])));
}

export function kvmUnderTest(): KvmPart {
  return kvmParts.find((part) => part === process.env.DAXFAULT_KVM) ?? "today";
}

/** null: a release's, which is what it is. */
export function linuxPersona(): GuestPart | null {
  return guestParts.find((part) => part === process.env.DAXFAULT_GUEST) ?? null;
}
