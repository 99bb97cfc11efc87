/**
 * The memory of a Linux guest at its first instruction: kernel, initrd, command line, `struct boot_params`, page tables
 * and descriptor table for the 64-bit boot protocol (Documentation/arch/x86/boot.rst, "64-bit Boot Protocol"). Pure but
 * for writing into the RAM that it is given.
 *
 * RAM lies below 1 GiB; at 1 GiB (`WINDOW_BASE`) begins what is behind a file, as in the micro-guest, so that
 * tracepoint filters and policies are the same; devices lie in the last GiB below 4 GiB.
 */
import { WINDOW_BASE } from "../../../guest/channel.ts";
import { SETUP_END, setupOffset } from "./bz-image.ts";
import { BootImageError, type LinuxImage } from "./image.ts";

/** Guest physical addresses. */
export const linuxLayout = {
  BOOT_PARAMS: 0x10000n,
  COMMAND_LINE: 0x20000n,
  PAGE_TABLES: 0x30000n,
  GDT: 0x40000n,
  BOOT_STACK: 0x50000n,
  /** EBDA, and no RAM for Linux, from here. */
  LOW_RAM_END: 0x9fc00n,
  /** Where Linux looks for the RSDP (acpi_find_root_pointer()). */
  ACPI_TABLES: 0xe0000n,
  ACPI_TABLES_END: 0x100000n,
  HIGH_RAM: 0x100000n,
  /** Registers of virtio devices, a page each. */
  MMIO: 0xd0000000n,
  IOAPIC: 0xfec00000n,
  LOCAL_APIC: 0xfee00000n,
} as const;

export const MAX_RAM_BYTES: number = Number(WINDOW_BASE);
const COMMAND_LINE_BYTES = 4096;
const PAGE = 4096n;

/** Types of `struct boot_e820_entry` (asm/e820/types.h). 12: the persistent memory of before ACPI 6, which nd_e820 takes. */
export const e820Type = { ram: 1, reserved: 2, persistent: 12 } as const;
export type E820Entry = {
  readonly start: bigint;
  readonly bytes: bigint;
  readonly type: keyof typeof e820Type;
};

const bootParamsOffset = { acpiRsdpAddress: 0x70, e820Entries: 0x1e8, e820Table: 0x2d0 } as const;
const BOOT_PARAMS_BYTES = 4096;
const E820_ENTRY_BYTES = 20;
const MAX_E820_ENTRIES = 128;
/** type_of_loader of a loader without a number of its own. */
const LOADER_UNDEFINED = 0xff;
const LOADED_HIGH = 1;

/** Selectors that the protocol prescribes. */
export const bootSelector = { code: 0x10, data: 0x18 } as const;
const GDT_CODE = 0x00af9b000000ffffn;
const GDT_DATA = 0x00cf93000000ffffn;
export const GDT_LIMIT = 31;

export type LinuxBoot = {
  readonly kernel: LinuxImage;
  readonly initrd: Uint8Array;
  readonly commandLine: string;
  readonly ramBytes: number;
  /** At the end of RAM, whole pages: shared with the host, and not Linux's (/dev/mem maps it). */
  readonly sharedBytes: number;
  /** Memory that ACPI's tables and Linux's e820 table show as persistent; null: there is none. */
  readonly persistent: { readonly start: bigint; readonly bytes: bigint } | null;
  /** The tables, made for `linuxLayout.ACPI_TABLES`. */
  readonly acpi: Uint8Array;
};

/** Where RAM ends for Linux, and what it shares with the host begins. */
export function sharedAddress({
  ramBytes,
  sharedBytes,
}: Pick<LinuxBoot, "ramBytes" | "sharedBytes">): bigint {
  if (
    sharedBytes < 0 ||
    sharedBytes % Number(PAGE) !== 0 ||
    sharedBytes > ramBytes - Number(linuxLayout.HIGH_RAM)
  ) {
    throw new RangeError(
      `${sharedBytes} shared bytes of ${ramBytes} bytes of RAM: expected whole pages of it`,
    );
  }
  return BigInt(ramBytes - sharedBytes);
}

/** What Linux is shown as its memory. */
export function memoryMap(
  boot: Pick<LinuxBoot, "ramBytes" | "sharedBytes" | "persistent">,
): readonly E820Entry[] {
  const at = linuxLayout;
  const { persistent, sharedBytes } = boot;
  const end = sharedAddress(boot);
  return [
    { start: 0n, bytes: at.LOW_RAM_END, type: "ram" },
    { start: at.ACPI_TABLES, bytes: at.ACPI_TABLES_END - at.ACPI_TABLES, type: "reserved" },
    { start: at.HIGH_RAM, bytes: end - at.HIGH_RAM, type: "ram" },
    ...(sharedBytes === 0 ? [] : [{ start: end, bytes: BigInt(sharedBytes), type: "reserved" } as const]),
    ...(persistent === null ? [] : [{ ...persistent, type: "persistent" } as const]),
  ];
}

/** Where the initrd goes: as high as RAM and the kernel allow, whole pages. Throws a BootImageError if it does not fit. */
export function initrdAddress(
  boot: Pick<LinuxBoot, "kernel" | "initrd" | "ramBytes" | "sharedBytes">,
): bigint {
  const { kernel, initrd, ramBytes } = boot;
  const ramEnd = sharedAddress(boot);
  const limit = ramEnd - 1n < kernel.maxInitrdAddress ? ramEnd : kernel.maxInitrdAddress + 1n;
  const start = ((limit - BigInt(initrd.length)) / PAGE) * PAGE;
  if (start < kernel.end) {
    throw new BootImageError(
      `${ramBytes} bytes of RAM are too few: the kernel takes ${kernel.end}, the initrd ${initrd.length} more`,
    );
  }
  return start;
}

/** `struct boot_params` ("zero page"). */
export function bootParams(boot: LinuxBoot): Uint8Array {
  const bytes = new Uint8Array(BOOT_PARAMS_BYTES);
  const view = new DataView(bytes.buffer);
  bytes.set(boot.kernel.setupHeader.subarray(0, SETUP_END - setupOffset.setupSects), setupOffset.setupSects);
  view.setUint8(setupOffset.typeOfLoader, LOADER_UNDEFINED);
  view.setUint8(setupOffset.loadFlags, view.getUint8(setupOffset.loadFlags) | LOADED_HIGH);
  view.setUint32(setupOffset.ramdiskImage, Number(initrdAddress(boot)), true);
  view.setUint32(setupOffset.ramdiskSize, boot.initrd.length, true);
  view.setUint32(setupOffset.cmdLinePointer, Number(linuxLayout.COMMAND_LINE), true);
  view.setBigUint64(bootParamsOffset.acpiRsdpAddress, linuxLayout.ACPI_TABLES, true);
  const map = memoryMap(boot);
  if (map.length > MAX_E820_ENTRIES)
    throw new RangeError(`${map.length} e820 entries: at most ${MAX_E820_ENTRIES}`);
  view.setUint8(bootParamsOffset.e820Entries, map.length);
  for (const [index, entry] of map.entries()) {
    const at = bootParamsOffset.e820Table + index * E820_ENTRY_BYTES;
    view.setBigUint64(at, entry.start, true);
    view.setBigUint64(at + 8, entry.bytes, true);
    view.setUint32(at + 16, e820Type[entry.type], true);
  }
  return bytes;
}

/** Identity map of the first 4 GiB with 2 MiB pages: PML4, one PDPT, four page directories. */
export function identityMap(): Uint8Array {
  const PRESENT_WRITABLE = 3n;
  const LARGE = 0x80n;
  const LARGE_PAGE = 2n * 1024n * 1024n;
  const GIB = 4;
  const view = new DataView(new ArrayBuffer((2 + GIB) * Number(PAGE)));
  const base = linuxLayout.PAGE_TABLES;
  view.setBigUint64(0, (base + PAGE) | PRESENT_WRITABLE, true);
  for (let gib = 0; gib < GIB; gib++) {
    const directory = Number(PAGE) * (2 + gib);
    view.setBigUint64(Number(PAGE) + 8 * gib, (base + BigInt(directory)) | PRESENT_WRITABLE, true);
    for (let i = 0; i < 512; i++) {
      const address = BigInt(gib * 512 + i) * LARGE_PAGE;
      view.setBigUint64(directory + 8 * i, address | LARGE | PRESENT_WRITABLE, true);
    }
  }
  return new Uint8Array(view.buffer);
}

function commandLineBytes({ commandLine, kernel }: LinuxBoot): Uint8Array {
  const bytes = Buffer.from(`${commandLine}\0`, "latin1");
  const limit = Math.min(kernel.maxCommandLineBytes, COMMAND_LINE_BYTES - 1);
  if (bytes.length - 1 > limit) {
    throw new BootImageError(`a command line of ${bytes.length - 1} bytes: this kernel takes ${limit}`);
  }
  return bytes;
}

/** Writes everything into RAM, which is zero and begins at guest physical address 0. Throws a BootImageError. */
export function writeLinux(ram: Uint8Array, boot: LinuxBoot): void {
  if (boot.ramBytes !== ram.length || ram.length > MAX_RAM_BYTES) {
    throw new RangeError(
      `${boot.ramBytes} bytes of RAM in a mapping of ${ram.length}: at most ${MAX_RAM_BYTES}`,
    );
  }
  const at = linuxLayout;
  if (BigInt(boot.acpi.length) > at.ACPI_TABLES_END - at.ACPI_TABLES) {
    throw new RangeError(`ACPI tables of ${boot.acpi.length} bytes`);
  }
  const initrd = initrdAddress(boot);
  const gdt = new DataView(new ArrayBuffer(GDT_LIMIT + 1));
  gdt.setBigUint64(bootSelector.code, GDT_CODE, true);
  gdt.setBigUint64(bootSelector.data, GDT_DATA, true);
  const parts: readonly (readonly [bigint, Uint8Array])[] = [
    [at.BOOT_PARAMS, bootParams(boot)],
    [at.COMMAND_LINE, commandLineBytes(boot)],
    [at.PAGE_TABLES, identityMap()],
    [at.GDT, new Uint8Array(gdt.buffer)],
    [at.ACPI_TABLES, boot.acpi],
    ...boot.kernel.segments.map(({ address, bytes }) => [address, bytes] as const),
    [initrd, boot.initrd],
  ];
  for (const [address, bytes] of parts) ram.set(bytes, Number(address));
}
