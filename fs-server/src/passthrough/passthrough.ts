/**
 * A directory of the host, served node by node with real system calls.
 *
 * Confinement: the source is opened once; everything else is reached from a descriptor by one checked component,
 * with O_NOFOLLOW and openat2's RESOLVE_BENEATH | RESOLVE_NO_XDEV, so no name, `..`, symbolic link, mount point or
 * concurrent rename leads outside. Content is opened through /proc/self/fd of a pinned inode, and only if that is a
 * regular file: opening a FIFO could wait for ever, opening a device would act on the host.
 * An inode that lost its pin (inodes.ts) is opened again by a file handle that was made of that pin.
 * What the host itself moves out of the source while a client holds its node stays reachable for that client.
 *
 * The client's kernel checks permissions (default_permissions); the passthrough sets the owner of new files (`Caller`).
 * An object belongs to one thread; others serve the same source by objects of their own over its tables (tables.ts).
 */
import { files, type Mapping, mapAnonymous } from "../../../sys/src/index.ts";
import { failure, succeeded } from "../fs/errors.ts";
import type {
  AttributeChange,
  Attributes,
  Caller,
  CopyEnd,
  DirectoryEntry,
  Entry,
  FileHandle,
  FileLock,
  FileSystem,
  HostFile,
  LockOwner,
  MappableFile,
  NewNode,
  NodeId,
  Opened,
  Place,
  Statistics,
  SyncScope,
  TimeChange,
  Usage,
  WriteHow,
} from "../fs/filesystem.ts";
import { PLAIN_WRITE, ROOT_NODE } from "../fs/filesystem.ts";
import { attributeName, type ComponentName, PATH_MAX_BYTES, type TerminatedBytes } from "../fs/names.ts";
import {
  attributesOf,
  fileSystemTypeOf,
  glanceInto,
  type Identity,
  lastAttributes,
  lastIdentity,
  lastMount,
  statInto,
  statisticsOf,
} from "./attributes.ts";
import { DescriptorLinks, linkPath } from "./descriptor-links.ts";
import { FileHandles, LASTING } from "./file-handles.ts";
import { HandleTable } from "./handles.ts";
import { CallerIdentity } from "./identity.ts";
import { shownInode } from "./inode-numbers.ts";
import { type Inode, InodeTable } from "./inodes.ts";
import { type LockedFile, LockTable, setFlock } from "./locks.ts";
import { type PassthroughOptions, passthroughOptions } from "./options.ts";
import { newTables, placesOf, type SharedTables } from "./tables.ts";

/** loff_t is signed. */
const MAX_OFFSET = 2n ** 63n - 1n;
/** Longest single copy_file_range: the client asks again, and the server stays responsive. */
const MAX_COPY_BYTES = 128n * 1024n * 1024n;
/**
 * Open flags that a client may pass on: O_TRUNC and O_SYNC with O_DSYNC. O_DIRECT would ask for aligned buffers. O_APPEND
 * may come and go while the file is open (F_SETFL), so each write says whether it appends.
 */
const PASSED_FLAGS = files.O_TRUNC | files.O_SYNC;
const EINVAL = -failure("EINVAL").errno;
const EAGAIN = -failure("EAGAIN").errno;
const EACCES = -failure("EACCES").errno;
const BOUNCE_BYTES = 128 * 1024;
/**
 * New inodes in a row after which the next one is taken for new, too, and is opened before it is looked at: a client that
 * walks a tree meets new ones, and each costs a system call less. One that is known costs two more.
 */
const ENOUGH_NEW = 4;
const KNOWN_RENAME_FLAGS = files.RENAME_NOREPLACE | files.RENAME_EXCHANGE | files.RENAME_WHITEOUT;
const ACCESS_LIST = attributeName("system.posix_acl_access");
const BENEATH = files.RESOLVE_BENEATH | files.RESOLVE_NO_MAGICLINKS | files.RESOLVE_NO_SYMLINKS;

function checkedOffset(offset: bigint): bigint {
  if (offset > MAX_OFFSET) throw failure("EINVAL");
  return offset;
}

/** RWF_* of pwritev2(2). */
function rwfFlags({ append, sync }: WriteHow): number {
  const synced = sync === null ? 0 : sync === "data" ? files.RWF_DSYNC : files.RWF_SYNC;
  return synced | (append ? files.RWF_APPEND : 0);
}

/** Emits an entry with the number that its file is shown with. One without room is emitted again, so it is left as it was. */
function emitShown(
  entry: DirectoryEntry,
  { home, device }: { readonly home: number; readonly device: number },
  emit: (entry: DirectoryEntry) => boolean,
): boolean {
  const { ino } = entry;
  entry.view.setBigUint64(entry.at, shownInode(home, device, ino), true);
  if (emit(entry)) return true;
  entry.view.setBigUint64(entry.at, ino, true);
  return false;
}

function timespec(change: TimeChange): files.Timespec {
  switch (change.kind) {
    case "keep":
      return { seconds: 0n, nanoseconds: files.UTIME_OMIT };
    case "now":
      return { seconds: 0n, nanoseconds: files.UTIME_NOW };
    case "set":
      return change.time;
    default:
      return change satisfies never;
  }
}

/** Where the source itself lies. */
type Home = {
  readonly device: number;
  /** null: the kernel does not name mounts (Linux 5.7). */
  readonly mount: bigint | null;
  /** Its attributes are always at hand: they come from a disk or memory. */
  readonly isLocal: boolean;
};

export class PassthroughFileSystem implements FileSystem {
  readonly options: PassthroughOptions;
  readonly #inodes: InodeTable;
  readonly #handles: HandleTable;
  readonly #locks: LockTable;
  readonly #identity = new CallerIdentity();
  readonly #links: DescriptorLinks;
  /** For O_DIRECT; null: not needed yet. */
  #bounce: Mapping | null = null;
  /** Looked at by the first request. */
  #home: Home | null = null;
  /** Names that were looked up since the last one of a known inode. */
  #newInARow = 0;

  /** For more threads that serve this source by objects of their own. */
  readonly tables: SharedTables;

  /** Serves `source`, which must be a directory. Throws an Error that says what is wrong with it. */
  constructor(source: string, options: Partial<PassthroughOptions> = {}, tables: SharedTables | null = null) {
    this.options = passthroughOptions(options);
    const { nodeLimit: nodes, pinLimit: pins, handleLimit: handles, lockLimit: locks } = this.options;
    const links = tables === null ? DescriptorLinks.open() : DescriptorLinks.of(tables.links);
    if (typeof links === "number") {
      throw new Error(`cannot serve ${source}: /proc is not mounted (${failure(-links).code})`);
    }
    this.#links = links;
    this.tables = tables ?? newTables({ nodes, pins, handles, locks }, links.folder);
    const { words, inodesAt, handlesAt, locksAt } = placesOf(this.tables);
    const { limits } = this.tables;
    this.#handles = new HandleTable(words, handlesAt, limits.handles);
    this.#locks = new LockTable(words, locksAt, limits.locks);
    if (tables !== null) {
      this.#inodes = InodeTable.attach(words, inodesAt, limits);
      return;
    }
    const fd = files.openat(files.AT_FDCWD, files.pathBytes(source), files.O_PATH | files.O_DIRECTORY);
    if (fd < 0) throw new Error(`cannot serve ${source}: ${failure(-fd).code}`);
    succeeded(statInto(fd, files.EMPTY_PATH));
    const root = { ...lastIdentity(), fd };
    const { fileHandles: use } = this.options;
    const fileHandles = use === "never" ? null : FileHandles.open(files.pathBytes(source));
    if (use === "mandatory" && fileHandles === null) {
      throw new Error(
        `cannot serve ${source} by file handles: its file system has none that last, or CAP_DAC_READ_SEARCH is missing`,
      );
    }
    this.#inodes = InodeTable.create({ words, at: inodesAt, limits }, root, fileHandles);
  }

  /** Every node holds a descriptor, so their number is the bound on nodes. */
  get holdsDescriptors(): boolean {
    return this.#inodes.holdsDescriptors;
  }

  /** After each request where several threads serve: others may close what it used. */
  letGo(): void {
    this.#inodes.letGo();
    this.#handles.letGo();
  }

  lookup(parent: NodeId, name: ComponentName): Entry {
    return this.#entryAt(this.#inodes.get(parent), name);
  }

  forget(node: NodeId, count: bigint): void {
    this.#inodes.forget(node, count);
  }

  getattr(node: NodeId): Attributes {
    return attributesOf(this.#inodes.get(node).fd, this.#source().device);
  }

  setattr(node: NodeId, change: AttributeChange, handle: FileHandle | null): Attributes {
    this.#requireWritable();
    const { fd, fileType } = this.#inodes.get(node);
    // Ownership first: changing it takes away set-user-id bits that `mode` may want to set.
    if (change.uid !== null || change.gid !== null) {
      const KEEP = 0xffffffff;
      const flags = files.AT_EMPTY_PATH | files.AT_SYMLINK_NOFOLLOW;
      succeeded(files.fchownat(fd, files.EMPTY_PATH, change.uid ?? KEEP, change.gid ?? KEEP, flags));
    }
    if (change.mode !== null) {
      if (fileType === files.S_IFLNK) throw failure("EOPNOTSUPP");
      succeeded(files.fchmodat(files.AT_FDCWD, linkPath(fd), change.mode & 0o7777));
    }
    if (change.sizeBytes !== null) this.#truncate(fd, fileType, checkedOffset(change.sizeBytes), handle);
    if (change.accessTime.kind !== "keep" || change.modificationTime.kind !== "keep") {
      const times = {
        access: timespec(change.accessTime),
        modification: timespec(change.modificationTime),
      };
      succeeded(files.utimensat(fd, files.EMPTY_PATH, times, files.AT_EMPTY_PATH));
    }
    return attributesOf(fd, this.#source().device);
  }

  #truncate(fd: number, fileType: number, sizeBytes: bigint, handle: FileHandle | null): void {
    if (handle !== null) {
      succeeded(files.ftruncate(this.#handles.file(handle).fd, sizeBytes));
      return;
    }
    if (fileType !== files.S_IFREG) throw failure(fileType === files.S_IFDIR ? "EISDIR" : "EINVAL");
    succeeded(files.truncate(linkPath(fd), sizeBytes));
  }

  /** By the mode bits alone: for clients without a kernel of their own. */
  access(node: NodeId, mask: number, caller: Caller): void {
    const { mode, uid, gid } = this.getattr(node);
    if ((mask & 2) !== 0) this.#requireWritable();
    if (caller.uid === 0) {
      const executable = (mode & 0o111) !== 0 || (mode & files.S_IFMT) === files.S_IFDIR;
      if ((mask & 1) !== 0 && !executable) throw failure("EACCES");
      return;
    }
    const shift = caller.uid === uid ? 6 : caller.gid === gid ? 3 : 0;
    if ((mask & 7 & ~(mode >> shift)) !== 0) throw failure("EACCES");
  }

  open(node: NodeId, flags: number): FileHandle {
    const inode = this.#inodes.get(node);
    this.#handles.requireRoom();
    return this.#handles.add({ kind: "file", fd: this.#openContent(inode, this.#openFlags(flags)), node });
  }

  /** A handle of a file that is open already: another description of it is not made. @param fd lent */
  openDescriptor(fd: number, node: NodeId | null = null): FileHandle {
    this.#handles.requireRoom();
    return this.#handles.add({ kind: "file", fd: succeeded(files.dup(fd)), node });
  }

  create(place: Place, flags: number, what: NewNode): { entry: Entry; handle: FileHandle } {
    this.#requireWritable();
    this.#source();
    const parent = this.#inodes.get(place.parent);
    this.#handles.requireRoom();
    this.#inodes.requireRoom();
    const openFlags = this.#openFlags(flags);
    const exclusive = openFlags | files.O_CREAT | files.O_EXCL | files.O_NOFOLLOW;
    const fd = this.#identity.run(what.caller, what.umask, () =>
      files.openat(parent.fd, place.name, exclusive, what.mode & 0o7777),
    );
    // Opening what exists goes by the pinned inode, which cannot be a FIFO or a device in disguise.
    if (fd < 0 && failure(-fd).code === "EEXIST" && (flags & files.O_EXCL) === 0) {
      return this.#openExisting(parent, place.name, openFlags);
    }
    return this.#adoptOpen(succeeded(fd));
  }

  #openExisting(parent: Inode, name: ComponentName, openFlags: number): { entry: Entry; handle: FileHandle } {
    const entry = this.#entryAt(parent, name);
    try {
      const fd = this.#openContent(this.#inodes.get(entry.node), openFlags);
      return { entry, handle: this.#handles.add({ kind: "file", fd, node: entry.node }) };
    } catch (error) {
      this.#inodes.forget(entry.node, 1n);
      throw error;
    }
  }

  tmpfile(parent: NodeId, flags: number, what: NewNode): { entry: Entry; handle: FileHandle } {
    this.#requireWritable();
    this.#source();
    const { fd: parentFd, fileType } = this.#inodes.get(parent);
    if (fileType !== files.S_IFDIR) throw failure("ENOTDIR");
    this.#handles.requireRoom();
    this.#inodes.requireRoom();
    const openFlags = this.#openFlags(flags) | files.O_TMPFILE | (flags & files.O_EXCL);
    const fd = this.#identity.run(what.caller, what.umask, () =>
      this.#links.open(parentFd, openFlags, what.mode & 0o7777),
    );
    return this.#adoptOpen(succeeded(fd));
  }

  /** Entry and handle for a descriptor that was just created. Takes it over. */
  #adoptOpen(fd: number): { entry: Entry; handle: FileHandle } {
    const result = statInto(fd, files.EMPTY_PATH);
    // By the descriptor: its name may have been given to another file meanwhile.
    const pin = result < 0 ? result : this.#links.open(fd, files.O_PATH);
    if (pin < 0) {
      files.close(fd);
      throw failure(-pin);
    }
    const entry = this.#adoptSeen(pin, null);
    return { entry, handle: this.#handles.add({ kind: "file", fd, node: entry.node }) };
  }

  read(handle: FileHandle, offset: bigint, into: Uint8Array): number {
    const { fd } = this.#handles.file(handle);
    const at = checkedOffset(offset);
    const result = files.pread(fd, into, at);
    if (result !== EINVAL || !this.options.allowDirectIo) return succeeded(result);
    // Of a file with O_DIRECT: memory has to be aligned as its device wants it.
    const { bytes } = this.#aligned(into.length);
    const got = succeeded(files.pread(fd, bytes.subarray(0, into.length), at));
    into.set(bytes.subarray(0, got));
    return got;
  }

  write(handle: FileHandle, offset: bigint, data: Uint8Array, how: WriteHow = PLAIN_WRITE): number {
    const { fd } = this.#handles.file(handle);
    const at = checkedOffset(offset);
    const flags = rwfFlags(how);
    const write = (from: Uint8Array): number =>
      flags === 0 ? files.pwrite(fd, from, at) : files.pwritev2(fd, from, at, flags);
    const result = write(data);
    if (result !== EINVAL || !this.options.allowDirectIo) return succeeded(result);
    const { bytes } = this.#aligned(data.length);
    bytes.set(data);
    return succeeded(write(bytes.subarray(0, data.length)));
  }

  /** Memory that begins with a page, for at least `lengthBytes`. */
  #aligned(lengthBytes: number): Mapping {
    if (this.#bounce === null || this.#bounce.bytes.length < lengthBytes) {
      this.#bounce?.free();
      this.#bounce = mapAnonymous(Math.max(lengthBytes, BOUNCE_BYTES));
    }
    return this.#bounce;
  }

  /** Each close(2) of the client. Closing a duplicate lets the source's file system report delayed errors. */
  flush(handle: FileHandle): void {
    succeeded(files.close(succeeded(files.dup(this.#handles.file(handle).fd))));
  }

  fsync(handle: FileHandle, scope: SyncScope): void {
    const { fd } = this.#handles.file(handle);
    succeeded(scope === "data" ? files.fdatasync(fd) : files.fsync(fd));
  }

  fallocate(handle: FileHandle, mode: number, offset: bigint, lengthBytes: bigint): void {
    this.#requireWritable();
    const { fd } = this.#handles.file(handle);
    succeeded(files.fallocate(fd, mode, checkedOffset(offset), checkedOffset(lengthBytes)));
  }

  lseek(handle: FileHandle, offset: bigint, whence: number): bigint {
    // The client's kernel knows position and size; it asks the server for data and holes only.
    if (whence !== files.SEEK_DATA && whence !== files.SEEK_HOLE) throw failure("EINVAL");
    const result = files.lseek(this.#handles.file(handle).fd, checkedOffset(offset), whence);
    if (result < 0n) throw failure(Number(-result));
    return result;
  }

  copyFileRange(from: CopyEnd, to: CopyEnd, lengthBytes: bigint): number {
    this.#requireWritable();
    const source = { fd: this.#handles.file(from.handle).fd, offset: checkedOffset(from.offset) };
    const target = { fd: this.#handles.file(to.handle).fd, offset: checkedOffset(to.offset) };
    const length = lengthBytes < MAX_COPY_BYTES ? lengthBytes : MAX_COPY_BYTES;
    return succeeded(files.copyFileRange(source, target, length));
  }

  release(handle: FileHandle): void {
    this.#locks.dropOf(handle);
    this.#handles.release(handle, "file");
  }

  getLock(handle: FileHandle, lock: FileLock): FileLock | null {
    return this.#locks.inTheWay(this.#locked(handle), lock);
  }

  setLock(handle: FileHandle, lock: FileLock): boolean {
    const file = this.#locked(handle);
    const result = lock.kind === "flock" ? setFlock(file.fd, lock.type) : this.#locks.set(file, lock);
    // fcntl(2) may say either.
    if (result === EAGAIN || result === EACCES) return false;
    succeeded(result);
    return true;
  }

  dropLocks(handle: FileHandle, owner: LockOwner): boolean {
    const node = this.#locks.count === 0 ? null : this.#handles.nodeOf(handle);
    return node !== null && this.#locks.drop(node, owner);
  }

  /** An open file that was opened by its node. */
  #locked(handle: FileHandle): LockedFile {
    const { fd } = this.#handles.file(handle);
    const node = this.#handles.nodeOf(handle);
    if (node === null) throw failure("EBADF");
    return { node, handle, fd };
  }

  opendir(node: NodeId): FileHandle {
    const { fd: pin, fileType, device } = this.#inodes.get(node);
    if (fileType !== files.S_IFDIR) throw failure("ENOTDIR");
    this.#handles.requireRoom();
    const fd = succeeded(this.#links.open(pin, files.O_DIRECTORY));
    return this.#handles.add({ kind: "directory", fd, node, device });
  }

  readDirectory(handle: FileHandle, offset: bigint, emit: (entry: DirectoryEntry) => boolean): void {
    const { device, reader } = this.#handles.directory(handle);
    const { device: home } = this.#source();
    reader.read(offset, device === home ? emit : (entry) => emitShown(entry, { home, device }, emit));
  }

  fsyncdir(handle: FileHandle, scope: SyncScope): void {
    const { fd } = this.#handles.directory(handle);
    succeeded(scope === "data" ? files.fdatasync(fd) : files.fsync(fd));
  }

  releasedir(handle: FileHandle): void {
    this.#handles.release(handle, "directory");
  }

  mkdir(place: Place, what: NewNode): Entry {
    return this.#make(place, what.caller, what.umask, (directoryFd) =>
      files.mkdirat(directoryFd, place.name, what.mode & 0o7777),
    );
  }

  mknod(place: Place, what: NewNode, device: { major: number; minor: number }): Entry {
    const number = files.deviceNumber(device.major, device.minor);
    return this.#make(place, what.caller, what.umask, (directoryFd) =>
      files.mknodat(directoryFd, place.name, what.mode, number),
    );
  }

  symlink(place: Place, target: TerminatedBytes, caller: Caller): Entry {
    return this.#make(place, caller, 0, (directoryFd) => files.symlinkat(target, directoryFd, place.name));
  }

  link(node: NodeId, place: Place): Entry {
    this.#requireWritable();
    const { fd } = this.#inodes.get(node);
    const parent = this.#inodes.get(place.parent);
    // Following the /proc link ends at the inode itself, also when that is a symbolic link.
    const path = linkPath(fd);
    succeeded(files.linkat(files.AT_FDCWD, path, parent.fd, place.name, files.AT_SYMLINK_FOLLOW));
    return this.#entryAt(parent, place.name);
  }

  unlink(place: Place): void {
    this.#requireWritable();
    succeeded(files.unlinkat(this.#inodes.get(place.parent).fd, place.name, 0));
  }

  rmdir(place: Place): void {
    this.#requireWritable();
    succeeded(files.unlinkat(this.#inodes.get(place.parent).fd, place.name, files.AT_REMOVEDIR));
  }

  rename(from: Place, to: Place, flags: number): void {
    this.#requireWritable();
    if ((flags & ~KNOWN_RENAME_FLAGS) !== 0) throw failure("EINVAL");
    const fromFd = this.#inodes.get(from.parent).fd;
    const toFd = this.#inodes.get(to.parent).fd;
    succeeded(files.renameat2(fromFd, from.name, toFd, to.name, flags));
  }

  readlink(node: NodeId): Uint8Array {
    const { fd, fileType } = this.#inodes.get(node);
    if (fileType !== files.S_IFLNK) throw failure("EINVAL");
    const target = new Uint8Array(PATH_MAX_BYTES);
    return target.subarray(0, succeeded(files.readlinkat(fd, files.EMPTY_PATH, target)));
  }

  withoutFsetid<T>(caller: Caller, work: () => T): T {
    return this.#identity.withoutFsetid(caller, work);
  }

  statfs(node: NodeId): Statistics {
    return statisticsOf(this.#inodes.get(node).fd);
  }

  syncfs(node: NodeId): void {
    const { fd, fileType } = this.#inodes.get(node);
    if (fileType !== files.S_IFDIR) throw failure("EINVAL");
    const open = succeeded(this.#links.open(fd, files.O_DIRECTORY));
    const result = files.syncfs(open);
    files.close(open);
    succeeded(result);
  }

  getxattr(node: NodeId, name: TerminatedBytes, into: Uint8Array): number {
    return succeeded(files.getxattr(linkPath(this.#inodes.get(node).fd), name, into));
  }

  setxattr(node: NodeId, name: TerminatedBytes, value: Uint8Array, flags: number): void {
    this.#requireWritable();
    succeeded(files.setxattr(linkPath(this.#inodes.get(node).fd), name, value, flags));
  }

  listxattr(node: NodeId, into: Uint8Array): number {
    return succeeded(files.listxattr(linkPath(this.#inodes.get(node).fd), into));
  }

  removexattr(node: NodeId, name: TerminatedBytes): void {
    this.#requireWritable();
    succeeded(files.removexattr(linkPath(this.#inodes.get(node).fd), name));
  }

  openForMapping(node: NodeId, { writable }: { readonly writable: boolean }): MappableFile {
    const inode = this.#inodes.get(node);
    if (writable) this.#requireWritable();
    const fd = this.#openContent(inode, writable ? files.O_RDWR : files.O_RDONLY);
    return { fd, close: () => void files.close(fd) };
  }

  descriptorOf(handle: FileHandle): number | null {
    return this.#handles.file(handle).fd;
  }

  hostFileOf(node: NodeId): HostFile | null {
    const identity = this.#inodes.identityOf(node);
    if (identity === null) return null;
    const { device, ino } = identity;
    return { device: files.deviceNumber(Math.floor(device / 2 ** 20), device % 2 ** 20), ino };
  }

  openedBy(handle: FileHandle): Opened | null {
    const node = this.#handles.nodeOf(handle);
    const file = node === null ? null : this.hostFileOf(node);
    return node === null || file === null ? null : { node, file };
  }

  reset(): void {
    this.#locks.close();
    this.#handles.close();
    this.#inodes.forgetAll();
  }

  usage(): Usage {
    return { nodes: this.#inodes.count, handles: this.#handles.count };
  }

  /** Whether the source's file system knows POSIX ACLs. */
  get hasAccessLists(): boolean {
    const path = linkPath(this.#inodes.get(ROOT_NODE).fd);
    const result = files.getxattr(path, ACCESS_LIST, new Uint8Array(0));
    return result >= 0 || failure(-result).code === "ENODATA";
  }

  /**
   * Whether `flush` never does anything: local file systems have no work of close(2) and no errors left for it
   * (no `flush` in their file_operations; that of F2FS is for transactions of the process itself).
   */
  get flushIsNothing(): boolean {
    return this.#source().isLocal && !this.options.crossMounts;
  }

  /**
   * Whether the entry with this number, as `readDirectory` gives it, is a pinned inode that the client knows. Of a directory on
   * another device than the source's none is: its numbers are shown ones.
   */
  isKnown(directory: NodeId, ino: bigint): boolean {
    const { device } = this.#inodes.get(directory);
    return device === this.#source().device && this.#inodes.isPinned(device, ino);
  }

  /** Descriptors that nodes hold now, without the root's. */
  get pins(): number {
    return this.#inodes.pins;
  }

  close(): void {
    this.#bounce?.free();
    this.#bounce = null;
    this.#locks.close();
    this.#handles.close();
    this.#inodes.close();
    this.#links.close();
  }

  #requireWritable(): void {
    if (this.options.readOnly) throw failure("EROFS");
  }

  /** The flags with which the source is opened for a client that asked for `flags`. */
  #openFlags(flags: number): number {
    const mode = flags & files.O_ACCMODE;
    if (mode === files.O_ACCMODE) throw failure("EINVAL");
    if (mode !== files.O_RDONLY || (flags & files.O_TRUNC) !== 0) this.#requireWritable();
    const passed = flags & (this.options.allowDirectIo ? PASSED_FLAGS | files.O_DIRECT : PASSED_FLAGS);
    if (!this.options.writebackCache) return mode | passed;
    // The kernel fills the rest of a page before it writes part of one.
    return (mode === files.O_WRONLY ? files.O_RDWR : mode) | passed;
  }

  #openContent(inode: Inode, flags: number): number {
    switch (inode.fileType) {
      case files.S_IFREG:
        return succeeded(this.#links.open(inode.fd, flags));
      case files.S_IFDIR:
        throw failure("EISDIR");
      case files.S_IFLNK:
        throw failure("ELOOP");
      default:
        throw failure("ENXIO");
    }
  }

  /** Makes something at `place` as its caller and returns its entry. */
  #make(place: Place, caller: Caller, umask: number, make: (directoryFd: number) => number): Entry {
    this.#requireWritable();
    const parent = this.#inodes.get(place.parent);
    this.#inodes.requireRoom();
    succeeded(this.#identity.run(caller, umask, () => make(parent.fd)));
    return this.#entryAt(parent, place.name);
  }

  /** The entry `name` of a directory, with one more reference. */
  #entryAt(directory: Inode, name: ComponentName): Entry {
    const { added } = this.#inodes;
    if (this.#newInARow >= ENOUGH_NEW) {
      const entry = this.#newEntryAt(directory, name);
      if (entry !== null) {
        if (this.#inodes.added === added) this.#newInARow = 0;
        return entry;
      }
    }
    this.#lookAt(directory, name);
    // A pinned inode is found without opening anything: its pin keeps (device, ino) from meaning another file.
    const known = this.#inodes.lookedUp(lastIdentity(), added);
    this.#newInARow = known === null ? this.#newInARow + 1 : 0;
    if (known !== null) return this.#entryOf(known, lastIdentity(), directory);
    this.#inodes.requireRoomFor(lastIdentity());
    return this.#adopt(succeeded(this.#pathAt(directory, name)), directory);
  }

  /** null: look at it before it is opened. The inode may be known all the same. */
  #newEntryAt(directory: Inode, name: ComponentName): Entry | null {
    // Opening what lies elsewhere may wait for ever (`#lookAt`).
    if (this.options.crossMounts || !this.#source().isLocal || !this.#inodes.hasRoom) return null;
    const fd = this.#pathAt(directory, name);
    return fd < 0 ? null : this.#adopt(fd, directory);
  }

  #pathAt(directory: Inode, name: ComponentName): number {
    const flags = files.O_PATH | files.O_NOFOLLOW;
    return this.options.crossMounts
      ? files.openat(directory.fd, name, flags)
      : files.openat2(directory.fd, name, flags, BENEATH | files.RESOLVE_NO_XDEV);
  }

  /**
   * `statInto` of a name, which must not lead to another mount: what is mounted there may wait for ever, and a bind mount of
   * an inode that is known would be found. A hung NFS or 9p mount may still wait here
   * (d_weak_revalidate() of its root, complete_walk() in fs/namei.c).
   */
  #lookAt(directory: Inode, name: ComponentName): void {
    const { mount, isLocal } = this.#source();
    if (this.options.crossMounts || mount === null) {
      succeeded(statInto(directory.fd, name));
      return;
    }
    succeeded(glanceInto(directory.fd, name));
    if (lastMount() !== mount) throw failure("EXDEV");
    if (!isLocal) succeeded(statInto(directory.fd, name));
  }

  #source(): Home {
    if (this.#home !== null) return this.#home;
    const { fd } = this.#inodes.get(ROOT_NODE);
    succeeded(statInto(fd, files.EMPTY_PATH));
    const [{ device }, mount] = [lastIdentity(), lastMount()];
    this.#home = { device, mount, isLocal: LASTING.has(fileSystemTypeOf(fd)) };
    return this.#home;
  }

  /** The entry of the inode behind an O_PATH descriptor, with one more reference. Takes the descriptor over. */
  #adopt(fd: number, directory: Inode): Entry {
    const result = statInto(fd, files.EMPTY_PATH);
    if (result < 0) {
      files.close(fd);
      throw failure(-result);
    }
    return this.#adoptSeen(fd, directory);
  }

  /** `#adopt` right after `statInto` of the same inode. */
  #adoptSeen(fd: number, directory: Inode | null): Entry {
    const identity = lastIdentity();
    const entry = this.#entryOf(ROOT_NODE, identity, directory);
    const { node } = this.#inodes.adopt(identity, fd);
    return { ...entry, node };
  }

  /** The entry of what `statInto` has just found. */
  #entryOf(node: NodeId, { device, fileType }: Identity, directory: Inode | null): Entry {
    // Asked for before: looking at the source would take the place of what was found.
    const home = this.#home?.device ?? device;
    const attributes = lastAttributes(home);
    const isSubmount = fileType === files.S_IFDIR && directory !== null && device !== directory.device;
    return { node, generation: 0n, attributes, isSubmount };
  }
}
