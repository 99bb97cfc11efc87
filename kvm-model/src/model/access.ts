/** The kind of access of a step: the CPU mode that it runs in, and whether it stores. */
import type { AccessStep } from "./case.ts";

export type Mode = "user" | "kernel" | "nested";

export function modeOf(step: AccessStep): Mode {
  switch (step.op) {
    case "copy-from-user":
    case "copy-to-user":
    case "dax-read":
    case "dax-write":
      return "kernel";
    case "load":
    case "store":
    case "atomic":
    case "fetch":
    case "stack":
    case "walk":
      return step.mode ?? "user";
  }
}

export function isStore(step: AccessStep): boolean {
  switch (step.op) {
    case "store":
    case "atomic":
    case "stack":
    case "copy-to-user":
    case "dax-write":
      return true;
    case "load":
    case "fetch":
    case "walk":
    case "copy-from-user":
    case "dax-read":
      return false;
  }
}
