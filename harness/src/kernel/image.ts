/**
 * A kernel image in a file: a bzImage, whose boot protocol header has release and length
 * (Documentation/arch/x86/boot.rst), or a vmlinux with a PVH note, which QEMU boots as well. Pure but for reading.
 */
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { errorText } from "../error-text.ts";
import { KernelError } from "./error.ts";

export type ImageFacts = {
  /** `uname -r` that it will have, from the image itself; null for an ELF file, whose header does not have it. */
  readonly release: string | null;
  readonly sizeBytes: number;
};

/** Of a vmlinux with its debugging information, which is read whole for its hash, some 1 GiB. */
const IMAGE_BYTES_MAX = 2 ** 31 - 1;
const SECTOR_BYTES = 512;
const HEADER_BYTES = 0x10000;
const ELF_MAGIC = 0x7f454c46;
const HDRS = 0x48647253;

function readHead(path: string): { readonly head: Buffer; readonly sizeBytes: number } {
  let fd: number;
  try {
    // A FIFO without a writer would be waited for.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    throw new KernelError(`kernel image: ${errorText(error)}`);
  }
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw new KernelError(`kernel image ${path} is not a file`);
    if (stat.size > IMAGE_BYTES_MAX) {
      throw new KernelError(
        `kernel image ${path}: ${stat.size} bytes are more than the limit ${IMAGE_BYTES_MAX}`,
      );
    }
    const head = Buffer.alloc(Math.min(stat.size, HEADER_BYTES));
    readSync(fd, head, 0, head.length, 0);
    return { head, sizeBytes: stat.size };
  } finally {
    closeSync(fd);
  }
}

/** Reads and checks the image. Throws a KernelError for what is no kernel image, or not a whole one. */
export function readImage(path: string): ImageFacts {
  const { head, sizeBytes } = readHead(path);
  if (head.length >= 4 && head.readUInt32BE(0) === ELF_MAGIC) return { release: null, sizeBytes };
  if (head.length < 0x250 || head.readUInt32BE(0x202) !== HDRS) {
    throw new KernelError(
      `${path} (${sizeBytes} bytes) is no kernel image: neither a bzImage (no "HdrS" at 0x202) nor an ELF file`,
    );
  }
  // setup_sects: 0 means 4; the boot sector comes on top. syssize: paragraphs of 16 bytes.
  const setupSectors = (head[0x1f1] || 4) + 1;
  const wholeBytes = setupSectors * SECTOR_BYTES + head.readUInt32LE(0x1f4) * 16;
  if (sizeBytes < wholeBytes) {
    throw new KernelError(
      `${path} is truncated: its header speaks of ${wholeBytes} bytes, the file has ${sizeBytes}`,
    );
  }
  const at = head.readUInt16LE(0x20e) + SECTOR_BYTES;
  const end = head.indexOf(0, at);
  const text = at < head.length && end > at ? head.toString("latin1", at, end) : "";
  return { release: text.split(" ")[0] || null, sizeBytes };
}
