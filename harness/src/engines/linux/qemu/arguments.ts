/** QEMU's command line for a Linux guest with a DAX window. Pure. */
import { caseLayout } from "../../../../../vmm/src/index.ts";
import { socketChardev, windowDevice } from "../../../kernel/dax-qemu.ts";
import { LINUX_COMMAND_LINE } from "../command-line.ts";

export type Accelerator = "kvm" | "tcg";

/** Of the guest, at 0. */
export const RAM_BYTES: number = 256 * 2 ** 20;
const PAGE_BYTES = 4096;
/** What the guest's program shares with the host: in the middle of the RAM, whose ends are the kernel's and the firmware's. */
export const SHARED_ADDRESS: number = 128 * 2 ** 20;
export const SHARED_BYTES: number = Math.ceil(caseLayout.sizeofLinuxCase / PAGE_BYTES) * PAGE_BYTES;
/**
 * The port of an isa-debugcon, a byte device without a driver (hw/char/debugcon.c). Not 0x402, on which SeaBIOS writes if there
 * is one, nor any other of q35's.
 */
const DOORBELL_PORT = 0x330;

/**
 * Where SeaBIOS puts a window of 64 MiB in q35: the largest of what is prefetchable, from the end of the space for devices
 * (0xfec00000) down, at a multiple of its size (pci_region_map_entries(), src/fw/pciinit.c). The guest says it (`Cache len`).
 */
export const QEMU_WINDOW_BASE = 0xf8000000n;

const QUEUE_SIZE = 128;

/** Descriptors of the child, behind standard input, output and error. */
export const descriptor = { ram: 3, qmp: 4, doorbell: 5 } as const;

export type GuestOptions = {
  readonly accelerator: Accelerator;
  /** A bzImage, or a vmlinux with a PVH entry. */
  readonly imagePath: string;
  readonly initrdPath: string;
  readonly cpus: number;
  /** Of KVM, by interrupt: what Linux since 5.8 enables. */
  readonly asyncPageFaults: "offered" | "hidden";
  readonly hltInGuest: boolean;
  /** Where the file server listens; null: the guest has no device. */
  readonly socketPath: string | null;
};

/** As of our own VMM's guest, and where the channel and the doorbell are. */
export function guestCommandLine(): string {
  const hex = (value: number): string => `0x${value.toString(16)}`;
  return [
    LINUX_COMMAND_LINE,
    `memmap=${hex(SHARED_BYTES)}$${hex(SHARED_ADDRESS)}`,
    `daxfault.channel=${hex(SHARED_ADDRESS)}`,
    `daxfault.doorbell=${hex(DOORBELL_PORT)}`,
  ].join(" ");
}

function cpuModel({ accelerator, asyncPageFaults }: GuestOptions): string {
  if (accelerator === "tcg") return "max";
  return asyncPageFaults === "offered" ? "host" : "host,kvm-asyncpf=off,kvm-asyncpf-int=off";
}

function deviceArguments({ socketPath }: GuestOptions): readonly (readonly string[])[] {
  if (socketPath === null) return [];
  return [
    ["-chardev", socketChardev("fs", socketPath)],
    ["-device", windowDevice("fs", QUEUE_SIZE)],
  ];
}

/** Everything behind the program and its first arguments. */
export function guestArguments(options: GuestOptions): readonly string[] {
  const { accelerator, imagePath, initrdPath, cpus, hltInGuest } = options;
  return [
    ["-accel", accelerator === "kvm" ? "kvm" : "tcg,thread=multi"],
    ["-cpu", cpuModel(options)],
    ["-smp", String(cpus)],
    ["-m", `${RAM_BYTES / 2 ** 20}M`],
    ["-nodefaults", "-no-user-config", "-no-reboot"],
    ["-display", "none"],
    ["-run-with", "exit-with-parent=on"],
    // HLT in the guest: KVM_CAP_X86_DISABLE_EXITS.
    ...(hltInGuest ? [["-overcommit", "cpu-pm=on"]] : []),
    [
      "-object",
      `memory-backend-file,id=ram,size=${RAM_BYTES},share=on,mem-path=/proc/self/fd/${descriptor.ram}`,
    ],
    ["-machine", "q35,memory-backend=ram"],
    ["-serial", "stdio"],
    ["-chardev", `socket,id=qmp,fd=${descriptor.qmp}`],
    ["-qmp", "chardev:qmp"],
    ["-chardev", `socket,id=doorbell,fd=${descriptor.doorbell}`],
    ["-device", `isa-debugcon,chardev=doorbell,iobase=${DOORBELL_PORT}`],
    ["-kernel", imagePath],
    ["-initrd", initrdPath],
    ["-append", guestCommandLine()],
    ...deviceArguments(options),
  ].flat();
}
