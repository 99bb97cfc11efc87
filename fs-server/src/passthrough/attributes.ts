/**
 * struct statx (statx(2)) and struct statfs (x86-64 and arm64 layout) as the port's values.
 * The buffers are reused: one call's result must be decoded before the next call.
 */
import { files } from "../../../sys/src/index.ts";
import { offsetsOf } from "../abi/layout.ts";
import { succeeded } from "../fs/errors.ts";
import type { Attributes, Instant, Statistics } from "../fs/filesystem.ts";
import { shownInode } from "./inode-numbers.ts";

/** FUSE took statx(2)'s structure as it is. */
const STATX = offsetsOf("fuse_statx");
const SX_TIME = offsetsOf("fuse_sx_time");
const statxBytes = new Uint8Array(files.STATX_BYTES);
const statx = new DataView(statxBytes.buffer);
/** stx_mnt_id, which fuse_statx does not have. */
const MOUNT_ID_AT = 0x90;
const statfsBytes = new Uint8Array(files.STATFS_BYTES);
const statfs = new DataView(statfsBytes.buffer);

export type Identity = {
  /** The file system's device number: 12 bits major, 20 bits minor. */
  readonly device: number;
  readonly ino: bigint;
  /** S_IF* bits. They never change in the life of an inode. */
  readonly fileType: number;
};

const WANTED = files.STATX_BASIC_STATS | files.STATX_BTIME | files.STATX_MNT_ID;

/** statx(2) of `path` below `fd` without following a link; the result stays in this module until the next call. */
export function statInto(fd: number, path: Uint8Array): number {
  const flags =
    path === files.EMPTY_PATH ? files.AT_EMPTY_PATH | files.AT_SYMLINK_NOFOLLOW : files.AT_SYMLINK_NOFOLLOW;
  return files.statx(fd, path, flags, WANTED, statxBytes);
}

/**
 * The same, with what is at hand: what a name leads to is seen without waiting for another machine or process that
 * serves it. File systems on disks and in memory know no difference.
 */
export function glanceInto(fd: number, path: Uint8Array): number {
  const flags = files.AT_SYMLINK_NOFOLLOW | files.AT_NO_AUTOMOUNT | files.AT_STATX_DONT_SYNC;
  return files.statx(fd, path, flags, WANTED, statxBytes);
}

/** Attributes of what `fd` refers to (O_PATH is enough). @param home as for `lastAttributes` */
export function attributesOf(fd: number, home: number): Attributes {
  succeeded(statInto(fd, files.EMPTY_PATH));
  return lastAttributes(home);
}

function lastDevice(): number {
  return statx.getUint32(STATX.dev_major, true) * 0x100000 + statx.getUint32(STATX.dev_minor, true);
}

/** The mount that the last `statInto` met, named for as long as it is there; null: the kernel does not say. */
export function lastMount(): bigint | null {
  if ((statx.getUint32(STATX.mask, true) & files.STATX_MNT_ID) === 0) return null;
  return statx.getBigUint64(MOUNT_ID_AT, true);
}

/** Which inode the last `statInto` described; before `lastAttributes`. */
export function lastIdentity(): Identity {
  return {
    device: lastDevice(),
    ino: statx.getBigUint64(STATX.ino, true),
    fileType: statx.getUint16(STATX.mode, true) & files.S_IFMT,
  };
}

function instantAt(offset: number): Instant {
  return {
    seconds: statx.getBigInt64(offset + SX_TIME.tv_sec, true),
    nanoseconds: statx.getUint32(offset + SX_TIME.tv_nsec, true),
  };
}

/** What the last `statInto` found, looked at in place: most of it is only copied into an answer. */
const ATTRIBUTES: Attributes = {
  statx,
  get ino() {
    return statx.getBigUint64(STATX.ino, true);
  },
  get sizeBytes() {
    return statx.getBigUint64(STATX.size, true);
  },
  get blocks() {
    return statx.getBigUint64(STATX.blocks, true);
  },
  get accessTime() {
    return instantAt(STATX.atime);
  },
  get modificationTime() {
    return instantAt(STATX.mtime);
  },
  get changeTime() {
    return instantAt(STATX.ctime);
  },
  get birthTime() {
    return (statx.getUint32(STATX.mask, true) & files.STATX_BTIME) === 0 ? null : instantAt(STATX.btime);
  },
  get mode() {
    return statx.getUint16(STATX.mode, true);
  },
  get linkCount() {
    return statx.getUint32(STATX.nlink, true);
  },
  get uid() {
    return statx.getUint32(STATX.uid, true);
  },
  get gid() {
    return statx.getUint32(STATX.gid, true);
  },
  get device() {
    return { major: statx.getUint32(STATX.rdev_major, true), minor: statx.getUint32(STATX.rdev_minor, true) };
  },
  get blockSizeBytes() {
    return statx.getUint32(STATX.blksize, true);
  },
};

/**
 * The attributes that the last `statInto` found, with an inode number that is unique in the tree.
 * @param home the source's own device
 */
export function lastAttributes(home: number): Attributes {
  const device = lastDevice();
  const ino = statx.getBigUint64(STATX.ino, true);
  const shown = shownInode(home, device, ino);
  if (shown !== ino) statx.setBigUint64(STATX.ino, shown, true);
  return ATTRIBUTES;
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

/** f_type of the file system that `fd` lies on. */
export function fileSystemTypeOf(fd: number): bigint {
  succeeded(files.fstatfs(fd, statfsBytes));
  return statfs.getBigUint64(0, true);
}
