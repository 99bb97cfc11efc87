/** A file system that reports which files its clients have open; every file that their kernel has mapped is among them. */
import { DecoratedFileSystem } from "../fs/decorator.ts";
import { FileSystemError } from "../fs/errors.ts";
import type { FileHandle, FileSystem, NodeId } from "../fs/filesystem.ts";

export type OpenFileMessage =
  /** The first handle of a node. `fd`: open for reading, closed by the receiver; null: it could not be opened. */
  | { readonly type: "file-opened"; readonly node: NodeId; readonly fd: number | null }
  /** The last handle is released, and with it every mapping. */
  | { readonly type: "file-closed"; readonly node: NodeId };

export class OpenFileReporter extends DecoratedFileSystem {
  readonly #report: (message: OpenFileMessage) => void;
  readonly #nodeOf = new Map<FileHandle, NodeId>();
  readonly #handles = new Map<NodeId, number>();

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
    const node = this.#nodeOf.get(handle);
    if (node === undefined) return;
    this.#nodeOf.delete(handle);
    const left = (this.#handles.get(node) ?? 1) - 1;
    if (left > 0) this.#handles.set(node, left);
    else this.#closed(node);
  }

  override reset(): void {
    this.#nodeOf.clear();
    for (const node of this.#handles.keys()) this.#closed(node);
    super.reset();
  }

  #opened(node: NodeId, handle: FileHandle): FileHandle {
    this.#nodeOf.set(handle, node);
    const others = this.#handles.get(node) ?? 0;
    this.#handles.set(node, others + 1);
    if (others === 0) this.#report({ type: "file-opened", node, fd: this.#descriptor(node) });
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

  #closed(node: NodeId): void {
    this.#handles.delete(node);
    this.#report({ type: "file-closed", node });
  }
}
