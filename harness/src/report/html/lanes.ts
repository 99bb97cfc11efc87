/** In which lane of a case's timeline an event belongs: who did it, or to whom it happened. */
import type { Scenario, TraceEvent } from "../../../../language/src/index.ts";

export const lanes = [
  "guest task",
  "guest kernel",
  "vCPU, VMM",
  "KVM",
  "host mm",
  "file server",
  "host actor",
] as const;
export type Lane = (typeof lanes)[number];

/** The lane of an actor by its name: of the scenario, or one of the engines' own. */
function laneOfActor(name: string, scenario: Scenario): Lane {
  const actor = scenario.actors[name];
  switch (actor?.in) {
    case "guest-task":
      return "guest task";
    case "guest-kernel":
      return "guest kernel";
    case "host-process":
      return "host actor";
    case "vmm":
      return "vCPU, VMM";
    case undefined:
      break;
  }
  switch (name) {
    case "kvm":
    case "worker":
      return "KVM";
    case "guest":
      return "guest task";
    case "server":
      return "file server";
    case "vmm":
      return "vCPU, VMM";
    case "fence":
      return "host mm";
    default:
      return "host actor";
  }
}

export function laneOf(event: TraceEvent, scenario: Scenario): Lane {
  const { kind, actor, detail } = event;
  switch (kind) {
    case "exit":
    case "inject":
      return "vCPU, VMM";
    case "exception":
    case "fixup":
    case "nmi":
      return "guest kernel";
    case "sigbus":
    case "sigsegv":
      return "guest task";
    case "lease-break":
    case "lease-release":
    case "guard-refused":
    case "server":
      return "file server";
    case "unmap":
    case "remap":
    case "swap-out":
    case "huge-page":
    case "memory-failure":
      return "host mm";
    case "map":
      return actor === "kvm" ? "KVM" : "host mm";
    case "truncate":
    case "punch":
      // The model shows the system call inside the kernel, step by step.
      return /^(i_size|page cache)/.test(detail) ? "host mm" : laneOfActor(actor, scenario);
    case "apf-not-present":
    case "apf-ready":
    case "apf-halt":
      return actor === "kvm" || actor === "worker" ? "KVM" : "guest kernel";
    case "fault":
    case "signal":
    case "rename":
    case "unlink":
    case "open":
    case "write":
      return laneOfActor(actor, scenario);
  }
}
