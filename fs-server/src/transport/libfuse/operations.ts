/**
 * libfuse's path operations over a node-based file system: walk, act, give the references back.
 *
 * Limits that come from the interface, not from us: the caller's identity is unknown (new files belong to the
 * server, `trusted.*` attributes are listed for no caller), times are rounded to milliseconds and fuse-native 2.2.6 passes the access time for both, names that are not UTF-8 are damaged on the way, and there is no
 * fallocate, SEEK_DATA, rename flag or lock.
 */
import { files } from "../../../../sys/src/index.ts";
import { FileSystemError, failure } from "../../fs/errors.ts";
import {
  type Attributes,
  type Caller,
  type FileHandle,
  type FileSystem,
  NO_CHANGE,
  type NodeId,
  PLAIN_WRITE,
  type Place,
  type Statistics,
  type TimeChange,
} from "../../fs/filesystem.ts";
import { attributeName, linkTarget, withoutTrusted } from "../../fs/names.ts";
import { atPath, atPlace, components } from "../../fs/path.ts";
import type { Answer, Done, NativeOperations, NativeStat, NativeStatfs } from "./fuse-native.ts";

const MAX_XATTR_BYTES = 65_536;
const UNCHANGED_ID = 0xffffffff;

export type DefectLog = (operation: string, error: unknown) => void;

/** The negative errno that answers a thrown value; what is no answer of the file system is logged and EIO. */
function errnoOf(operation: string, error: unknown, log: DefectLog): number {
  if (error instanceof FileSystemError) return -error.errno;
  log(operation, error);
  return -failure("EIO").errno;
}

function milliseconds(time: { readonly seconds: bigint; readonly nanoseconds: number }): number {
  return Number(time.seconds) * 1000 + Math.floor(time.nanoseconds / 1_000_000);
}

function nativeStat(a: Attributes): NativeStat {
  return {
    mode: a.mode,
    uid: a.uid,
    gid: a.gid,
    size: Number(a.sizeBytes),
    dev: 0,
    nlink: a.linkCount,
    // 32 bits are all there is; libfuse shows its own numbers without the option use_ino.
    ino: Number(a.ino & 0xffffffffn),
    rdev: Number(files.deviceNumber(a.device.major, a.device.minor) & 0xffffffffn),
    blksize: a.blockSizeBytes,
    blocks: Number(a.blocks),
    atime: milliseconds(a.accessTime),
    mtime: milliseconds(a.modificationTime),
    ctime: milliseconds(a.changeTime),
  };
}

/** Counts are 32 bits wide here: larger file systems are reported in larger blocks. */
function nativeStatfs(s: Statistics): NativeStatfs {
  let shift = 0n;
  while (s.blocks >> shift > 0xffffffffn) shift += 1n;
  const scaled = (count: bigint): number => Number(count >> shift);
  const capped = (count: bigint): number => Number(count > 0xffffffffn ? 0xffffffffn : count);
  return {
    bsize: s.blockSizeBytes,
    frsize: s.fragmentSizeBytes * 2 ** Number(shift),
    blocks: scaled(s.blocks),
    bfree: scaled(s.blocksFree),
    bavail: scaled(s.blocksAvailable),
    files: capped(s.files),
    ffree: capped(s.filesFree),
    favail: capped(s.filesFree),
    namemax: s.nameMaxBytes,
  };
}

function timeAt(ms: number): TimeChange {
  const seconds = Math.floor(ms / 1000);
  const nanoseconds = Math.round((ms - seconds * 1000) * 1_000_000);
  return { kind: "set", time: { seconds: BigInt(seconds), nanoseconds } };
}

export function nativeOperations(fs: FileSystem, log: DefectLog): NativeOperations {
  const caller: Caller = { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };
  const run = (operation: string, done: Done, work: () => number | undefined): void => {
    let result: number;
    try {
      result = work() ?? 0;
    } catch (error) {
      result = errnoOf(operation, error, log);
    }
    done(result);
  };
  const answer = <T>(operation: string, done: Answer<T>, work: () => T): void => {
    let value: T;
    try {
      value = work();
    } catch (error) {
      done(errnoOf(operation, error, log));
      return;
    }
    done(0, value);
  };
  const node = <T>(path: string, work: (node: NodeId) => T): T => atPath(fs, components(path), work);
  const place = <T>(path: string, work: (place: Place) => T): T => {
    const result = atPlace(fs, components(path), work);
    if (result === null) throw failure("EBUSY");
    return result;
  };
  const tools: Tools = { fs, caller, run, answer, node, place };
  return { ...metadataOperations(tools), ...contentOperations(tools), ...nameOperations(tools) };
}

type Tools = {
  readonly fs: FileSystem;
  readonly caller: Caller;
  run(operation: string, done: Done, work: () => number | undefined): void;
  answer<T>(operation: string, done: Answer<T>, work: () => T): void;
  node<T>(path: string, work: (node: NodeId) => T): T;
  place<T>(path: string, work: (place: Place) => T): T;
};

type MetadataName =
  | "getattr"
  | "fgetattr"
  | "statfs"
  | "truncate"
  | "ftruncate"
  | "utimens"
  | "chmod"
  | "chown"
  | "getxattr"
  | "setxattr"
  | "listxattr"
  | "removexattr";

function metadataOperations({ fs, run, answer, node }: Tools): Pick<NativeOperations, MetadataName> {
  const change = (path: string, handle: number | null, fields: Partial<typeof NO_CHANGE>): undefined => {
    const open = handle === null ? null : (BigInt(handle) as FileHandle);
    node(path, (id) => fs.setattr(id, { ...NO_CHANGE, ...fields }, open));
  };
  const sized = (size: (into: Uint8Array) => number): Buffer => {
    const value = Buffer.alloc(MAX_XATTR_BYTES);
    return value.subarray(0, size(value));
  };
  return {
    getattr: (path, done) => answer("getattr", done, () => node(path, (id) => nativeStat(fs.getattr(id)))),
    fgetattr: (path, _handle, done) =>
      answer("fgetattr", done, () => node(path, (id) => nativeStat(fs.getattr(id)))),
    statfs: (path, done) => answer("statfs", done, () => node(path, (id) => nativeStatfs(fs.statfs(id)))),
    truncate: (path, size, done) =>
      run("truncate", done, () => change(path, null, { sizeBytes: BigInt(size) })),
    ftruncate: (path, handle, size, done) =>
      run("ftruncate", done, () => change(path, handle, { sizeBytes: BigInt(size) })),
    utimens: (path, accessMs, modificationMs, done) =>
      run("utimens", done, () =>
        change(path, null, { accessTime: timeAt(accessMs), modificationTime: timeAt(modificationMs) }),
      ),
    chmod: (path, mode, done) => run("chmod", done, () => change(path, null, { mode })),
    chown: (path, uid, gid, done) =>
      run("chown", done, () =>
        change(path, null, {
          uid: uid === UNCHANGED_ID ? null : uid,
          gid: gid === UNCHANGED_ID ? null : gid,
        }),
      ),
    getxattr: (path, name, _position, done) =>
      answer("getxattr", done, () =>
        node(path, (id) => sized((into) => fs.getxattr(id, attributeName(name), into))),
      ),
    setxattr: (path, name, value, _position, flags, done) =>
      run("setxattr", done, () => {
        node(path, (id) => fs.setxattr(id, attributeName(name), value, flags));
        return 0;
      }),
    listxattr: (path, done) =>
      answer("listxattr", done, () => {
        const list = node(path, (id) => sized((into) => fs.listxattr(id, into)));
        // Whether the caller has CAP_SYS_ADMIN is not known here.
        return Buffer.from(withoutTrusted(list))
          .toString()
          .split("\0")
          .filter((name) => name !== "");
      }),
    removexattr: (path, name, done) =>
      run("removexattr", done, () => {
        node(path, (id) => fs.removexattr(id, attributeName(name)));
        return 0;
      }),
  };
}

type ContentName = "open" | "create" | "read" | "write" | "flush" | "fsync" | "release";

function contentOperations({
  fs,
  caller,
  run,
  answer,
  node,
  place,
}: Tools): Pick<NativeOperations, ContentName> {
  const open = (handle: number): FileHandle => BigInt(handle) as FileHandle;
  /** Opened with O_APPEND; a write does not say what flags its file has now. */
  const appending = new Set<number>();
  return {
    open: (path, flags, done) =>
      answer("open", done, () =>
        node(path, (id) => {
          const handle = Number(fs.open(id, flags));
          if ((flags & files.O_APPEND) !== 0) appending.add(handle);
          return handle;
        }),
      ),
    create: (path, mode, done) =>
      answer("create", done, () =>
        place(path, (at) => {
          // The flags of the open are not passed on; the kernel checks them against the handle's use.
          const { entry, handle } = fs.create(at, files.O_RDWR, { mode, umask: 0, caller });
          fs.forget(entry.node, 1n);
          return Number(handle);
        }),
      ),
    read: (_path, handle, into, length, offset, done) =>
      run("read", done, () => fs.read(open(handle), BigInt(offset), into.subarray(0, length))),
    write: (_path, handle, data, length, offset, done) =>
      run("write", done, () => {
        const how = appending.has(handle) ? { append: true, sync: null } : PLAIN_WRITE;
        return fs.write(open(handle), BigInt(offset), data.subarray(0, length), how);
      }),
    flush: (_path, handle, done) =>
      run("flush", done, () => {
        fs.flush(open(handle));
        return 0;
      }),
    fsync: (_path, dataOnly, handle, done) =>
      run("fsync", done, () => {
        fs.fsync(open(handle), dataOnly === 0 ? "all" : "data");
        return 0;
      }),
    release: (_path, handle, done) =>
      run("release", done, () => {
        appending.delete(handle);
        fs.release(open(handle));
        return 0;
      }),
  };
}

type NameOperation =
  | "readdir"
  | "readlink"
  | "mknod"
  | "mkdir"
  | "rmdir"
  | "unlink"
  | "rename"
  | "link"
  | "symlink";

function nameOperations({
  fs,
  caller,
  run,
  answer,
  node,
  place,
}: Tools): Pick<NativeOperations, NameOperation> {
  /** Makes a node whose reference the client does not know about. */
  const made = (path: string, make: (at: Place) => { readonly node: NodeId }): undefined => {
    place(path, (at) => fs.forget(make(at).node, 1n));
  };
  return {
    readdir: (path, done) => answer("readdir", done, () => node(path, (id) => entryNames(fs, id))),
    readlink: (path, done) =>
      answer("readlink", done, () => node(path, (id) => Buffer.from(fs.readlink(id)).toString())),
    mknod: (path, mode, device, done) =>
      run("mknod", done, () =>
        made(path, (at) => {
          // dev_t cut to 32 bits: 12 bits major at 8, 20 bits minor around it.
          const major = (device >>> 8) & 0xfff;
          const minor = (device & 0xff) | ((device >>> 12) & 0xfff00);
          return fs.mknod(at, { mode, umask: 0, caller }, { major, minor });
        }),
      ),
    mkdir: (path, mode, done) =>
      run("mkdir", done, () => made(path, (at) => fs.mkdir(at, { mode, umask: 0, caller }))),
    rmdir: (path, done) =>
      run("rmdir", done, () => {
        place(path, (at) => fs.rmdir(at));
        return 0;
      }),
    unlink: (path, done) =>
      run("unlink", done, () => {
        place(path, (at) => fs.unlink(at));
        return 0;
      }),
    rename: (from, to, done) =>
      run("rename", done, () => {
        place(from, (source) => place(to, (target) => fs.rename(source, target, 0)));
        return 0;
      }),
    link: (from, to, done) => run("link", done, () => node(from, (id) => made(to, (at) => fs.link(id, at)))),
    symlink: (target, path, done) =>
      run("symlink", done, () => made(path, (at) => fs.symlink(at, linkTarget(target), caller))),
  };
}

/** All names of a directory, without `.` and `..`. */
function entryNames(fs: FileSystem, id: NodeId): string[] {
  const handle = fs.opendir(id);
  try {
    const names: string[] = [];
    fs.readDirectory(handle, 0n, ({ name }) => {
      const text = Buffer.from(name.subarray(0, -1)).toString();
      if (text !== "." && text !== "..") names.push(text);
      return true;
    });
    return names;
  } finally {
    fs.releasedir(handle);
  }
}
