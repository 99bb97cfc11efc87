/**
 * A vmlinux: the kernel as an ELF file, as it is after decompression (elf.5; arch/x86/kernel/vmlinux.lds.S). Its entry is
 * startup_64, which takes the same state as a bzImage's 64-bit entry. Pure.
 *
 * Under emulation the decompression of a bzImage is half of a boot: a vmlinux that was decompressed outside saves it.
 */
import { setupOffset } from "./bz-image.ts";
import { hex, type LinuxImage, LOWEST_KERNEL, refuse } from "./image.ts";

const HEADER_BYTES = 64;
const PROGRAM_HEADER_BYTES = 56;
const MAX_PROGRAM_HEADERS = 64;
const ELF_MAGIC = 0x464c457f; // little endian
const CLASS_64 = 2;
const LITTLE_ENDIAN = 1;
const ET_EXEC = 2;
const EM_X86_64 = 62;
const PT_LOAD = 1;
const MAX_ADDRESS: bigint = 1n << 32n;
/** COMMAND_LINE_SIZE (arch/x86/include/asm/setup.h), less its zero. */
const COMMAND_LINE_BYTES = 2047;
const MAX_INITRD_ADDRESS = 0x7fffffffn;

export function isElf(bytes: Uint8Array): boolean {
  return bytes.length >= 4 && new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true) === ELF_MAGIC;
}

type Segment = LinuxImage["segments"][number] & { readonly memoryBytes: bigint };

function segmentAt(bytes: Uint8Array, view: DataView, at: number): Segment | null {
  if (at + PROGRAM_HEADER_BYTES > bytes.length)
    refuse(`a program header at ${at}: the file has ${bytes.length} bytes`);
  if (view.getUint32(at, true) !== PT_LOAD) return null;
  const [offset, address, fileBytes, memoryBytes] = [8, 24, 32, 40].map((field) =>
    view.getBigUint64(at + field, true),
  ) as [bigint, bigint, bigint, bigint];
  if (offset + fileBytes > BigInt(bytes.length)) {
    refuse(`a segment of ${fileBytes} bytes at ${offset}: the file has ${bytes.length}`);
  }
  if (memoryBytes < fileBytes) refuse(`a segment of ${fileBytes} bytes in ${memoryBytes} bytes of memory`);
  if (address < LOWEST_KERNEL || address + memoryBytes > MAX_ADDRESS) {
    refuse(`a segment at ${hex(address)}: expected 1 MiB to 4 GiB`);
  }
  const start = Number(offset);
  return { address, bytes: bytes.subarray(start, start + Number(fileBytes)), memoryBytes };
}

/** The fields of a setup header that Linux reads, as a loader of an ELF file makes them up. */
function madeUpHeader(): Uint8Array {
  const view = new DataView(new ArrayBuffer(0x268));
  view.setUint16(setupOffset.bootFlag, 0xaa55, true);
  view.setUint32(setupOffset.magic, 0x53726448, true);
  view.setUint16(setupOffset.version, 0x20f, true);
  view.setUint32(setupOffset.kernelAlignment, 0x200000, true);
  view.setUint32(setupOffset.cmdlineSize, COMMAND_LINE_BYTES, true);
  return new Uint8Array(view.buffer).subarray(setupOffset.setupSects);
}

/** Reads and checks a vmlinux. Throws a BootImageError that names what is wrong. */
export function parseVmlinux(bytes: Uint8Array): LinuxImage {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < HEADER_BYTES || !isElf(bytes)) refuse("no ELF file");
  const isNative = view.getUint8(4) === CLASS_64 && view.getUint8(5) === LITTLE_ENDIAN;
  if (!isNative || view.getUint16(16, true) !== ET_EXEC || view.getUint16(18, true) !== EM_X86_64) {
    refuse("an ELF file, but no program for x86-64");
  }
  const table = view.getBigUint64(0x20, true);
  const count = view.getUint16(0x38, true);
  if (view.getUint16(0x36, true) !== PROGRAM_HEADER_BYTES || count > MAX_PROGRAM_HEADERS) {
    refuse(`${count} program headers of ${view.getUint16(0x36, true)} bytes`);
  }
  if (table > BigInt(bytes.length)) refuse(`program headers at ${table}: the file has ${bytes.length} bytes`);
  const segments = Array.from({ length: count }, (_, i) =>
    segmentAt(bytes, view, Number(table) + i * PROGRAM_HEADER_BYTES),
  ).filter((segment) => segment !== null);
  const [first] = segments;
  if (first === undefined) refuse("an ELF file without a segment to load");
  let { address: start } = first;
  let end = start;
  for (const { address, memoryBytes } of segments) {
    if (address < start) start = address;
    if (address + memoryBytes > end) end = address + memoryBytes;
  }
  const entry = view.getBigUint64(0x18, true);
  if (entry < start || entry >= end) refuse(`its entry ${hex(entry)} is in no segment`);
  return {
    release: "",
    setupHeader: madeUpHeader(),
    segments: segments.map(({ address, bytes }) => ({ address, bytes })),
    start,
    end,
    entry,
    maxCommandLineBytes: COMMAND_LINE_BYTES,
    maxInitrdAddress: MAX_INITRD_ADDRESS,
  };
}
