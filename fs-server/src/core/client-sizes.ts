/**
 * The sizes of files as the client's kernel knows them: those that it was last answered, and what it wrote since.
 *
 * A WRITE carries the flags of its file (fuse_write_flags(), fs/fuse/file.c), not those of the call: RWF_NOAPPEND on a file
 * with O_APPEND looks like an append. Its offset tells them apart: that of an append is the size that the client knows
 * (generic_write_checks()), which may be less than the size, where others have appended meanwhile.
 *
 * A size that is not known, or old, makes no write wrong for a client that is alone: what is not below it is appended.
 */
import type { Attributes, Entry, NodeId } from "../fs/filesystem.ts";

const S_IFMT = 0o170000;
const S_IFREG = 0o100000;

/** Where the sizes are kept: a Map, or a table that all threads of one mount share (passthrough/shared-sizes.ts). */
export type SizeStore = {
  get(node: NodeId): bigint | undefined;
  set(node: NodeId, sizeBytes: bigint): void;
  delete(node: NodeId): void;
  clear(): void;
};

export class ClientSizes {
  readonly #byNode: SizeStore;

  constructor(store: SizeStore = new Map<NodeId, bigint>()) {
    this.#byNode = store;
  }

  /** An answer has shown these attributes. */
  shown(node: NodeId, attributes: Attributes): void {
    if ((attributes.mode & S_IFMT) === S_IFREG) this.#byNode.set(node, attributes.sizeBytes);
  }

  shownEntry({ node, attributes }: Entry): void {
    this.shown(node, attributes);
  }

  /** The client's kernel has counted a write up to `end` (fuse_write_update_attr()). */
  written(node: NodeId, end: bigint): void {
    const known = this.#byNode.get(node);
    if (known !== undefined && end > known) this.#byNode.set(node, end);
  }

  /** O_TRUNC of an open (fuse_truncate_update_attr()). */
  truncated(node: NodeId): void {
    if (this.#byNode.get(node) !== undefined) this.#byNode.set(node, 0n);
  }

  forget(node: NodeId): void {
    this.#byNode.delete(node);
  }

  clear(): void {
    this.#byNode.clear();
  }

  /** Whether a write at `offset` with O_APPEND is aimed at the end of the file. */
  isAtEnd(node: NodeId, offset: bigint): boolean {
    const known = this.#byNode.get(node);
    return known === undefined || offset >= known;
  }
}
