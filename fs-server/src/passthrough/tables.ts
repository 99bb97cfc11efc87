/**
 * The tables of one source in one piece of shared memory, handed from the thread that opens the source to the others that
 * serve it. Pages of it that were never used take no memory.
 */
import { HandleTable } from "./handles.ts";
import { type InodeLimits, InodeTable } from "./inodes.ts";
import { LockTable } from "./locks.ts";
import { sizesMemory } from "./shared-sizes.ts";

export type TableLimits = InodeLimits & { readonly handles: number; readonly locks: number };

/** What another thread needs; can be posted to it. */
export type SharedTables = {
  readonly memory: SharedArrayBuffer;
  /** Of shared-sizes.ts. */
  readonly sizes: SharedArrayBuffer;
  readonly limits: TableLimits;
  /** The descriptor of DescriptorLinks. */
  readonly links: number;
};

export function newTables(limits: TableLimits, links: number): SharedTables {
  const words =
    InodeTable.wordsFor(limits) + HandleTable.wordsFor(limits.handles) + LockTable.wordsFor(limits.locks);
  const sizes = sizesMemory(InodeTable.slotCount(limits));
  return { memory: new SharedArrayBuffer(4 * words), sizes, limits, links };
}

/** Where the tables lie. */
export function placesOf({ memory, limits }: SharedTables): {
  readonly words: Int32Array;
  readonly inodesAt: number;
  readonly handlesAt: number;
  readonly locksAt: number;
} {
  const handlesAt = InodeTable.wordsFor(limits);
  const locksAt = handlesAt + HandleTable.wordsFor(limits.handles);
  return { words: new Int32Array(memory), inodesAt: 0, handlesAt, locksAt };
}
