/**
 * An NMI whose handler takes a page fault before the handler of the event that it interrupts has read CR2 and flags.
 *
 * Mirrors exc_nmi() of arch/x86/kernel/nmi.c (CR2 saved and written back) and __kvm_handle_async_pf() of
 * arch/x86/kernel/kvm.c, as the page fault inside the NMI meets it: kernel mode, IF=0. Who is which variant: `Nmi`.
 */
import type { Action } from "../../explore/model.ts";
import { modeOf } from "../access.ts";
import type { AccessStep } from "../case.ts";
import { TOKEN_GARBAGE } from "../fields.ts";
import type { Machine } from "../machine.ts";
import { type Task, taskName } from "../task.ts";
import type { GuestEvent, Vcpu } from "../vcpu.ts";
import { oops } from "./sigbus.ts";

/** Events whose handlers read from CR2 what they are about. The others have banks, areas, or nothing. */
function readsCr2(event: GuestEvent): boolean {
  return event === "async #PF" || event === "#PF";
}

/** Events of this guest whose handler has begun and has yet to read what they are about. */
const windows: readonly GuestEvent[] = ["async #PF", "#PF", "not present", "#MC", "#VE", "error interrupt"];

function hasWindow(event: GuestEvent): boolean {
  return windows.includes(event);
}

/** Does the page fault inside the NMI take the flags of the async #PF that the NMI interrupted for its own? */
function faultPanics(m: Machine, vcpu: Vcpu): boolean {
  if (vcpu.apfFlags === "none") return false;
  return m.case.nmi === "linux-5.8" || (m.case.nmi === "linux" && !m.checks("nmi-leaves-flags"));
}

function takeNmi(m: Machine, vcpu: Vcpu): void {
  m.hasNmiLeft = false;
  const words = `NMI before CR2 and flags are read, with a #PF inside (${m.case.nmi})`;
  m.log?.("exception", "guest", "guest", words);
  const losesCr2 = m.case.nmi === "cr2-lost" || !m.checks("nmi-saves-cr2");
  if (losesCr2 && readsCr2(vcpu.event)) vcpu.cr2 = TOKEN_GARBAGE;
  if (m.case.nmi === "flags-lost") vcpu.apfFlags = "none";
  if (faultPanics(m, vcpu)) {
    oops(m, vcpu.task, "panic", "Host injected async #PF in interrupt disabled region");
  }
}

export function nmiAction(m: Machine, vcpu: Vcpu): Action {
  return {
    name: `nmi: vcpu${vcpu.index} takes an NMI whose handler faults`,
    actor: "nmi",
    guard: () => m.hasNmiLeft && hasWindow(vcpu.event) && vcpu.place === "guest" && m.alive,
    apply: () => takeNmi(m, vcpu),
  };
}

/** A #PF whose CR2 an NMI has overwritten: its address belongs to no access. */
export function strayPageFault(m: Machine, task: Task | null, access: AccessStep | null): void {
  m.mark("lost-report");
  if (access !== null && (modeOf(access) === "kernel" || access.mode === "kernel")) {
    oops(m, task, "oops", "#PF at an address of the NMI's");
    return;
  }
  m.log?.("exception", "guest", "guest", `#PF at an address of the NMI's: ${taskName(task)} gets SIGSEGV`);
  task?.die();
}
