/** An NMI whose handler takes a page fault before the handler of the event that it interrupts has read CR2 and flags. */
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

function takeNmi(m: Machine, vcpu: Vcpu): void {
  m.hasNmiLeft = false;
  if (m.case.nmi === "cr2-lost" || !m.checks("nmi-saves-cr2")) vcpu.cr2 = TOKEN_GARBAGE;
  if (m.case.nmi === "flags-lost") vcpu.apfFlags = "none";
  const words = `NMI before CR2 and flags are read, with a #PF inside (${m.case.nmi})`;
  m.log?.("exception", "guest", "guest", words);
}

export function nmiAction(m: Machine, vcpu: Vcpu): Action {
  return {
    name: `nmi: vcpu${vcpu.index} takes an NMI whose handler faults`,
    actor: "nmi",
    guard: () => m.hasNmiLeft && readsCr2(vcpu.event) && vcpu.place === "guest" && m.alive,
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
