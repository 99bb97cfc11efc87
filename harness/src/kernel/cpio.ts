/**
 * A writer of cpio archives in the format that the kernel unpacks as its first root file system: "newc"
 * (Documentation/driver-api/early-userspace/buffer-format.rst). Pure.
 */

export type CpioEntry =
  | { readonly kind: "directory"; readonly path: string }
  | { readonly kind: "file"; readonly path: string; readonly mode: number; readonly bytes: Uint8Array }
  | {
      readonly kind: "character-device";
      readonly path: string;
      readonly major: number;
      readonly minor: number;
    };

const MAGIC = "070701";
const TRAILER = "TRAILER!!!";
const DIRECTORY_MODE = 0o40755;
const FILE_TYPE = 0o100000;
const CHARACTER_DEVICE_MODE = 0o20600;
const ALIGNMENT = 4;
/** Sizes are eight hexadecimal digits. */
const MAX_FILE_BYTES = 0xffff_ffff;

type Header = {
  readonly inode: number;
  readonly mode: number;
  readonly links: number;
  readonly sizeBytes: number;
  readonly major: number;
  readonly minor: number;
  readonly path: string;
};

const digits = (value: number): string => value.toString(16).padStart(8, "0");

function padding(length: number): Uint8Array {
  return new Uint8Array((ALIGNMENT - (length % ALIGNMENT)) % ALIGNMENT);
}

/** Header and name, padded. Fields in the format's order; owner, times and the checksum of the other format are 0. */
function headerBytes(header: Header): Uint8Array {
  const name = Buffer.from(`${header.path}\0`, "utf8");
  const fields = [
    header.inode,
    header.mode,
    0, // uid
    0, // gid
    header.links,
    0, // mtime
    header.sizeBytes,
    0, // device of the file, major
    0, // device of the file, minor
    header.major,
    header.minor,
    name.length,
    0, // check
  ];
  const text = Buffer.from(MAGIC + fields.map(digits).join(""), "latin1");
  return Buffer.concat([text, name, padding(text.length + name.length)]);
}

function entryBytes(entry: CpioEntry, inode: number): readonly Uint8Array[] {
  const { path } = entry;
  const base = { inode, path, links: 1, sizeBytes: 0, major: 0, minor: 0 };
  switch (entry.kind) {
    case "directory":
      return [headerBytes({ ...base, mode: DIRECTORY_MODE, links: 2 })];
    case "character-device": {
      const { major, minor } = entry;
      return [headerBytes({ ...base, mode: CHARACTER_DEVICE_MODE, major, minor })];
    }
    case "file": {
      const { bytes, mode } = entry;
      if (bytes.length > MAX_FILE_BYTES) {
        throw new RangeError(`${path}: ${bytes.length} bytes, a cpio archive takes ${MAX_FILE_BYTES}`);
      }
      return [
        headerBytes({ ...base, mode: FILE_TYPE | mode, sizeBytes: bytes.length }),
        bytes,
        padding(bytes.length),
      ];
    }
  }
}

/** The archive. Paths are relative, parents before what is in them. */
export function cpioArchive(entries: readonly CpioEntry[]): Uint8Array {
  const end = headerBytes({ inode: 0, path: TRAILER, mode: 0, links: 1, sizeBytes: 0, major: 0, minor: 0 });
  return Buffer.concat([...entries.flatMap((entry, index) => entryBytes(entry, index + 1)), end]);
}
