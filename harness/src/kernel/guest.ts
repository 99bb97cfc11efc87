/**
 * A guest kernel of our own VMM, ready to be booted: by the words of `--kernel`, decompressed where that can be done here,
 * with a first file system of its modules and one static program.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { stepsPath } from "../../../vmm/src/index.ts";
import type { GuestKernel } from "../engine.ts";
import { parseConfig } from "./build/config.ts";
import { builtInit } from "./built-init.ts";
import { obtainKernel } from "./cache.ts";
import { vmlinuxOf } from "./decompress.ts";
import { KernelError } from "./error.ts";
import { type GuestRootOptions, guestInitramfs, guestRootInitramfs } from "./initramfs.ts";
import type { ModuleFile } from "./modules.ts";
import { guestLacks, qemuNeeds } from "./needs.ts";
import type { GuestAsked } from "./spec.ts";
import type { Kernel } from "./store.ts";

export type GuestOptions = GuestAsked & {
  /** The guest's only program, static. */
  readonly program: Uint8Array;
  /** Its arguments; none if left out. */
  readonly programArguments?: readonly string[];
  readonly signal: AbortSignal;
};

export type GuestFiles = {
  /** Where it comes from, its release and checksum. */
  readonly kernel: Kernel;
  /** A vmlinux, or the bzImage where there is nothing to decompress it with. */
  readonly image: Uint8Array;
  readonly initrd: Uint8Array;
  /** The same with the kernel's KVM loaded. */
  readonly nestedInitrd: Uint8Array;
  /** The same with the drivers of virtio by PCI loaded. */
  readonly pciInitrd: Uint8Array;
};

/** Each where it comes first: what needs it comes later. */
function uniqueModules(modules: readonly ModuleFile[]): readonly ModuleFile[] {
  return modules.filter(({ name }, at) => modules.findIndex((one) => one.name === name) === at);
}

/** A KernelError names the option. */
async function guestKernelOf({ spec, modulesDirectory }: GuestAsked, signal: AbortSignal): Promise<Kernel> {
  try {
    return await obtainKernel(spec, modulesDirectory, signal, "guest");
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    throw new KernelError(`--guest-kernel ${spec.text}: ${error.message}`);
  }
}

/** Downloads and unpacks the kernel if it is not in the cache. Throws a KernelError, whose message is for the user. */
export async function obtainGuest(options: GuestOptions): Promise<GuestFiles> {
  const { program, programArguments = [], signal } = options;
  const kernel = await guestKernelOf(options, signal);
  const file = readFileSync(kernel.imagePath);
  const { modules, nestedModules, pciModules } = kernel;
  const common = { init: builtInit(), program, programArguments };
  return {
    kernel,
    image: vmlinuxOf(file) ?? file,
    initrd: guestInitramfs({ ...common, modules }),
    nestedInitrd: guestInitramfs({ ...common, modules: [...modules, ...nestedModules] }),
    pciInitrd: guestInitramfs({ ...common, modules: uniqueModules([...pciModules, ...modules]) }),
  };
}

/** The same for a guest whose root file system is another machine's, over virtio-fs. */
export async function obtainGuestOnRoot({
  spec,
  modulesDirectory,
  signal,
  ...root
}: GuestAsked & {
  readonly signal: AbortSignal;
} & Omit<GuestRootOptions, "init" | "modules">): Promise<Omit<GuestFiles, "nestedInitrd" | "pciInitrd">> {
  const kernel = await guestKernelOf({ spec, modulesDirectory }, signal);
  const file = readFileSync(kernel.imagePath);
  const initrd = guestRootInitramfs({ ...root, init: builtInit(), modules: kernel.modules });
  return { kernel, image: vmlinuxOf(file) ?? file, initrd };
}

/** By its configuration, where that is at hand. */
function lacksInQemu({ config, pciModules }: Kernel): readonly string[] {
  return config === null ? [] : guestLacks(parseConfig(config), pciModules.length > 0, qemuNeeds);
}

/** `obtainGuest` in files of `directory`, with the program that runs cases (vmm/guest/linux). */
export async function guestKernelIn(
  directory: string,
  options: Omit<GuestOptions, "program" | "programArguments">,
): Promise<GuestKernel> {
  const { kernel, image, initrd, nestedInitrd, pciInitrd } = await obtainGuest({
    ...options,
    program: readFileSync(stepsPath()),
    programArguments: ["guest"],
  });
  const imagePath = join(directory, "guest-image");
  const initrdPath = join(directory, "guest-initrd");
  const nestedInitrdPath = join(directory, "guest-initrd-nested");
  writeFileSync(imagePath, image);
  writeFileSync(initrdPath, initrd);
  writeFileSync(nestedInitrdPath, nestedInitrd);
  const pciInitrdPath = join(directory, "guest-initrd-pci");
  writeFileSync(pciInitrdPath, pciInitrd);
  const { name, origin, release, sha256, patches } = kernel;
  const paths = { imagePath, initrdPath, nestedInitrdPath, pciInitrdPath };
  return { name, origin, release, sha256, patches, ...paths, lacksInQemu: lacksInQemu(kernel) };
}
