/**
 * The vmlinux inside a bzImage (payload_offset and payload_length of the setup header, Documentation/arch/x86/boot.rst).
 * The kernel does it itself at boot; for a guest under emulation that is half of the time until init.
 */
import { spawnSync } from "node:child_process";
import { gunzipSync } from "node:zlib";

const SECTOR_BYTES = 512;
const HEADER_END = 0x250;
const HDRS = 0x48647253;
const ELF_MAGIC = 0x7f454c46;
const MAX_VMLINUX_BYTES = 512 * 1024 * 1024;
const BOUND_MS = 60_000;
/** The kernel's build puts the size behind what these compress; gzip has it anyway. */
const SIZE_BYTES = 4;

/** By the first bytes of the payload. */
const tools: readonly { readonly magic: string; readonly tool: "zstd" | "xz" | "lz4" | "bzip2" | "gzip" }[] =
  [
    { magic: "28b52ffd", tool: "zstd" },
    { magic: "fd377a58", tool: "xz" },
    { magic: "02214c18", tool: "lz4" },
    { magic: "425a68", tool: "bzip2" },
    { magic: "1f8b", tool: "gzip" },
  ];

function payloadOf(image: Buffer): Buffer | null {
  if (image.length < HEADER_END || image.readUInt32BE(0x202) !== HDRS) return null;
  const start = ((image[0x1f1] || 4) + 1) * SECTOR_BYTES + image.readUInt32LE(0x248);
  const length = image.readUInt32LE(0x24c);
  return length <= SIZE_BYTES || start + length > image.length ? null : image.subarray(start, start + length);
}

function decompress(payload: Buffer): Buffer | null {
  const found = tools.find(({ magic }) => payload.toString("hex", 0, magic.length / 2) === magic);
  if (found === undefined) return null;
  if (found.tool === "gzip") {
    try {
      return gunzipSync(payload, { maxOutputLength: MAX_VMLINUX_BYTES });
    } catch {
      return null;
    }
  }
  const input = payload.subarray(0, payload.length - SIZE_BYTES);
  const options = { input, maxBuffer: MAX_VMLINUX_BYTES, timeout: BOUND_MS };
  const { status, stdout } = spawnSync(found.tool, ["-dc"], options);
  return status === 0 ? stdout : null;
}

/** The decompressed kernel, or null where it cannot be had here (no tool, or no bzImage): then the image itself boots, later. */
export function vmlinuxOf(image: Uint8Array): Uint8Array | null {
  const payload = payloadOf(Buffer.from(image.buffer, image.byteOffset, image.byteLength));
  const vmlinux = payload === null ? null : decompress(payload);
  return vmlinux !== null && vmlinux.length >= 4 && vmlinux.readUInt32BE(0) === ELF_MAGIC ? vmlinux : null;
}
