/** A file system that reports which files its clients have open; every file that their kernel has mapped is among them. */
import { DecoratedFileSystem } from "../fs/decorator.ts";
import { FileSystemError } from "../fs/errors.ts";
import type { FileHandle, FileSystem, NodeId } from "../fs/filesystem.ts";

/** Threads report on their own: what is said of a handle's end may come before what is said of its beginning. */
export type OpenFileMessage =
  /** `fd`: open for reading, closed by the receiver; null: it could not be opened. */
  | {
      readonly type: "file-opened";
      readonly handle: FileHandle;
      readonly node: NodeId;
      readonly fd: number | null;
    }
  | { readonly type: "file-closed"; readonly handle: FileHandle }
  /** Every handle is. */
  | { readonly type: "files-closed" };

export class OpenFileReporter extends DecoratedFileSystem {
  readonly #report: (message: OpenFileMessage) => void;

  constructor(inner: FileSystem, report: (message: OpenFileMessage) => void) {
    super(inner);
    this.#report = report;
  }

  override open(node: NodeId, flags: number): FileHandle {
    return this.#opened(node, super.open(node, flags));
  }

  override create(...args: Parameters<FileSystem["create"]>): ReturnType<FileSystem["create"]> {
    const made = super.create(...args);
    this.#opened(made.entry.node, made.handle);
    return made;
  }

  override release(handle: FileHandle): void {
    super.release(handle);
    this.#report({ type: "file-closed", handle });
  }

  override reset(): void {
    this.#report({ type: "files-closed" });
    super.reset();
  }

  #opened(node: NodeId, handle: FileHandle): FileHandle {
    this.#report({ type: "file-opened", handle, node, fd: this.#descriptor(node) });
    return handle;
  }

  #descriptor(node: NodeId): number | null {
    try {
      return this.inner.openForMapping(node, { writable: false }).fd;
    } catch (error) {
      // The client keeps its handle.
      if (error instanceof FileSystemError) return null;
      throw error;
    }
  }
}
