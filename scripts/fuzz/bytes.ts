/** Changes of a file's bytes that know no grammar: cut, repeated, swapped, encoded otherwise, padded beyond limits. */
import type { Random } from "./random.ts";

const BOM = Buffer.from([0xef, 0xbb, 0xbf]);
/** Bytes that are no UTF-8: a lone byte, an overlong slash, a surrogate, a sequence that is cut, beyond U+10FFFF. */
const broken: readonly Buffer[] = [
  Buffer.from([0xff]),
  Buffer.from([0x80]),
  Buffer.from([0xc0, 0xaf]),
  Buffer.from([0xed, 0xa0, 0x80]),
  Buffer.from([0xe2, 0x82]),
  Buffer.from([0xf5, 0x80, 0x80, 0x80]),
];
const PADDING_BYTES: readonly number[] = [4096, 256 * 1024, 300 * 1024];

function inserted(bytes: Buffer, at: number, more: Buffer): Buffer {
  return Buffer.concat([bytes.subarray(0, at), more, bytes.subarray(at)]);
}

function reencoded(random: Random, bytes: Buffer): Buffer {
  const text = bytes.toString("utf8");
  switch (random.below(5)) {
    case 0:
      return Buffer.concat([BOM, bytes]);
    case 1:
      return Buffer.concat([Buffer.from([0xff, 0xfe]), Buffer.from(text, "utf16le")]);
    case 2:
      return Buffer.from(text, "utf16le");
    case 3:
      return Buffer.from(text.replaceAll("\n", "\r\n"));
    default:
      return Buffer.from(text.replaceAll("\n", "\r"));
  }
}

export function mutatedBytes(random: Random, bytes: Buffer): Buffer {
  const at = random.below(bytes.length + 1);
  const end = Math.min(bytes.length, at + random.below(200));
  switch (random.below(10)) {
    case 0:
      return bytes.subarray(0, at);
    case 1:
      return inserted(bytes, at, random.pick(broken));
    case 2:
      return inserted(bytes, at, Buffer.from([random.below(32)]));
    case 3:
      return inserted(bytes, at, bytes.subarray(at, end));
    case 4:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(end)]);
    case 5:
      return reencoded(random, bytes);
    case 6: {
      const copy = Buffer.from(bytes);
      if (at < copy.length) copy[at] = random.below(256);
      return copy;
    }
    case 7:
      return inserted(
        bytes,
        at,
        Buffer.from(random.pick(["//", "/*", "*/", "/**/", ",", "\\", '"', "\0", "[", "}"])),
      );
    case 8:
      return inserted(
        bytes,
        at,
        Buffer.alloc(random.pick(PADDING_BYTES), random.pick([" ", "\n", "a", "["])),
      );
    default:
      return Buffer.concat([bytes, random.oneIn(2) ? bytes : Buffer.from("\n")]);
  }
}
