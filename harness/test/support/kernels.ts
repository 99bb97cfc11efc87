/** Kernels for tests that need none: an image that says a few words and dies, modules that say what they need. */
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

const SETUP_BYTES = 5 * 512;
const SYSTEM_BYTES = 0x1000;
/** As the header of `bootImage` has it. */
export const IMAGE_BYTES: number = SETUP_BYTES + SYSTEM_BYTES;

export type BootImage = {
  /** `uname -r`, as the header tells it. */
  readonly release?: string;
  /** What it says on the console. */
  readonly says?: string;
  /** What it does then: reset the machine, as a panic ends here, or stop. */
  readonly end?: "reset" | "stop";
};

/**
 * A bzImage as far as its header goes (Documentation/arch/x86/boot.rst), whose real-mode code writes a text to the first
 * serial port. QEMU boots it in half a second, emulated.
 */
export function bootImage({ release = "6.99.0-1-amd64", says = "", end = "reset" }: BootImage = {}): Buffer {
  const bytes = Buffer.alloc(IMAGE_BYTES);
  const TEXT_AT = 0x400;
  const RELEASE_AT = 0x300;
  bytes[0x1f1] = SETUP_BYTES / 512 - 1; // setup_sects
  bytes.writeUInt32LE(SYSTEM_BYTES / 16, 0x1f4); // syssize
  bytes.set([0xeb, 0x6e], 0x200); // jmp 0x270
  bytes.write("HdrS", 0x202, "latin1");
  bytes.writeUInt16LE(0x202, 0x206); // version of the protocol
  bytes.writeUInt16LE(RELEASE_AT - 0x200, 0x20e); // kernel_version
  bytes[0x211] = 1; // loadflags: LOADED_HIGH
  // mov si, TEXT_AT; mov dx, 0x3f8; next: lodsb; test al, al; jz end; out dx, al; jmp next; end:
  const print = [
    0xbe,
    TEXT_AT & 0xff,
    TEXT_AT >> 8,
    0xba,
    0xf8,
    0x03,
    0xac,
    0x84,
    0xc0,
    0x74,
    0x03,
    0xee,
    0xeb,
    0xf8,
  ];
  const reset = [0xb0, 0xfe, 0xe6, 0x64]; // mov al, 0xfe; out 0x64, al: the keyboard controller's reset line
  const stop = [0xf4, 0xeb, 0xfd]; // hlt, for ever
  bytes.set([...print, ...(end === "reset" ? reset : []), ...stop], 0x270);
  bytes.write(`${release} (somebody)\0`, RELEASE_AT, "latin1");
  bytes.write(`${says}\0`, TEXT_AT, "latin1");
  return bytes;
}

/** A relocatable ELF64 file with nothing in it but a section `.modinfo` of `key=value` texts (elf.5). */
export function moduleBytes(info: readonly string[]): Buffer {
  const names = Buffer.from("\0.shstrtab\0.modinfo\0", "latin1");
  const modinfo = Buffer.from(info.map((text) => `${text}\0`).join(""), "latin1");
  const HEADER_BYTES = 64;
  const namesAt = HEADER_BYTES;
  const infoAt = namesAt + names.length;
  const tableAt = infoAt + modinfo.length;
  const bytes = Buffer.alloc(tableAt + 3 * 64);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  names.copy(bytes, namesAt);
  modinfo.copy(bytes, infoAt);
  bytes.writeBigUInt64LE(BigInt(tableAt), 0x28); // e_shoff
  bytes.writeUInt16LE(64, 0x3a); // e_shentsize
  bytes.writeUInt16LE(3, 0x3c); // e_shnum
  bytes.writeUInt16LE(1, 0x3e); // e_shstrndx
  const section = (index: number, name: number, at: number, size: number): void => {
    bytes.writeUInt32LE(name, tableAt + index * 64);
    bytes.writeBigUInt64LE(BigInt(at), tableAt + index * 64 + 0x18);
    bytes.writeBigUInt64LE(BigInt(size), tableAt + index * 64 + 0x20);
  };
  section(1, 1, namesAt, names.length);
  section(2, 11, infoAt, modinfo.length);
  return bytes;
}

/** Without them nothing of ours runs inside. */
export const neededModules: Readonly<Record<string, readonly string[]>> = {
  "drivers/virtio/virtio_pci.ko": [],
  "net/9p/9pnet.ko": [],
  "net/9p/9pnet_virtio.ko": ["depends=9pnet"],
  "fs/9p/9p.ko": ["depends=9pnet"],
  "drivers/char/virtio_console.ko": [],
};

/** Without them a kernel is no guest of ours. */
export const guestModules: Readonly<Record<string, readonly string[]>> = {
  "drivers/virtio/virtio_mmio.ko": [],
  "drivers/nvdimm/libnvdimm.ko": [],
  "drivers/nvdimm/nd_e820.ko": ["depends=libnvdimm"],
  "drivers/nvdimm/nd_pmem.ko": ["depends=libnvdimm"],
  "drivers/nvdimm/virtio_pmem.ko": ["depends=libnvdimm"],
  "fs/ext4/ext4.ko": [],
};

/** Writes modules below `lib/modules/RELEASE` or wherever else: what each is called, and what it says of itself. */
export function writeModules(
  directory: string,
  release: string,
  modules: Readonly<Record<string, readonly string[]>> = neededModules,
): void {
  for (const [name, info] of Object.entries(modules)) {
    const path = `${directory}/kernel/${name}`;
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, moduleBytes([...info, `vermagic=${release} SMP preempt mod_unload `]));
  }
}
