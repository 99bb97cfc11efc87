/**
 * FUSE_SETUPMAPPING and FUSE_REMOVEMAPPING over a file system and a window.
 *
 * As the Linux driver uses them (fs/fuse/dax.c): by node id, the file handle being -1; 2 MiB each whatever the file's
 * size, so a mapping may reach past the end of the file; the upgrade from read to read and write sends the same
 * window offset again without removing anything; one removal names many ranges. A client that uses smaller pages is
 * served at the window's alignment. Every error leaves both the table and the window as they were.
 */
import { failure } from "../fs/errors.ts";
import type { FileSystem, NodeId } from "../fs/filesystem.ts";
import { answeringRangeFaults, checkedRange, type DaxWindow, overlaps, type WindowRange } from "./window.ts";

/** FUSE_REMOVEMAPPING_MAX_ENTRY: a page of struct fuse_removemapping_one. */
export const MAX_REMOVALS = 256;

export type MappingRequest = {
  readonly node: NodeId;
  readonly fileOffset: bigint;
  readonly lengthBytes: bigint;
  readonly windowOffset: bigint;
  readonly writable: boolean;
};

export type Removal = { readonly windowOffset: bigint; readonly lengthBytes: bigint };

/** What lies in a range of the window. */
export type DaxMapping = {
  readonly node: NodeId;
  readonly fileOffset: bigint;
  readonly range: WindowRange;
  readonly writable: boolean;
};

/** What serves a session's mappings. */
export interface DaxService {
  readonly alignmentBytes: bigint;
  setup(request: MappingRequest): void;
  remove(removals: readonly Removal[]): void;
  /** The client is gone, or begins anew. */
  removeAll(): void;
}

export class DaxMappings implements DaxService {
  readonly #fs: FileSystem;
  readonly #window: DaxWindow;
  /** By window offset. Ranges never overlap. */
  readonly #mappings = new Map<bigint, DaxMapping>();

  constructor(fs: FileSystem, window: DaxWindow) {
    this.#fs = fs;
    this.#window = window;
  }

  get window(): DaxWindow {
    return this.#window;
  }

  get alignmentBytes(): bigint {
    return this.#window.alignmentBytes;
  }

  /** What is mapped now. */
  list(): readonly DaxMapping[] {
    return [...this.#mappings.values()];
  }

  /**
   * SETUPMAPPING. EINVAL: unaligned, empty or past the window's end; EEXIST: overlaps another mapping (only the same
   * range of the same file may be asked for again); ESTALE: unknown node; any errno of opening the file.
   */
  setup(request: MappingRequest): void {
    const { node, fileOffset, lengthBytes, windowOffset, writable } = request;
    const range = this.#range(windowOffset, lengthBytes);
    const fileEnd = fileOffset + lengthBytes;
    if (fileOffset < 0n || fileOffset % this.#window.alignmentBytes !== 0n || fileEnd > 2n ** 63n - 1n) {
      throw failure("EINVAL");
    }
    const present = this.#mappings.get(windowOffset);
    const again = present !== undefined && isSame(present, request);
    if (!again && this.list().some((mapping) => overlaps(mapping.range, range))) throw failure("EEXIST");
    // Asking again for less than there is changes nothing: a write may be under way through the old mapping.
    if (again && (present.writable || !writable)) return;
    const file = this.#fs.openForMapping(node, { writable });
    try {
      this.#window.map(range, file.fd, fileOffset, { writable });
    } finally {
      file.close();
    }
    this.#mappings.set(windowOffset, { node, fileOffset, range, writable });
  }

  /**
   * REMOVEMAPPING. Each removal must cover whole mappings (or nothing: the driver may repeat itself); all are
   * checked before the first is done. EINVAL otherwise.
   */
  remove(removals: readonly Removal[]): void {
    if (removals.length > MAX_REMOVALS) throw failure("EINVAL");
    const ranges = removals.map((removal) => this.#range(removal.windowOffset, removal.lengthBytes));
    const covered = new Map<bigint, DaxMapping>();
    for (const range of ranges) {
      for (const mapping of this.#mappings.values()) {
        if (!overlaps(mapping.range, range)) continue;
        if (!contains(range, mapping.range)) throw failure("EINVAL");
        covered.set(mapping.range.offsetBytes, mapping);
      }
    }
    for (const [offset, mapping] of covered) {
      this.#window.unmap(mapping.range);
      this.#mappings.delete(offset);
    }
  }

  /** Empties the window: at DESTROY, or before a truncation that must not be seen half-way. */
  removeAll(): void {
    for (const [offset, mapping] of this.#mappings) {
      this.#window.unmap(mapping.range);
      this.#mappings.delete(offset);
    }
  }

  #range(offset: bigint, length: bigint): WindowRange {
    const { sizeBytes, alignmentBytes } = this.#window;
    return answeringRangeFaults(() => checkedRange(offset, length, sizeBytes, alignmentBytes));
  }
}

function isSame(mapping: DaxMapping, request: MappingRequest): boolean {
  return (
    mapping.node === request.node &&
    mapping.fileOffset === request.fileOffset &&
    mapping.range.lengthBytes === request.lengthBytes
  );
}

function contains(outer: WindowRange, inner: WindowRange): boolean {
  return (
    outer.offsetBytes <= inner.offsetBytes &&
    inner.offsetBytes + inner.lengthBytes <= outer.offsetBytes + outer.lengthBytes
  );
}
