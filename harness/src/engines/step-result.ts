/** From the result of a step, as the interpreter leaves it on the channel, to the words of the vocabulary. Pure. */
import { constants } from "node:os";
import { type Access, sigbusCode, sigsegvCode } from "../../../language/src/index.ts";
import type { StepResult } from "../../../vmm/src/index.ts";

/** `EIO`; the number where Node.js knows no name for it, as for an errno that no system call should return. */
export function errnoName(number: number): string {
  return Object.entries(constants.errno).find(([, known]) => known === number)?.[0] ?? String(number);
}

/**
 * The access that a failure has ended; null: none has. Then it has not begun, is under way, or has succeeded, and its bytes
 * say what it has seen.
 */
export function failedAccess({ status, number }: Pick<StepResult, "status" | "number">): Access | null {
  switch (status) {
    case "efault":
      return { kind: "efault" };
    case "sigbus":
      return { kind: "sigbus", code: sigbusCode(number) };
    case "sigsegv":
      return { kind: "sigsegv", code: sigsegvCode(number) };
    case "errno":
      return { kind: "errno", errno: errnoName(number) };
    case "short":
      return { kind: "short", bytes: number };
    case "not-reached":
    case "started":
    case "done":
      return null;
  }
}
