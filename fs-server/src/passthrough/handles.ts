/**
 * Open files and directories, in shared memory (slots.ts): every thread that serves the source has a `HandleTable` of its
 * own over the same slots. Handle numbers are never used again; a stale one is EBADF.
 */
import { threadId } from "node:worker_threads";
import { files } from "../../../sys/src/index.ts";
import { failure } from "../fs/errors.ts";
import type { FileHandle, NodeId } from "../fs/filesystem.ts";
import { DirectoryReader } from "./directory.ts";
import { FD, Hand, NO_FD, SLOT_WORDS, type SlotLayout, SlotTable } from "./slots.ts";

export type OpenFile = { readonly kind: "file"; readonly fd: number };
export type OpenDirectory = {
  readonly kind: "directory";
  readonly fd: number;
  readonly reader: DirectoryReader;
  /** As `Identity` has it: that of its entries, but for mount points and subvolumes. */
  readonly device: number;
};
/** `node`: what is open; null: a descriptor that came from elsewhere. */
export type Opened =
  | { readonly kind: "file"; readonly fd: number; readonly node: NodeId | null }
  | { readonly kind: "directory"; readonly fd: number; readonly node: NodeId; readonly device: number };

const KIND = SLOT_WORDS;
const NODE_LOW = SLOT_WORDS + 1;
const NODE_HIGH = SLOT_WORDS + 2;
/** A thread reads from the directory. */
const READING = SLOT_WORDS + 3;
/** The thread that has moved the descriptor's position last. */
const READER = SLOT_WORDS + 4;
/** It counts among those that have the node's backing file, or none. */
const IS_BACKED = SLOT_WORDS + 5;
const DEVICE = SLOT_WORDS + 6;
const HANDLE_WORDS = SLOT_WORDS + 7;
const kinds = { file: 1, directory: 2 } as const;

/** Threads may release at once what they have counted as open. */
const SPARE_SLOTS = 64;
/** Directories whose records a thread keeps between two requests. */
const READERS_MAX = 16;
const TWO_32 = 2 ** 32;

const layoutOf = (limit: number): SlotLayout => ({ slots: limit + SPARE_SLOTS, slotWords: HANDLE_WORDS });

export class HandleTable {
  readonly #words: Int32Array;
  readonly #slots: SlotTable;
  readonly #hand: Hand;
  readonly #limit: number;
  /** This thread's, the one that was used last at the end. */
  readonly #readers = new Map<FileHandle, DirectoryReader>();
  /** Memory of a reader that is gone: a client that walks a tree needs one after the other, and fresh memory is cleared first. */
  #spare: Uint8Array | undefined;

  static wordsFor(limit: number): number {
    return SlotTable.wordsFor(layoutOf(limit));
  }

  /** @param at the first of `wordsFor` words, zeros for a new table */
  constructor(words: Int32Array, at: number, limit: number) {
    this.#words = words;
    this.#slots = new SlotTable(words, at, layoutOf(limit));
    this.#hand = new Hand(this.#slots);
    this.#limit = limit;
  }

  get count(): number {
    return this.#slots.count;
  }

  /** Whether one more may be opened; asked before a descriptor is spent on it. */
  requireRoom(): void {
    if (this.count >= this.#limit) throw failure("ENFILE");
  }

  /** Takes over the descriptor. */
  add(opened: Opened): FileHandle {
    const { kind, fd, node } = opened;
    const words = this.#words;
    this.#slots.lock();
    const slot = this.#slots.take();
    if (slot === 0) {
      this.#slots.unlock();
      files.close(fd);
      throw failure("ENFILE");
    }
    const at = this.#slots.at(slot);
    const number = Number(node ?? 0n);
    words[at + FD] = fd;
    words[at + KIND] = kinds[kind];
    words[at + NODE_LOW] = number | 0;
    words[at + NODE_HIGH] = (number / TWO_32) | 0;
    words[at + READER] = 0;
    words[at + IS_BACKED] = 0;
    words[at + DEVICE] = opened.kind === "directory" ? opened.device : 0;
    const handle = this.#slots.show(slot) as FileHandle;
    this.#slots.unlock();
    return handle;
  }

  /** Open until two more have been asked for, or until `letGo`. */
  file(handle: FileHandle): OpenFile {
    return { kind: "file", fd: this.#words[this.#held(handle, "file") + FD] ?? NO_FD };
  }

  /** The first word of a handle's slot, now in hand. */
  #held(handle: FileHandle, kind: Opened["kind"]): number {
    const slot = this.#slots.acquire(handle);
    if (slot === 0) throw failure("EBADF");
    this.#hand.take(slot);
    const at = this.#slots.at(slot);
    if (this.#words[at + KIND] !== kinds[kind]) throw failure("EBADF");
    return at;
  }

  directory(handle: FileHandle): OpenDirectory {
    const at = this.#held(handle, "directory");
    const fd = this.#words[at + FD] ?? NO_FD;
    const known = this.#readers.get(handle);
    if (known !== undefined) this.#readers.delete(handle);
    const position = { words: this.#words, lock: at + READING, owner: at + READER, self: threadId + 1 };
    const reader = known ?? new DirectoryReader(fd, position, this.#takeSpare());
    this.#readers.set(handle, reader);
    if (this.#readers.size > READERS_MAX) {
      const [oldest] = this.#readers.keys();
      if (oldest !== undefined) this.#dropReader(oldest);
    }
    return { kind: "directory", fd, reader, device: (this.#words[at + DEVICE] ?? 0) >>> 0 };
  }

  #takeSpare(): Uint8Array | undefined {
    const spare = this.#spare;
    this.#spare = undefined;
    return spare;
  }

  #dropReader(handle: FileHandle): void {
    const reader = this.#readers.get(handle);
    if (reader === undefined) return;
    this.#readers.delete(handle);
    this.#spare = reader.bytes;
  }

  /** The node that a handle has open; null: none, or no such handle. */
  nodeOf(handle: FileHandle): NodeId | null {
    const slot = this.#slots.acquire(handle);
    if (slot === 0) return null;
    this.#hand.take(slot);
    const at = this.#slots.at(slot);
    const [low = 0, high = 0] = [this.#words[at + NODE_LOW], this.#words[at + NODE_HIGH]];
    const node = (high >>> 0) * TWO_32 + (low >>> 0);
    return node === 0 ? null : (BigInt(node) as NodeId);
  }

  markBacked(handle: FileHandle): void {
    const slot = this.#slots.acquire(handle);
    if (slot === 0) return;
    Atomics.store(this.#words, this.#slots.at(slot) + IS_BACKED, 1);
    this.#slots.release(slot);
  }

  /** The node of a handle that is marked, and is not from now on; else null. */
  takeBacked(handle: FileHandle): NodeId | null {
    const slot = this.#slots.acquire(handle);
    if (slot === 0) return null;
    const isMarked = Atomics.exchange(this.#words, this.#slots.at(slot) + IS_BACKED, 0) === 1;
    this.#slots.release(slot);
    const node = isMarked ? this.nodeOf(handle) : null;
    this.#hand.empty();
    return node;
  }

  /** The operation under way is over: others may close what it used. */
  letGo(): void {
    this.#hand.empty();
  }

  release(handle: FileHandle, kind: Opened["kind"]): void {
    // What this thread has in hand of it must not keep its descriptor open.
    this.#hand.empty();
    this.#dropReader(handle);
    this.#slots.lock();
    const slot = this.#slots.find(handle);
    const isRight = slot !== 0 && this.#words[this.#slots.at(slot) + KIND] === kinds[kind];
    if (isRight) this.#slots.doom(slot);
    this.#slots.unlock();
    if (!isRight) throw failure("EBADF");
    this.#slots.settle(slot);
  }

  close(): void {
    for (let slot = 1; slot <= this.#slots.highest; slot += 1) {
      if (!this.#slots.isLive(slot)) continue;
      const isFile = this.#words[this.#slots.at(slot) + KIND] === kinds.file;
      try {
        this.release(this.#slots.idOf(slot) as FileHandle, isFile ? "file" : "directory");
      } catch {
        // Another thread was faster.
      }
    }
  }
}
