/** The port's values as structures of the wire, by the table's offsets. Each function returns the bytes written. */
import { FUSE_ATTR_SUBMOUNT } from "../abi/constants.ts";
import { offsetsOf, sizeOf } from "../abi/layout.ts";
import type { Attributes, DirectoryEntry, Entry, Statistics } from "../fs/filesystem.ts";
import type { Frame } from "./reply.ts";

const ATTR = offsetsOf("fuse_attr");
const ENTRY = offsetsOf("fuse_entry_out");
const ATTR_OUT = offsetsOf("fuse_attr_out");
const KSTATFS = offsetsOf("fuse_kstatfs");
const DIRENT = offsetsOf("fuse_dirent");
const STATX_OUT = offsetsOf("fuse_statx_out");
const STATX = offsetsOf("fuse_statx");
const SX_TIME = offsetsOf("fuse_sx_time");
export const ENTRY_BYTES: number = sizeOf("fuse_entry_out");
const ATTR_OUT_BYTES = sizeOf("fuse_attr_out");
const DIRENT_BYTES = sizeOf("fuse_dirent");
const STATX_BASIC = 0x7ff;
const STATX_BTIME = 0x800;

/** How long the client may believe names and attributes without asking. */
export type Validity = { readonly entryMs: number; readonly attributesMs: number };

/** `new_encode_dev`: the kernel's 32-bit device number. */
function encodedDevice({ major, minor }: Attributes["device"]): number {
  return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
}

/** The inverse of `encodedDevice`. */
export function decodedDevice(encoded: number): { major: number; minor: number } {
  return { major: (encoded >>> 8) & 0xfff, minor: (encoded & 0xff) | ((encoded >>> 12) & 0xfff00) };
}

/** Little-endian u64 from one place to another, without a BigInt between. */
function copyU64(from: DataView, fromAt: number, to: DataView, toAt: number): void {
  to.setUint32(toAt, from.getUint32(fromAt, true), true);
  to.setUint32(toAt + 4, from.getUint32(fromAt + 4, true), true);
}

function encodeStatxAsAttr(view: DataView, at: number, s: DataView): void {
  copyU64(s, STATX.ino, view, at + ATTR.ino);
  copyU64(s, STATX.size, view, at + ATTR.size);
  copyU64(s, STATX.blocks, view, at + ATTR.blocks);
  copyU64(s, STATX.atime, view, at + ATTR.atime);
  copyU64(s, STATX.mtime, view, at + ATTR.mtime);
  copyU64(s, STATX.ctime, view, at + ATTR.ctime);
  view.setUint32(at + ATTR.atimensec, s.getUint32(STATX.atime + SX_TIME.tv_nsec, true), true);
  view.setUint32(at + ATTR.mtimensec, s.getUint32(STATX.mtime + SX_TIME.tv_nsec, true), true);
  view.setUint32(at + ATTR.ctimensec, s.getUint32(STATX.ctime + SX_TIME.tv_nsec, true), true);
  view.setUint32(at + ATTR.mode, s.getUint16(STATX.mode, true), true);
  view.setUint32(at + ATTR.nlink, s.getUint32(STATX.nlink, true), true);
  view.setUint32(at + ATTR.uid, s.getUint32(STATX.uid, true), true);
  view.setUint32(at + ATTR.gid, s.getUint32(STATX.gid, true), true);
  const device = {
    major: s.getUint32(STATX.rdev_major, true),
    minor: s.getUint32(STATX.rdev_minor, true),
  };
  view.setUint32(at + ATTR.rdev, encodedDevice(device), true);
  view.setUint32(at + ATTR.blksize, s.getUint32(STATX.blksize, true), true);
  view.setUint32(at + ATTR.flags, 0, true);
}

export function encodeAttributes(view: DataView, at: number, a: Attributes): void {
  if (a.statx !== undefined) {
    encodeStatxAsAttr(view, at, a.statx);
    return;
  }
  view.setBigUint64(at + ATTR.ino, a.ino, true);
  view.setBigUint64(at + ATTR.size, a.sizeBytes, true);
  view.setBigUint64(at + ATTR.blocks, a.blocks, true);
  view.setBigInt64(at + ATTR.atime, a.accessTime.seconds, true);
  view.setBigInt64(at + ATTR.mtime, a.modificationTime.seconds, true);
  view.setBigInt64(at + ATTR.ctime, a.changeTime.seconds, true);
  view.setUint32(at + ATTR.atimensec, a.accessTime.nanoseconds, true);
  view.setUint32(at + ATTR.mtimensec, a.modificationTime.nanoseconds, true);
  view.setUint32(at + ATTR.ctimensec, a.changeTime.nanoseconds, true);
  view.setUint32(at + ATTR.mode, a.mode, true);
  view.setUint32(at + ATTR.nlink, a.linkCount, true);
  view.setUint32(at + ATTR.uid, a.uid, true);
  view.setUint32(at + ATTR.gid, a.gid, true);
  view.setUint32(at + ATTR.rdev, encodedDevice(a.device), true);
  view.setUint32(at + ATTR.blksize, a.blockSizeBytes, true);
  view.setUint32(at + ATTR.flags, 0, true);
}

export function encodeEntry(view: DataView, at: number, entry: Entry, validity: Validity): number {
  view.setBigUint64(at + ENTRY.nodeid, entry.node, true);
  view.setBigUint64(at + ENTRY.generation, entry.generation, true);
  view.setUint32(at + ENTRY.entry_valid, Math.floor(validity.entryMs / 1000), true);
  view.setUint32(at + ENTRY.entry_valid + 4, 0, true);
  view.setUint32(at + ENTRY.attr_valid, Math.floor(validity.attributesMs / 1000), true);
  view.setUint32(at + ENTRY.attr_valid + 4, 0, true);
  view.setUint32(at + ENTRY.entry_valid_nsec, (validity.entryMs % 1000) * 1_000_000, true);
  view.setUint32(at + ENTRY.attr_valid_nsec, (validity.attributesMs % 1000) * 1_000_000, true);
  encodeAttributes(view, at + ENTRY.attr, entry.attributes);
  if (entry.isSubmount === true) view.setUint32(at + ENTRY.attr + ATTR.flags, FUSE_ATTR_SUBMOUNT, true);
  return ENTRY_BYTES;
}

export function encodeAttrOut(view: DataView, at: number, a: Attributes, validity: Validity): number {
  view.setUint32(at + ATTR_OUT.attr_valid, Math.floor(validity.attributesMs / 1000), true);
  view.setUint32(at + ATTR_OUT.attr_valid + 4, 0, true);
  view.setUint32(at + ATTR_OUT.attr_valid_nsec, (validity.attributesMs % 1000) * 1_000_000, true);
  view.setUint32(at + ATTR_OUT.dummy, 0, true);
  encodeAttributes(view, at + ATTR_OUT.attr, a);
  return ATTR_OUT_BYTES;
}

export function encodeStatfs(view: DataView, at: number, s: Statistics): number {
  const length = sizeOf("fuse_kstatfs");
  for (let i = 0; i < length; i += 4) view.setUint32(at + i, 0, true);
  view.setBigUint64(at + KSTATFS.blocks, s.blocks, true);
  view.setBigUint64(at + KSTATFS.bfree, s.blocksFree, true);
  view.setBigUint64(at + KSTATFS.bavail, s.blocksAvailable, true);
  view.setBigUint64(at + KSTATFS.files, s.files, true);
  view.setBigUint64(at + KSTATFS.ffree, s.filesFree, true);
  view.setUint32(at + KSTATFS.bsize, s.blockSizeBytes, true);
  view.setUint32(at + KSTATFS.namelen, s.nameMaxBytes, true);
  view.setUint32(at + KSTATFS.frsize, s.fragmentSizeBytes, true);
  return length;
}

export function encodeStatx(view: DataView, at: number, a: Attributes, validity: Validity): number {
  const length = sizeOf("fuse_statx_out");
  for (let i = 0; i < length; i += 4) view.setUint32(at + i, 0, true);
  view.setUint32(at + STATX_OUT.attr_valid, Math.floor(validity.attributesMs / 1000), true);
  view.setUint32(at + STATX_OUT.attr_valid_nsec, (validity.attributesMs % 1000) * 1_000_000, true);
  const stat = at + STATX_OUT.stat;
  view.setUint32(stat + STATX.mask, a.birthTime == null ? STATX_BASIC : STATX_BASIC | STATX_BTIME, true);
  view.setUint32(stat + STATX.blksize, a.blockSizeBytes, true);
  view.setUint32(stat + STATX.nlink, a.linkCount, true);
  view.setUint32(stat + STATX.uid, a.uid, true);
  view.setUint32(stat + STATX.gid, a.gid, true);
  view.setUint16(stat + STATX.mode, a.mode, true);
  view.setBigUint64(stat + STATX.ino, a.ino, true);
  view.setBigUint64(stat + STATX.size, a.sizeBytes, true);
  view.setBigUint64(stat + STATX.blocks, a.blocks, true);
  const times = [
    [STATX.atime, a.accessTime],
    [STATX.ctime, a.changeTime],
    [STATX.mtime, a.modificationTime],
    ...(a.birthTime == null ? [] : [[STATX.btime, a.birthTime] as const]),
  ] as const;
  for (const [offset, time] of times) {
    view.setBigInt64(stat + offset + SX_TIME.tv_sec, time.seconds, true);
    view.setUint32(stat + offset + SX_TIME.tv_nsec, time.nanoseconds, true);
  }
  view.setUint32(stat + STATX.rdev_major, a.device.major, true);
  view.setUint32(stat + STATX.rdev_minor, a.device.minor, true);
  return length;
}

/** Bytes of a directory record with a name of `nameBytes`, padded to 8. */
export function direntBytes(nameBytes: number): number {
  return (DIRENT_BYTES + nameBytes + 7) & ~7;
}

/** Writes struct fuse_dirent; its first 16 bytes, ino and off, are those of the record. */
export function encodeDirent(frame: Frame, at: number, entry: DirectoryEntry, nameBytes: number): number {
  const length = direntBytes(nameBytes);
  const { view, bytes } = frame;
  for (let i = 0; i < DIRENT.namelen; i += 4) {
    view.setUint32(at + i, entry.view.getUint32(entry.at + i, true), true);
  }
  view.setUint32(at + DIRENT.namelen, nameBytes, true);
  view.setUint32(at + DIRENT.type, entry.type, true);
  // Plain loops: for names this short they are faster than views and two calls of built-in functions.
  const from = entry.nameStart;
  const to = at + DIRENT_BYTES;
  for (let i = 0; i < nameBytes; i += 1) bytes[to + i] = entry.bytes[from + i] ?? 0;
  for (let i = to + nameBytes; i < at + length; i += 1) bytes[i] = 0;
  return length;
}
