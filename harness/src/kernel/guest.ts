/**
 * A guest kernel of our own VMM, ready to be booted: by the words of `--kernel`, decompressed where that can be done here,
 * with a first file system of its modules and one static program.
 */
import { readFileSync } from "node:fs";
import { builtInit } from "./built-init.ts";
import { type Kernel, obtainKernel } from "./cache.ts";
import { vmlinuxOf } from "./decompress.ts";
import { guestInitramfs } from "./initramfs.ts";
import type { KernelSpec } from "./spec.ts";

export type GuestOptions = {
  readonly spec: KernelSpec;
  /** For an image in a file: where its modules are; null if it needs none. */
  readonly modulesDirectory: string | null;
  /** The guest's only program, static. */
  readonly program: Uint8Array;
  readonly signal: AbortSignal;
};

export type GuestFiles = {
  /** Where it comes from, its release and checksum. */
  readonly kernel: Kernel;
  /** A vmlinux, or the bzImage where there is nothing to decompress it with. */
  readonly image: Uint8Array;
  readonly initrd: Uint8Array;
};

/** Downloads and unpacks the kernel if it is not in the cache. Throws a KernelError, whose message is for the user. */
export async function obtainGuest(options: GuestOptions): Promise<GuestFiles> {
  const { spec, modulesDirectory, program, signal } = options;
  const kernel = await obtainKernel(spec, modulesDirectory, signal, "guest");
  const file = readFileSync(kernel.imagePath);
  const initrd = guestInitramfs({ init: builtInit(), modules: kernel.modules, program });
  return { kernel, image: vmlinuxOf(file) ?? file, initrd };
}
