/** Numbers as people write them in scenarios: `4096`, `0x1800`, `4MiB`. */

const units: Readonly<Record<string, bigint>> = {
  "": 1n,
  KiB: 1024n,
  MiB: 1024n * 1024n,
  GiB: 1024n * 1024n * 1024n,
};
/** Far longer than any 64-bit number with a unit, so that one beyond its limit is told the limit; keeps the conversion cheap. */
const LENGTH_MAX = 128;

/** The number that `text` writes, or null if it writes none. Unbounded: the caller checks its own limit. */
export function parseNumber(text: string): bigint | null {
  if (text.length > LENGTH_MAX) return null;
  if (/^0x[0-9a-fA-F]+$/.test(text)) return BigInt(text);
  const match = /^([0-9]+)(KiB|MiB|GiB)?$/.exec(text);
  if (match === null) return null;
  const unit = units[match[2] ?? ""] ?? 1n;
  return BigInt(match[1] ?? "0") * unit;
}

export function hex(value: bigint): string {
  return `0x${value.toString(16)}`;
}

/** `2 MiB`, `4 KiB`, `0x1801 bytes`: for messages. */
export function sizeText(bytes: bigint): string {
  for (const unit of ["GiB", "MiB", "KiB"] as const) {
    const factor = units[unit] ?? 1n;
    if (bytes >= factor && bytes % factor === 0n) return `${bytes / factor} ${unit}`;
  }
  return `${hex(bytes)} bytes`;
}
