/**
 * What a kernel needs to be the guest of engine `linux`: held against its configuration before it is booted, or read off
 * the console of one whose configuration is not at hand. Pure.
 */
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

/** Of a guest in QEMU, besides (engines/linux/qemu). */
export const qemuNeeds: readonly Need[] = [
  builtIn("PCI", "its devices are on PCI"),
  atLeastModule("VIRTIO_PCI", "its devices are virtio by PCI"),
  builtIn("DEVPORT", "/dev/port, by which its program writes to the doorbell port"),
  builtIn("PVH", "QEMU enters a vmlinux by its PVH entry"),
];

/**
 * What of it a kernel lacks, a text each.
 * @param hasModules modules of its own are at hand
 */
export function guestLacks(
  config: KernelConfig,
  hasModules: boolean,
  needs: readonly Need[] = guestNeeds,
): readonly string[] {
  return needs.flatMap(({ option, asModule, why }) => {
    const value = config.get(option);
    if (value === "y") return [];
    if (value !== "m") return [`CONFIG_${option} is off (${why})`];
    return asModule && hasModules ? [] : [`CONFIG_${option} is a module, and there is none (${why})`];
  });
}

/** What a kernel says that has come up without one of its needs, or would have: where its first process cannot say it. */
const signs: readonly { readonly pattern: RegExp; readonly option: string }[] = [
  // prepare_namespace() (init/do_mounts.c): without an initrd it looks for a disk.
  { pattern: /VFS: (?:Unable to mount root fs|Cannot open root device)/, option: "BLK_DEV_INITRD" },
  // run_init_process() (init/main.c), -ENOEXEC.
  {
    pattern: /Failed to execute \/\S+ \(error -8\)|\/init exists but couldn't execute it \(error -8\)/,
    option: "BINFMT_ELF",
  },
];

/**
 * What a kernel that did not come up as a guest lacks, by its console; null: that does not show it.
 * @param lines without those of the loader
 */
export function lackIn(lines: readonly string[]): string | null {
  const needed = (option: string): string => {
    const why = guestNeeds.find((need) => need.option === option)?.why;
    return why === undefined ? `CONFIG_${option}` : `CONFIG_${option} (${why})`;
  };
  if (lines.every((line) => line.trim() === "")) return needed("SERIAL_8250_CONSOLE");
  const sign = signs.find(({ pattern }) => lines.some((line) => pattern.test(line)));
  return sign === undefined ? null : needed(sign.option);
}
