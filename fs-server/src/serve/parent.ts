/** A server ends with its parent: no mount survives a killed harness. */
import { constants } from "node:os";
import { signalOnParentDeath } from "../../../sys/src/index.ts";

/**
 * The kernel sends SIGTERM to this process when its parent dies.
 * @param expectedParent the id of the parent, if known: without it, a parent that is already dead goes unnoticed.
 * @returns false if the parent is gone already: the signal would never come, so the caller must end at once.
 */
export function dieWithParent(expectedParent: number | null): boolean {
  signalOnParentDeath(constants.signals.SIGTERM);
  // Checked after the request, so that a death in between is not missed.
  return expectedParent === null || process.ppid === expectedParent;
}
