/** What a kernel needs to be the guest of engine `linux`, held against its configuration before it is booted. Pure. */
import type { KernelConfig } from "./build/config.ts";

type Need = {
  /** Without CONFIG_. */
  readonly option: string;
  /** A module will do: the first process loads it. */
  readonly asModule: boolean;
  /** What it is needed for. */
  readonly why: string;
};

const builtIn = (option: string, why: string): Need => ({ option, why, asModule: false });
const atLeastModule = (option: string, why: string): Need => ({ option, why, asModule: true });

/** As vmm/guest/linux/init.c and harness/src/engines/linux use them. */
export const guestNeeds: readonly Need[] = [
  builtIn("BLK_DEV_INITRD", "its first root file system"),
  builtIn("BINFMT_ELF", "its only program"),
  builtIn("PROC_FS", "its program reads the command line in /proc"),
  builtIn("DEVTMPFS", "/dev"),
  builtIn("SERIAL_8250_CONSOLE", "its console, ttyS0"),
  builtIn("DEVMEM", "/dev/mem, by which its program and the host share memory"),
  builtIn("X86_IOPL_IOPERM", "iopl(2), by which its program writes to the doorbell port"),
  builtIn("ACPI", "its devices are found through ACPI"),
  atLeastModule("VIRTIO_MMIO", "its devices are virtio by MMIO"),
  atLeastModule("FUSE_FS", "virtio-fs"),
  atLeastModule("VIRTIO_FS", "virtio-fs"),
  builtIn("FUSE_DAX", "the DAX window of virtio-fs"),
  atLeastModule("VIRTIO_PMEM", "the NVDIMM of the layout nvdimm"),
  builtIn("FS_DAX", "an ext4 on it with DAX"),
  atLeastModule("EXT4_FS", "an ext4 on it with DAX"),
];

/**
 * What of it a kernel lacks, a text each.
 * @param hasModules modules of its own are at hand
 */
export function guestLacks(config: KernelConfig, hasModules: boolean): readonly string[] {
  return guestNeeds.flatMap(({ option, asModule, why }) => {
    const value = config.get(option);
    if (value === "y") return [];
    if (value !== "m") return [`CONFIG_${option} is off (${why})`];
    return asModule && hasModules ? [] : [`CONFIG_${option} is a module, and there is none (${why})`];
  });
}
