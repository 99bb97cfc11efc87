/** A kernel's file, whichever of the two it is. Pure. */
import { parseBzImage } from "./bz-image.ts";
import type { LinuxImage } from "./image.ts";
import { isElf, parseVmlinux } from "./vmlinux.ts";

/** Reads a bzImage or a vmlinux. Throws a BootImageError that names what is wrong. */
export function parseKernel(bytes: Uint8Array): LinuxImage {
  return isElf(bytes) ? parseVmlinux(bytes) : parseBzImage(bytes);
}
