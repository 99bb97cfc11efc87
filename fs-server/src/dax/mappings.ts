/**
 * FUSE_SETUPMAPPING and FUSE_REMOVEMAPPING over a file system and a window.
 *
 * As the Linux driver uses them (fs/fuse/dax.c): by node id, the file handle being -1; 2 MiB each whatever the file's
 * size, so a mapping may reach past the end of the file; the upgrade from read to read and write sends the same
 * window offset again without removing anything; one removal names many ranges. A client that uses smaller pages is
 * served at the window's alignment. Every error leaves both the table and the window as they were.
 */
import { fstatSync } from "node:fs";
import { failure } from "../fs/errors.ts";
import type { FileSystem } from "../fs/filesystem.ts";
import { type DaxMapping, type MappingRequest, MappingTable, type Removal } from "./table.ts";
import type { DaxWindow } from "./window.ts";

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
  readonly #table: MappingTable;

  constructor(fs: FileSystem, window: DaxWindow) {
    this.#fs = fs;
    this.#window = window;
    this.#table = new MappingTable(window);
  }

  get window(): DaxWindow {
    return this.#window;
  }

  get alignmentBytes(): bigint {
    return this.#window.alignmentBytes;
  }

  /** What is mapped now. */
  list(): readonly DaxMapping[] {
    return this.#table.list();
  }

  /**
   * SETUPMAPPING. EINVAL: unaligned, empty or past the window's end; EEXIST: overlaps another mapping (only the same
   * range of the same file may be asked for again); ESTALE: unknown node; ENXIO: an owner that cannot map past the end of the
   * file, and a range that reaches past it; any errno of opening the file.
   */
  setup(request: MappingRequest): void {
    const mapping = this.#table.needed(request);
    if (mapping === null) return;
    const { node, range, fileOffset, writable } = mapping;
    const file = this.#fs.openForMapping(node, { writable });
    try {
      if (!this.#window.canMapPastEnd && fileOffset + range.lengthBytes > sizeOf(file.fd))
        throw failure("ENXIO");
      this.#window.map(range, file.fd, fileOffset, { writable });
    } finally {
      file.close();
    }
    this.#table.add(mapping);
  }

  /**
   * REMOVEMAPPING. Each removal must cover whole mappings (or nothing: the driver may repeat itself); all are
   * checked before the first is done. EINVAL otherwise.
   */
  remove(removals: readonly Removal[]): void {
    for (const mapping of this.#table.covered(removals)) this.#unmap(mapping);
  }

  /** Empties the window: at DESTROY, or before a truncation that must not be seen half-way. */
  removeAll(): void {
    for (const mapping of this.#table.list()) this.#unmap(mapping);
  }

  #unmap(mapping: DaxMapping): void {
    this.#window.unmap(mapping.range);
    this.#table.delete(mapping);
  }
}

function sizeOf(fd: number): bigint {
  return fstatSync(fd, { bigint: true }).size;
}
