/** Files that the client's kernel reads and writes itself (FUSE_PASSTHROUGH): the port, and which inode has which. */
import type { FileHandle, NodeId } from "./filesystem.ts";

/** The kernel's table of a connection. */
export interface BackingFiles {
  /** Registers a descriptor; null: the kernel would not. */
  open(fd: number): number | null;
  close(id: number): void;
}

/**
 * The kernel wants one backing file per inode, however often that is open, or none as long as it is open without
 * (fs/fuse/iomode.c: another open is EIO).
 */
export interface Backings {
  /** The id to answer an open with, or null. */
  opened(node: NodeId, handle: FileHandle, fd: number): number | null;
  /** Before the handle is released. */
  released(handle: FileHandle): void;
}

/** Of one thread. */
export class BackingTable implements Backings {
  readonly #port: BackingFiles;
  readonly #byNode = new Map<NodeId, { readonly id: number | null; opens: number }>();
  readonly #nodeOf = new Map<FileHandle, NodeId>();

  constructor(port: BackingFiles) {
    this.#port = port;
  }

  opened(node: NodeId, handle: FileHandle, fd: number): number | null {
    let shared = this.#byNode.get(node);
    if (shared === undefined) {
      shared = { id: this.#port.open(fd), opens: 0 };
      this.#byNode.set(node, shared);
    }
    shared.opens += 1;
    this.#nodeOf.set(handle, node);
    return shared.id;
  }

  released(handle: FileHandle): void {
    const node = this.#nodeOf.get(handle);
    if (node === undefined) return;
    this.#nodeOf.delete(handle);
    const shared = this.#byNode.get(node);
    if (shared === undefined) return;
    shared.opens -= 1;
    if (shared.opens > 0) return;
    this.#byNode.delete(node);
    if (shared.id !== null) this.#port.close(shared.id);
  }
}
