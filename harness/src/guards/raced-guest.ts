/** A Linux guest as races have it: with async page faults, HLT an exit, a folder by virtio-fs. */
import { LinuxGuest } from "../engines/linux/guest.ts";
import type { SharedFolder } from "../engines/linux/shared-folder.ts";
import type { LinuxRaceSetup } from "./linux-race.ts";

export const BOOT_BOUND_MS = 30_000;
/** As engine `linux` has it (engines/linux/guest-main.ts). */
export const SETTLE_MS = 1500;

/** Begins to boot. */
export function racedGuest(
  { kernel, slowness }: LinuxRaceSetup,
  { cpus }: { readonly cpus: number },
): LinuxGuest {
  return new LinuxGuest(
    {
      kernel,
      cpus,
      asyncPageFaults: "offered",
      machineCheckRecovery: "offered",
      virtualization: "hidden",
      device: "virtio-fs",
      hltInGuest: false,
      ioPatienceMs: BOOT_BOUND_MS * slowness,
      isIoAnswered: true,
      boundMs: BOOT_BOUND_MS * slowness,
    },
    { maxRepeats: Number.MAX_SAFE_INTEGER },
  );
}

export function folderOf({ storage }: LinuxGuest): SharedFolder {
  if (storage.kind === "folder") return storage;
  throw new Error("a guest with an NVDIMM has no folder");
}
