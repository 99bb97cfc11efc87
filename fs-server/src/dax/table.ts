/**
 * What lies where in a DAX window: the checks of FUSE_SETUPMAPPING and FUSE_REMOVEMAPPING, without a window or a file. For
 * every owner: one that maps at once (mappings.ts), and one that has to ask another process (transport/vhost-user).
 */
import { failure } from "../fs/errors.ts";
import type { NodeId } from "../fs/filesystem.ts";
import {
  answeringRangeFaults,
  checkedRange,
  overlaps,
  type WindowFacts,
  type WindowRange,
} from "./window.ts";

/** FUSE_REMOVEMAPPING_MAX_ENTRY: a page of struct fuse_removemapping_one. */
export const MAX_REMOVALS = 256;
const MAX_FILE_BYTES = 2n ** 63n - 1n;

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

export class MappingTable {
  readonly #facts: WindowFacts;
  /** By window offset. Ranges never overlap. */
  readonly #mappings = new Map<bigint, DaxMapping>();

  constructor(facts: WindowFacts) {
    this.#facts = facts;
  }

  list(): readonly DaxMapping[] {
    return [...this.#mappings.values()];
  }

  /** What begins at `windowOffset`, or null. */
  at(windowOffset: bigint): DaxMapping | null {
    return this.#mappings.get(windowOffset) ?? null;
  }

  get size(): number {
    return this.#mappings.size;
  }

  /** What has to be mapped for a SETUPMAPPING; null: it is there. Throws EINVAL and EEXIST. */
  needed(request: MappingRequest): DaxMapping | null {
    const { node, fileOffset, lengthBytes, windowOffset } = request;
    const { alignmentBytes, upgrades } = this.#facts;
    const range = this.#range(windowOffset, lengthBytes);
    if (fileOffset < 0n || fileOffset % alignmentBytes !== 0n || fileOffset + lengthBytes > MAX_FILE_BYTES) {
      throw failure("EINVAL");
    }
    const present = this.#mappings.get(windowOffset);
    const again = present !== undefined && isSame(present, request);
    if (!again && this.list().some((mapping) => overlaps(mapping.range, range))) throw failure("EEXIST");
    const writable = request.writable || upgrades === "always-writable";
    // Asking again for less than there is changes nothing: a write may be under way through the old mapping.
    if (again && (present.writable || !writable)) return null;
    return { node, fileOffset, range, writable };
  }

  add(mapping: DaxMapping): void {
    this.#mappings.set(mapping.range.offsetBytes, mapping);
  }

  delete(mapping: DaxMapping): void {
    this.#mappings.delete(mapping.range.offsetBytes);
  }

  /** The mappings that removals cover, each once. Throws EINVAL: too many, or one covers a part of a mapping. */
  covered(removals: readonly Removal[]): readonly DaxMapping[] {
    if (removals.length > MAX_REMOVALS) throw failure("EINVAL");
    const ranges = removals.map((removal) => this.#range(removal.windowOffset, removal.lengthBytes));
    const covered = new Set<DaxMapping>();
    for (const range of ranges) {
      for (const mapping of this.#mappings.values()) {
        if (!overlaps(mapping.range, range)) continue;
        if (!contains(range, mapping.range)) throw failure("EINVAL");
        covered.add(mapping);
      }
    }
    return [...covered];
  }

  #range(offset: bigint, length: bigint): WindowRange {
    const { sizeBytes, alignmentBytes } = this.#facts;
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
