/** How many CPUs a kernel's VM gets for the engines that run in it. */
import type { EngineName } from "../../../../language/src/index.ts";
import { engineRows } from "../../engines/registry.ts";
import { type Accelerator, guestCpus } from "../../kernel/qemu.ts";

/**
 * As many as help; one where an engine's guests take interrupts and the CPU is emulated: QEMU's TCG may deliver an event
 * that KVM injects a second time when the turn of another emulated CPU comes (tracing/injected-twice.ts). With one CPU no
 * timer ends its turn; what else ends one still may, so that the watch stays.
 */
export function cpusFor(engines: readonly EngineName[], accelerator: Accelerator): number {
  const rows = engineRows.filter(({ name }) => engines.includes(name));
  const isAtRisk = accelerator === "tcg" && rows.some(({ guestTakesInterrupts }) => guestTakesInterrupts);
  return isAtRisk ? 1 : guestCpus();
}
