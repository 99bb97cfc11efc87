/**
 * Which inode has which backing file of the client's kernel (FUSE_PASSTHROUGH), for all threads that serve it: in the slots
 * of inodes and handles.
 */
import type { BackingFiles, Backings } from "../fs/backing.ts";
import type { FileHandle, NodeId } from "../fs/filesystem.ts";
import { HandleTable } from "./handles.ts";
import { InodeTable, NO_BACKING } from "./inodes.ts";
import { placesOf, type SharedTables } from "./tables.ts";

export class SharedBackings implements Backings {
  readonly #inodes: InodeTable;
  readonly #handles: HandleTable;
  readonly #port: BackingFiles;

  constructor(tables: SharedTables, port: BackingFiles) {
    const { words, inodesAt, handlesAt } = placesOf(tables);
    this.#inodes = InodeTable.attach(words, inodesAt, tables.limits);
    this.#handles = new HandleTable(words, handlesAt, tables.limits.handles);
    this.#port = port;
  }

  opened(node: NodeId, handle: FileHandle, fd: number): number | null {
    const id = this.#inodes.backed(node, () => this.#port.open(fd));
    if (id !== null) this.#handles.markBacked(handle);
    return id === NO_BACKING ? null : id;
  }

  /** Before the handle is released. */
  released(handle: FileHandle): void {
    const node = this.#handles.takeBacked(handle);
    const id = node === null ? null : this.#inodes.unbacked(node);
    if (id !== null) this.#port.close(id);
  }
}
