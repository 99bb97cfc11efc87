/** The configuration of a kernel in a file: `config-RELEASE` beside it, as in /boot, or inside it (CONFIG_IKCONFIG). */
import { readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { gunzipSync } from "node:zlib";
import { vmlinuxOf } from "./decompress.ts";

/** Around the compressed text (kernel/configs.c). */
const START = "IKCFG_ST";
const END = "IKCFG_ED";
const MAX_CONFIG_BYTES = 16 * 1024 * 1024;

/** Of a bzImage or vmlinux; null where it does not have it, or it cannot be read. */
export function embeddedConfig(image: Uint8Array): string | null {
  const bytes = Buffer.from(vmlinuxOf(image) ?? image);
  const start = bytes.indexOf(START);
  const end = start < 0 ? -1 : bytes.indexOf(END, start);
  if (end < 0) return null;
  try {
    const packed = bytes.subarray(start + START.length, end);
    return gunzipSync(packed, { maxOutputLength: MAX_CONFIG_BYTES }).toString("utf8");
  } catch {
    return null;
  }
}

/** null: it is not known. */
export function configOfImage(imagePath: string, release: string | null): string | null {
  const beside = release === null ? null : join(dirname(imagePath), `config-${release}`);
  const status = beside === null ? undefined : statSync(beside, { throwIfNoEntry: false });
  if (beside !== null && status?.isFile() && status.size <= MAX_CONFIG_BYTES)
    return readFileSync(beside, "utf8");
  return embeddedConfig(readFileSync(imagePath));
}
