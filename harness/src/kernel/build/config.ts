/**
 * What of a kernel's configuration is ours: a fragment over `tinyconfig`, and what kconfig has made of it. Pure.
 */

/** Options of a configuration that are on, by name without CONFIG_: `y`, `m`, a number or a text in quotation marks. */
export type KernelConfig = ReadonlyMap<string, string>;

/** Reads a `.config`; what is off, or not asked for, is not in it. */
export function parseConfig(text: string): KernelConfig {
  const lines = text.matchAll(/^CONFIG_([A-Za-z0-9_]+)=(.*)$/gm);
  return new Map([...lines].map(([, name = "", value = ""]) => [name, value]));
}

/** Options of the fragment that kconfig has not taken, as it has left them: a dependency is not in the fragment, or the option is gone. */
export function notTaken(fragment: string, made: string): readonly string[] {
  const result = parseConfig(made);
  return [...parseConfig(fragment)]
    .filter(([name, value]) => result.get(name) !== value)
    .map(([name, value]) => `CONFIG_${name}=${value}`);
}

const groups: readonly (readonly [why: string, options: string])[] = [
  [
    "Several vCPUs, time, and what user space takes for granted",
    "64BIT SMP HIGH_RES_TIMERS NO_HZ_IDLE PREEMPT_VOLUNTARY MULTIUSER FUTEX EPOLL SIGNALFD EVENTFD TIMERFD POSIX_TIMERS ADVISE_SYSCALLS SHMEM AIO BINFMT_ELF BINFMT_SCRIPT",
  ],
  ["Not as small as can be: as fast as can be", "CC_OPTIMIZE_FOR_PERFORMANCE"],
  [
    "It says of what it dies, and with which configuration it was made",
    "PRINTK BUG KALLSYMS IKCONFIG IKCONFIG_PROC",
  ],
  [
    "First root file system; decompressed without a tool (kernel/decompress.ts)",
    "BLK_DEV_INITRD KERNEL_GZIP RELOCATABLE",
  ],
  ["Console", "TTY UNIX98_PTYS SERIAL_8250 SERIAL_8250_CONSOLE"],
  ["File systems of the first process", "PROC_FS SYSFS TMPFS DEVTMPFS"],
  ["Memory and port that it shares with the host (vmm/guest/linux/init.c)", "DEVMEM X86_IOPL_IOPERM"],
  ["Guest of KVM: clock, async page faults", "HYPERVISOR_GUEST PARAVIRT KVM_GUEST X86_X2APIC"],
  [
    "Machine checks, and what becomes of a page that has one",
    "X86_MCE X86_MCE_INTEL X86_MCE_AMD MEMORY_FAILURE",
  ],
  [
    "Page structures of device memory, huge mappings",
    "TRANSPARENT_HUGEPAGE TRANSPARENT_HUGEPAGE_MADVISE MEMORY_HOTPLUG MEMORY_HOTREMOVE SPARSEMEM_VMEMMAP ZONE_DEVICE",
  ],
  ["Devices: virtio by MMIO, found through ACPI", "ACPI PCI VIRTIO_MENU VIRTIO_MMIO BLOCK"],
  ["virtio-fs with a DAX window", "MISC_FILESYSTEMS DAX FS_DAX FUSE_FS VIRTIO_FS FUSE_DAX"],
  ["Persistent memory with ext4", "LIBNVDIMM X86_PMEM_LEGACY BLK_DEV_PMEM VIRTIO_PMEM EXT4_FS"],
  ["Guests of its own", "VIRTUALIZATION KVM KVM_AMD KVM_INTEL"],
];

/** The fragment of the small guest kernel: all that engine `linux` needs, nothing as a module. */
export const smallFragment: string = [
  ...groups.flatMap(([why, options]) => [
    `# ${why}.`,
    ...options.split(" ").map((name) => `CONFIG_${name}=y`),
  ]),
  "CONFIG_NR_CPUS=8",
  'CONFIG_LOCALVERSION="-daxfault-small"',
  "",
].join("\n");
