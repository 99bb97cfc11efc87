/**
 * The sizes of files as the client's kernel knows them: those that it was last answered, and what it wrote since.
 *
 * A WRITE carries the flags of its file (fuse_write_flags(), fs/fuse/file.c), not those of the call: RWF_NOAPPEND on a file
 * with O_APPEND looks like an append. Its offset tells them apart: that of an append is the size that the client knows
 * (generic_write_checks()), which may be less than the size, where others have appended meanwhile.
 *
 * What the client was shown is not what it knows when it writes: an answer may be on its way, or be older than a change that the
 * client has made since, which its kernel leaves out (fuse_change_attributes(), attr_version). So an offset is that of an append
 * also where it is the size that the client's own last change has left.
 *
 * A size that is not known, or old, makes no write wrong for a client that is alone: what is not below it is appended.
 */
import type { Attributes, Entry, NodeId } from "../fs/filesystem.ts";

const S_IFMT = 0o170000;
const S_IFREG = 0o100000;

/** A size of each node: a Map, or a table that all threads of one mount share (passthrough/shared-sizes.ts). */
export type Sizes = {
  get(node: NodeId): bigint | undefined;
  set(node: NodeId, sizeBytes: bigint): void;
  delete(node: NodeId): void;
  clear(): void;
};

/** `latest`: what it was shown or has made it last; `made`: what its own last change has left. */
export type SizeStore = { readonly latest: Sizes; readonly made: Sizes };

export class ClientSizes {
  readonly #latest: Sizes;
  readonly #made: Sizes;

  constructor({ latest, made }: SizeStore = { latest: new Map(), made: new Map() }) {
    this.#latest = latest;
    this.#made = made;
  }

  /** An answer has shown these attributes. */
  shown(node: NodeId, attributes: Attributes): void {
    if ((attributes.mode & S_IFMT) === S_IFREG) this.#latest.set(node, attributes.sizeBytes);
  }

  shownEntry({ node, attributes }: Entry): void {
    this.shown(node, attributes);
  }

  /** The client's kernel has counted a write up to `end` (fuse_write_update_attr()). */
  written(node: NodeId, end: bigint, isAppended = false): void {
    const latest = this.#latest.get(node);
    if (latest === undefined) return;
    if (end > latest) this.#latest.set(node, end);
    if (end > latest || isAppended) this.#made.set(node, end);
  }

  /** By the client: a new size, or O_TRUNC of an open (fuse_truncate_update_attr()). */
  truncated(node: NodeId, sizeBytes: bigint): void {
    if (this.#latest.get(node) === undefined) return;
    this.#made.set(node, sizeBytes);
    this.#latest.set(node, sizeBytes);
  }

  forget(node: NodeId): void {
    this.#latest.delete(node);
    this.#made.delete(node);
  }

  clear(): void {
    this.#latest.clear();
    this.#made.clear();
  }

  /** Whether a write at `offset` with O_APPEND is aimed at the end of the file. */
  isAtEnd(node: NodeId, offset: bigint): boolean {
    const [latest, made] = [this.#latest.get(node), this.#made.get(node)];
    if (latest === undefined || offset === latest || offset === made) return true;
    return offset > latest && (made === undefined || offset > made);
  }
}
