/** What of a scenario only a guest can do, and no process of the host. Pure. */
import { type Actor, isAccess, kernelCopyOptionsOf, type Scenario } from "../../../language/src/index.ts";

function beyondActor(name: string, actor: Actor): string | null {
  switch (actor.in) {
    case "host-process":
      return null;
    case "guest-kernel":
      return `${name} is a guest kernel; without a VM there is none`;
    case "vmm":
      return `${name} is a VMM; without a VM there is none`;
    case "guest-task":
      if (actor.nested) return `${name} is a task of a guest's guest; without a VM there is no guest`;
      if (actor.interrupts === "off") return `${name} runs with interrupts off; a process cannot`;
      for (const step of actor.steps) {
        if (isAccess(step) && kernelCopyOptionsOf(step).length > 0)
          return `${name} asks for a kernel copy of another kind than the host's own`;
      }
      return null;
  }
}

/** Why no process of the host can do that; null: it can. */
export function beyondProcess({ actors, nmi }: Pick<Scenario, "actors" | "nmi">): string | null {
  const reasons = Object.entries(actors).map(([name, actor]) => beyondActor(name, actor));
  return reasons.find((reason) => reason !== null) ?? (nmi === undefined ? null : "a process takes no NMI");
}
