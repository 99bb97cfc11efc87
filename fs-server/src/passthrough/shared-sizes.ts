/**
 * Sizes of each node, for all threads that serve a mount: a 64-bit word of each kind for each slot of the inode table. A node that
 * is forgotten gives its words up with `delete`, before its slot can be another's.
 */
import type { NodeId } from "../fs/filesystem.ts";
import { InodeTable } from "./inodes.ts";
import { slotOf, spanOf } from "./slots.ts";
import type { SharedTables } from "./tables.ts";

/** Sizes are kept plus one: a word that was never written says nothing. */
const UNKNOWN = 0n;

const KINDS = ["latest", "made"] as const;

export function sizesMemory(slots: number): SharedArrayBuffer {
  return new SharedArrayBuffer(BigInt64Array.BYTES_PER_ELEMENT * KINDS.length * (slots + 1));
}

export function sharedSizes(tables: SharedTables): {
  readonly latest: SharedSizes;
  readonly made: SharedSizes;
} {
  const [latest, made] = [new SharedSizes(tables, "latest"), new SharedSizes(tables, "made")];
  return { latest, made };
}

export class SharedSizes {
  readonly #words: BigInt64Array;
  readonly #slots: number;
  readonly #span: number;

  constructor({ sizes, limits }: SharedTables, kind: (typeof KINDS)[number]) {
    this.#slots = InodeTable.slotCount(limits);
    const at = BigInt64Array.BYTES_PER_ELEMENT * KINDS.indexOf(kind) * (this.#slots + 1);
    this.#words = new BigInt64Array(sizes, at, this.#slots + 1);
    this.#span = spanOf(this.#slots);
  }

  get(node: NodeId): bigint | undefined {
    const word = Atomics.load(this.#words, this.#at(node));
    return word === UNKNOWN ? undefined : word - 1n;
  }

  set(node: NodeId, sizeBytes: bigint): void {
    Atomics.store(this.#words, this.#at(node), sizeBytes + 1n);
  }

  delete(node: NodeId): void {
    Atomics.store(this.#words, this.#at(node), UNKNOWN);
  }

  clear(): void {
    this.#words.fill(UNKNOWN);
  }

  /** A node that no table can have shares the word of slot 0, which no node has. */
  #at(node: NodeId): number {
    return slotOf(node, this.#slots, this.#span);
  }
}
