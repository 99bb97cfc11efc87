/** A file system with nothing in it: the smallest implementation, so that the core can be fuzzed without a disk. */
import { failure } from "./errors.ts";
import { type Attributes, type FileSystem, ROOT_NODE, type Statistics } from "./filesystem.ts";

const EPOCH = { seconds: 0n, nanoseconds: 0 };

function nothing(): never {
  throw failure("ENOENT");
}

function refused(): never {
  throw failure("EROFS");
}

function noHandle(): never {
  throw failure("EBADF");
}

function rootAttributes(node: bigint): Attributes {
  if (node !== ROOT_NODE) throw failure("ESTALE");
  return {
    ino: 1n,
    sizeBytes: 0n,
    blocks: 0n,
    accessTime: EPOCH,
    modificationTime: EPOCH,
    changeTime: EPOCH,
    mode: 0o040755,
    linkCount: 2,
    uid: 0,
    gid: 0,
    device: { major: 0, minor: 0 },
    blockSizeBytes: 4096,
  };
}

const NO_SPACE: Statistics = {
  blocks: 0n,
  blocksFree: 0n,
  blocksAvailable: 0n,
  files: 1n,
  filesFree: 0n,
  blockSizeBytes: 4096,
  fragmentSizeBytes: 4096,
  nameMaxBytes: 255,
};

export const NULL_FILE_SYSTEM: FileSystem = {
  lookup: nothing,
  forget: () => undefined,
  getattr: rootAttributes,
  setattr: refused,
  access: () => undefined,
  open: nothing,
  create: refused,
  tmpfile: refused,
  read: noHandle,
  write: noHandle,
  flush: noHandle,
  fsync: noHandle,
  fallocate: noHandle,
  lseek: noHandle,
  copyFileRange: noHandle,
  release: noHandle,
  getLock: noHandle,
  setLock: noHandle,
  dropLocks: () => false,
  opendir: nothing,
  readDirectory: noHandle,
  fsyncdir: noHandle,
  releasedir: noHandle,
  mkdir: refused,
  mknod: refused,
  symlink: refused,
  link: refused,
  unlink: refused,
  rmdir: refused,
  rename: refused,
  readlink: nothing,
  withoutFsetid: (_caller, work) => work(),
  statfs: () => NO_SPACE,
  syncfs: () => undefined,
  getxattr: () => {
    throw failure("ENODATA");
  },
  setxattr: refused,
  listxattr: () => 0,
  removexattr: refused,
  openForMapping: nothing,
  descriptorOf: () => null,
  hostFileOf: () => null,
  openedBy: () => null,
  usage: () => ({ nodes: 0, handles: 0 }),
  reset: () => undefined,
  close: () => undefined,
};
