/** A file system that passes everything on: base of decorators that change one thing. */
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
  Usage,
  WriteHow,
} from "./filesystem.ts";
import type { ComponentName, TerminatedBytes } from "./names.ts";

export class DecoratedFileSystem implements FileSystem {
  protected readonly inner: FileSystem;

  constructor(inner: FileSystem) {
    this.inner = inner;
  }

  lookup(parent: NodeId, name: ComponentName): Entry {
    return this.inner.lookup(parent, name);
  }
  forget(node: NodeId, count: bigint): void {
    this.inner.forget(node, count);
  }
  getattr(node: NodeId): Attributes {
    return this.inner.getattr(node);
  }
  setattr(node: NodeId, change: AttributeChange, handle: FileHandle | null): Attributes {
    return this.inner.setattr(node, change, handle);
  }
  access(node: NodeId, mask: number, caller: Caller): void {
    this.inner.access(node, mask, caller);
  }
  open(node: NodeId, flags: number): FileHandle {
    return this.inner.open(node, flags);
  }
  create(place: Place, flags: number, what: NewNode): { entry: Entry; handle: FileHandle } {
    return this.inner.create(place, flags, what);
  }
  tmpfile(parent: NodeId, flags: number, what: NewNode): { entry: Entry; handle: FileHandle } {
    return this.inner.tmpfile(parent, flags, what);
  }
  read(handle: FileHandle, offset: bigint, into: Uint8Array): number {
    return this.inner.read(handle, offset, into);
  }
  write(handle: FileHandle, offset: bigint, data: Uint8Array, how?: WriteHow): number {
    return this.inner.write(handle, offset, data, how);
  }
  flush(handle: FileHandle): void {
    this.inner.flush(handle);
  }
  fsync(handle: FileHandle, scope: SyncScope): void {
    this.inner.fsync(handle, scope);
  }
  fallocate(handle: FileHandle, mode: number, offset: bigint, lengthBytes: bigint): void {
    this.inner.fallocate(handle, mode, offset, lengthBytes);
  }
  lseek(handle: FileHandle, offset: bigint, whence: number): bigint {
    return this.inner.lseek(handle, offset, whence);
  }
  copyFileRange(from: CopyEnd, to: CopyEnd, lengthBytes: bigint): number {
    return this.inner.copyFileRange(from, to, lengthBytes);
  }
  release(handle: FileHandle): void {
    this.inner.release(handle);
  }
  getLock(handle: FileHandle, lock: FileLock): FileLock | null {
    return this.inner.getLock(handle, lock);
  }
  setLock(handle: FileHandle, lock: FileLock): boolean {
    return this.inner.setLock(handle, lock);
  }
  dropLocks(handle: FileHandle, owner: LockOwner): boolean {
    return this.inner.dropLocks(handle, owner);
  }
  opendir(node: NodeId): FileHandle {
    return this.inner.opendir(node);
  }
  readDirectory(handle: FileHandle, offset: bigint, emit: (entry: DirectoryEntry) => boolean): void {
    this.inner.readDirectory(handle, offset, emit);
  }
  fsyncdir(handle: FileHandle, scope: SyncScope): void {
    this.inner.fsyncdir(handle, scope);
  }
  releasedir(handle: FileHandle): void {
    this.inner.releasedir(handle);
  }
  mkdir(place: Place, what: NewNode): Entry {
    return this.inner.mkdir(place, what);
  }
  mknod(place: Place, what: NewNode, device: { readonly major: number; readonly minor: number }): Entry {
    return this.inner.mknod(place, what, device);
  }
  symlink(place: Place, target: TerminatedBytes, caller: Caller): Entry {
    return this.inner.symlink(place, target, caller);
  }
  link(node: NodeId, place: Place): Entry {
    return this.inner.link(node, place);
  }
  unlink(place: Place): void {
    this.inner.unlink(place);
  }
  rmdir(place: Place): void {
    this.inner.rmdir(place);
  }
  rename(from: Place, to: Place, flags: number): void {
    this.inner.rename(from, to, flags);
  }
  readlink(node: NodeId): Uint8Array {
    return this.inner.readlink(node);
  }
  withoutFsetid<T>(caller: Caller, work: () => T): T {
    return this.inner.withoutFsetid(caller, work);
  }
  statfs(node: NodeId): Statistics {
    return this.inner.statfs(node);
  }
  syncfs(node: NodeId): void {
    this.inner.syncfs(node);
  }
  getxattr(node: NodeId, name: TerminatedBytes, into: Uint8Array): number {
    return this.inner.getxattr(node, name, into);
  }
  setxattr(node: NodeId, name: TerminatedBytes, value: Uint8Array, flags: number): void {
    this.inner.setxattr(node, name, value, flags);
  }
  listxattr(node: NodeId, into: Uint8Array): number {
    return this.inner.listxattr(node, into);
  }
  removexattr(node: NodeId, name: TerminatedBytes): void {
    this.inner.removexattr(node, name);
  }
  openForMapping(node: NodeId, options: { readonly writable: boolean }): MappableFile {
    return this.inner.openForMapping(node, options);
  }
  descriptorOf(handle: FileHandle): number | null {
    return this.inner.descriptorOf(handle);
  }
  hostFileOf(node: NodeId): HostFile | null {
    return this.inner.hostFileOf(node);
  }
  openedBy(handle: FileHandle): Opened | null {
    return this.inner.openedBy(handle);
  }
  usage(): Usage {
    return this.inner.usage();
  }
  reset(): void {
    this.inner.reset();
  }
  close(): void {
    this.inner.close();
  }
}
