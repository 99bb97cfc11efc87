/** What a VMM does to its own mapping of the guest's memory, one call each, at any time of the case. */
import { closeSync, openSync } from "node:fs";
import { fromValue, isPrivate, type Protection, type VmmAction } from "../../../../language/src/index.ts";
import {
  adviseDiscard,
  copyIn,
  copyOut,
  failMemory,
  MAP_FIXED,
  MAP_PRIVATE,
  MAP_SHARED,
  mmap,
  mprotect,
  munmap,
  PROT_NONE,
  PROT_READ,
  PROT_WRITE,
  punchHole,
} from "../../../../sys/src/index.ts";
import { fileOffsetOf } from "../vm/file-page.ts";
import type { VmPlan } from "./plan.ts";
import type { Window } from "./window.ts";

const bits: Readonly<Record<Protection, number>> = {
  none: PROT_NONE,
  read: PROT_READ,
  all: PROT_READ | PROT_WRITE,
};

function mapAgain(plan: VmPlan, hva: bigint, offset: bigint, lengthBytes: number): void {
  const fd = openSync(plan.filePath, "r+");
  try {
    mmap({
      address: hva + offset,
      lengthBytes,
      prot: bits[plan.memory.readonly ? "read" : "all"],
      flags: MAP_FIXED | (isPrivate(plan.memory.kind) ? MAP_PRIVATE : MAP_SHARED),
      fd,
      fileOffset: fileOffsetOf(plan, offset),
    });
  } finally {
    closeSync(fd);
  }
}

/** Throws a SyscallError. A device's copy to or from what is lost kills this process: it is the VMM's own access. */
export function actOnMapping(
  action: VmmAction,
  plan: VmPlan,
  window: Pick<Window, "hva" | "guestMemory">,
): void {
  const { hva, guestMemory } = window;
  const address = hva + action.offset;
  switch (action.verb) {
    case "unmap":
      munmap(address, Number(action.length));
      return;
    case "map":
      if (guestMemory === undefined) mapAgain(plan, hva, action.offset, Number(action.length));
      else guestMemory.map(action.offset, Number(action.length), bits.all);
      return;
    case "protect":
      mprotect(address, Number(action.length), bits[action.protection]);
      return;
    case "discard":
      if (guestMemory !== undefined) guestMemory.punch(action.offset, action.length);
      else if (isPrivate(plan.memory.kind)) adviseDiscard(address, Number(action.length));
      else punchHole(plan.filePath, fileOffsetOf(plan, action.offset), action.length);
      return;
    case "memory-failure":
      failMemory(address);
      return;
    case "device-read":
      copyOut(address, action.size);
      return;
    case "device-write":
      copyIn(address, fromValue(action.value, action.size));
  }
}
