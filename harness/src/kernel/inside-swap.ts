/** Swap inside a kernel VM: of the disk that QEMU has for it. Programs inside alone may call this. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { swapOn, swapRefusal } from "../../../sys/src/index.ts";
import { SWAP_SERIAL } from "./devices.ts";

/**
 * Before the features are probed for swap: the VM is ours alone, and a disk is waiting. Without CONFIG_SWAP or VIRTIO_BLK
 * there stays none, which is a reason to skip, not to fail.
 */
export function turnSwapOn(): void {
  if (swapRefusal() === null || !existsSync("/proc/swaps")) return;
  const disk = readdirSync("/sys/block").find((name) => {
    const path = join("/sys/block", name, "serial");
    return existsSync(path) && readFileSync(path, "utf8").trim() === SWAP_SERIAL;
  });
  if (disk !== undefined) swapOn(join("/dev", disk));
}
