/**
 * struct statx (statx(2)) and struct statfs (x86-64 and arm64 layout) as the port's values.
 * The buffers are reused: one call's result must be decoded before the next call.
 */
import { files } from "../../../sys/src/index.ts";
import { succeeded } from "../fs/errors.ts";
import type { Attributes, Instant, Statistics } from "../fs/filesystem.ts";

const statxBytes = new Uint8Array(files.STATX_BYTES);
const statx = new DataView(statxBytes.buffer);
const statfsBytes = new Uint8Array(files.STATFS_BYTES);
const statfs = new DataView(statfsBytes.buffer);

export type Identity = {
  /** The file system's device number: 12 bits major, 20 bits minor. */
  readonly device: number;
  readonly ino: bigint;
  /** S_IF* bits. They never change in the life of an inode. */
  readonly fileType: number;
};

/** statx(2) of `path` below `fd` without following a link; the result stays in this module until the next call. */
export function statInto(fd: number, path: Uint8Array): number {
  const flags =
    path === files.EMPTY_PATH ? files.AT_EMPTY_PATH | files.AT_SYMLINK_NOFOLLOW : files.AT_SYMLINK_NOFOLLOW;
  return files.statx(fd, path, flags, files.STATX_BASIC_STATS, statxBytes);
}

/** Attributes of what `fd` refers to (O_PATH is enough). */
export function attributesOf(fd: number): Attributes {
  succeeded(statInto(fd, files.EMPTY_PATH));
  return lastAttributes();
}

/** Which inode the last `statInto` described. */
export function lastIdentity(): Identity {
  return {
    device: statx.getUint32(136, true) * 0x100000 + statx.getUint32(140, true),
    ino: statx.getBigUint64(32, true),
    fileType: statx.getUint16(28, true) & files.S_IFMT,
  };
}

function instantAt(offset: number): Instant {
  return { seconds: statx.getBigInt64(offset, true), nanoseconds: statx.getUint32(offset + 8, true) };
}

/** The attributes that the last `statInto` found. */
export function lastAttributes(): Attributes {
  return {
    ino: statx.getBigUint64(32, true),
    sizeBytes: statx.getBigUint64(40, true),
    blocks: statx.getBigUint64(48, true),
    accessTime: instantAt(64),
    modificationTime: instantAt(112),
    changeTime: instantAt(96),
    mode: statx.getUint16(28, true),
    linkCount: statx.getUint32(16, true),
    uid: statx.getUint32(20, true),
    gid: statx.getUint32(24, true),
    device: { major: statx.getUint32(128, true), minor: statx.getUint32(132, true) },
    blockSizeBytes: statx.getUint32(4, true),
  };
}

/** Statistics of the file system that `fd` lies on. */
export function statisticsOf(fd: number): Statistics {
  succeeded(files.fstatfs(fd, statfsBytes));
  const word = (index: number): bigint => statfs.getBigUint64(index * 8, true);
  return {
    blockSizeBytes: Number(word(1)),
    blocks: word(2),
    blocksFree: word(3),
    blocksAvailable: word(4),
    files: word(5),
    filesFree: word(6),
    nameMaxBytes: Number(word(8)),
    fragmentSizeBytes: Number(word(9)),
  };
}
