/**
 * The inode table: which nodes the client knows, most of them pinned by an O_PATH descriptor. In shared memory (slots.ts):
 * every thread that serves the source has an `InodeTable` of its own over the same slots.
 *
 * Keyed by (device, inode number). A pin makes that key safe: an inode with an open descriptor is not freed, so its
 * number cannot come back as another file while the entry lives. Node ids are never used again, hence generation 0
 * everywhere and no stale id that suddenly means another file.
 *
 * Pins are bounded. Where the source's file system has file handles (file-handles.ts), the pin that has not been used for
 * longest makes room: its inode is then named by its handle, which has the inode's generation in it. It is pinned again by
 * open_by_handle_at(2), or by a look-up that finds the same handle under (device, inode number). A handle of an inode that
 * has been freed meanwhile is ESTALE. Without handles every node keeps its pin, and what is beyond the bound is ENFILE.
 * Threads check a bound before they add, so it can be passed by as many as there are threads.
 */
import { files } from "../../../sys/src/index.ts";
import { failure, succeeded } from "../fs/errors.ts";
import { type NodeId, ROOT_NODE } from "../fs/filesystem.ts";
import type { Identity } from "./attributes.ts";
import { FileHandles } from "./file-handles.ts";
import { FD, Hand, NO_FD, SLOT_WORDS, type SlotLayout, SlotTable } from "./slots.ts";

export type Inode = {
  readonly node: NodeId;
  /** O_PATH: names the inode, gives no access to its content. */
  readonly fd: number;
  /** S_IF* bits. */
  readonly fileType: number;
  /** As `Identity` has it. */
  readonly device: number;
};

export type InodeLimits = {
  /** Most nodes known at once, without the root. */
  readonly nodes: number;
  /** Most of them with a descriptor. More than the two that an operation has in hand. */
  readonly pins: number;
};

/** Words of a slot: identity, the references that the client holds (64 bits), the chain of a bucket. */
const TYPE = SLOT_WORDS;
const DEVICE = SLOT_WORDS + 1;
const INO_LOW = SLOT_WORDS + 2;
const INO_HIGH = SLOT_WORDS + 3;
const LOOKUPS_LOW = SLOT_WORDS + 4;
const LOOKUPS_HIGH = SLOT_WORDS + 5;
/** NOT_CHAINED: its number has become another inode's. */
const CHAIN = SLOT_WORDS + 6;
/** The list of those that can be unpinned; a second chance puts one at the end. */
const OLDER = SLOT_WORDS + 7;
const NEWER = SLOT_WORDS + 8;
/** Used since the search for the oldest pin came by. */
const IS_USED = SLOT_WORDS + 9;
/** How many nodes had been added with this one. */
const ADDED_AS = SLOT_WORDS + 10;
/** struct file_handle of an inode that was unpinned, its length first; 0: never yet. */
const HANDLE_BYTES = SLOT_WORDS + 11;
const HANDLE = SLOT_WORDS + 12;
const HANDLE_WORDS = 12;
/** The client's kernel's backing file, and the handles that it was opened for. */
const BACKING = HANDLE + HANDLE_WORDS;
const BACKED_HANDLES = BACKING + 1;
/** The kernel's ids begin at 1 (fuse_backing_id_alloc()). */
export const NO_BACKING = 0;
const INODE_WORDS = BACKED_HANDLES + 1;
const NOT_CHAINED = -1;

/** Words before the slots. */
const PINS = 0;
const ADDED = 1;
const OLDEST = 2;
const NEWEST = 3;
/** Of FileHandles, plus one; 0: there are none. */
const MOUNT_FD = 4;
const MOUNT_ID = 5;
const HEAD_WORDS = 6;

/** Slots that were given up and still have users. */
const SPARE_SLOTS = 64;
const TWO_32 = 2 ** 32;
const ROOT_SLOT = 1;

const layoutOf = ({ nodes }: InodeLimits): SlotLayout => ({
  slots: nodes + 1 + SPARE_SLOTS,
  slotWords: INODE_WORDS,
});
const bucketsOf = ({ nodes }: InodeLimits): number => 2 ** Math.ceil(Math.log2(Math.max(nodes, 2)));

export class InodeTable {
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;
  readonly #at: number;
  readonly #bucketsAt: number;
  readonly #bucketMask: number;
  readonly #slots: SlotTable;
  readonly #hand: Hand;
  readonly #limits: InodeLimits;
  readonly #fileHandles: FileHandles | null;

  /** Slots of the table, from 1. */
  static slotCount(limits: InodeLimits): number {
    return layoutOf(limits).slots;
  }

  static wordsFor(limits: InodeLimits): number {
    return HEAD_WORDS + bucketsOf(limits) + SlotTable.wordsFor(layoutOf(limits));
  }

  private constructor(words: Int32Array, at: number, limits: InodeLimits, fileHandles: FileHandles | null) {
    this.#words = words;
    this.#bytes = new Uint8Array(words.buffer);
    this.#at = at;
    this.#limits = limits;
    this.#bucketsAt = at + HEAD_WORDS;
    this.#bucketMask = bucketsOf(limits) - 1;
    this.#slots = new SlotTable(words, this.#bucketsAt + bucketsOf(limits), layoutOf(limits));
    this.#hand = new Hand(this.#slots);
    this.#fileHandles = fileHandles;
  }

  /**
   * A new table.
   * @param root `fd` of the source directory; its node is ROOT_NODE, and stays pinned
   * @param fileHandles null: every node stays pinned
   */
  static create(
    { words, at, limits }: { readonly words: Int32Array; readonly at: number; readonly limits: InodeLimits },
    root: Identity & { readonly fd: number },
    fileHandles: FileHandles | null,
  ): InodeTable {
    const table = new InodeTable(words, at, limits, fileHandles);
    words[at + MOUNT_FD] = fileHandles === null ? 0 : fileHandles.mountFd + 1;
    words[at + MOUNT_ID] = fileHandles?.mountId ?? 0;
    table.#add(root, root.fd);
    words[table.#slots.at(ROOT_SLOT) + LOOKUPS_LOW] = 1;
    return table;
  }

  /** The table that another thread has created. */
  static attach(words: Int32Array, at: number, limits: InodeLimits): InodeTable {
    const mountFd = (words[at + MOUNT_FD] ?? 0) - 1;
    const fileHandles = mountFd < 0 ? null : FileHandles.attach(mountFd, words[at + MOUNT_ID] ?? 0);
    return new InodeTable(words, at, limits, fileHandles);
  }

  /** Nodes known, without the root. */
  get count(): number {
    return this.#slots.count - 1;
  }

  /** Every node stays pinned. */
  get holdsDescriptors(): boolean {
    return this.#fileHandles === null;
  }

  /** Descriptors held, without the root's. */
  get pins(): number {
    return Atomics.load(this.#words, this.#at + PINS);
  }

  /** How many nodes were ever added: what is asked for before an inode is looked at that `lookedUp` is to find. */
  get added(): number {
    return Atomics.load(this.#words, this.#at + ADDED);
  }

  /** Pinned, until two more have been asked for, or until `letGo`. */
  get(node: NodeId): Inode {
    const slot = this.#slots.acquire(node);
    if (slot === 0) throw failure("ESTALE");
    this.#hand.take(slot);
    const words = this.#words;
    const at = this.#slots.at(slot);
    if (words[at + IS_USED] === 0) words[at + IS_USED] = 1;
    const pin = Atomics.load(words, at + FD);
    const fd = pin === NO_FD ? this.#reopen(slot) : pin;
    return { node, fd, fileType: words[at + TYPE] ?? 0, device: (words[at + DEVICE] ?? 0) >>> 0 };
  }

  /** The operation under way is over: others may close what it used. */
  letGo(): void {
    this.#hand.empty();
  }

  /** Device and inode number of a node that is known; null: it is not. No system call. */
  identityOf(node: NodeId): Pick<Identity, "device" | "ino"> | null {
    const slot = this.#slots.acquire(node);
    if (slot === 0) return null;
    this.#hand.take(slot);
    const at = this.#slots.at(slot);
    const [low = 0, high = 0] = [this.#words[at + INO_LOW], this.#words[at + INO_HIGH]];
    const ino = (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
    return { device: (this.#words[at + DEVICE] ?? 0) >>> 0, ino };
  }

  /**
   * The pinned inode that this is for certain, with one more reference; null: it is not known, or not pinned and has to be
   * compared.
   * @param added from before the inode was looked at: one that was added since may have got the number of another
   */
  lookedUp(identity: Identity, added: number): NodeId | null {
    const words = this.#words;
    this.#slots.lock();
    const slot = this.#find(identity);
    const at = this.#slots.at(slot);
    const isCertain =
      slot !== 0 && words[at + FD] !== NO_FD && (((words[at + ADDED_AS] ?? 0) - added) | 0) <= 0;
    if (isCertain) this.#refer(at);
    const node = isCertain ? (this.#slots.idOf(slot) as NodeId) : null;
    this.#slots.unlock();
    return node;
  }

  /** Whether this inode is known for certain: a pin keeps its number from meaning another file. */
  isPinned(device: number, ino: bigint): boolean {
    this.#slots.lock();
    const slot = this.#find({ device, ino, fileType: 0 });
    const isPinned = slot !== 0 && this.#words[this.#slots.at(slot) + FD] !== NO_FD;
    this.#slots.unlock();
    return isPinned;
  }

  /**
   * The backing file of one more handle: what `open` gives for the first one is for all that are open with it, since the
   * client's kernel has an inode's files all by it or all by its cache (fs/fuse/iomode.c). NO_BACKING: they have none;
   * null: the node is not known.
   */
  backed(node: NodeId, open: () => number | null): number | null {
    const words = this.#words;
    this.#slots.lock();
    try {
      const slot = this.#slots.find(node);
      if (slot === 0) return null;
      const at = this.#slots.at(slot);
      const handles = words[at + BACKED_HANDLES] ?? 0;
      const id = handles > 0 ? (words[at + BACKING] ?? NO_BACKING) : (open() ?? NO_BACKING);
      words[at + BACKING] = id;
      words[at + BACKED_HANDLES] = handles + 1;
      return id;
    } finally {
      this.#slots.unlock();
    }
  }

  /** One handle less. Returns the backing file that has none left, or null. */
  unbacked(node: NodeId): number | null {
    const words = this.#words;
    this.#slots.lock();
    const slot = this.#slots.find(node);
    const at = this.#slots.at(slot);
    const handles = slot === 0 ? 0 : (words[at + BACKED_HANDLES] ?? 0);
    if (handles > 0) words[at + BACKED_HANDLES] = handles - 1;
    // Read under the lock: the next open of another thread puts its own there.
    const id = handles === 1 ? (words[at + BACKING] ?? NO_BACKING) : NO_BACKING;
    this.#slots.unlock();
    return id === NO_BACKING ? null : id;
  }

  #refer(at: number): void {
    const words = this.#words;
    words[at + IS_USED] = 1;
    const low = ((words[at + LOOKUPS_LOW] ?? 0) + 1) | 0;
    words[at + LOOKUPS_LOW] = low;
    if (low === 0) words[at + LOOKUPS_HIGH] = (words[at + LOOKUPS_HIGH] ?? 0) + 1;
  }

  /** Whether a new node may be added; asked before a descriptor is spent on it. */
  requireRoom(): void {
    if (this.count >= this.#limits.nodes) throw failure("ENFILE");
    this.#requirePin();
  }

  /** Whether one may be added, and pinned, without another one's pin being taken away. */
  get hasRoom(): boolean {
    return this.count < this.#limits.nodes && this.pins < this.#limits.pins;
  }

  /** The same for an inode that may be known, but not pinned. */
  requireRoomFor(identity: Identity): void {
    this.#slots.lock();
    const isKnown = this.#find(identity) !== 0;
    this.#slots.unlock();
    if (isKnown) this.#requirePin();
    else this.requireRoom();
  }

  #requirePin(): void {
    while (this.pins >= this.#limits.pins) {
      this.#slots.lock();
      const fd = this.#unpinOldest();
      this.#slots.unlock();
      if (fd === NO_FD) throw failure("ENFILE");
      files.close(fd);
    }
  }

  /** The inode behind `fd`, known or new, with one more reference. Takes `fd` over. */
  adopt(identity: Identity, fd: number): { readonly node: NodeId } {
    const slots = this.#slots;
    const words = this.#words;
    for (;;) {
      slots.lock();
      const slot = this.#find(identity);
      const at = slots.at(slot);
      if (slot === 0) return this.#added(identity, fd);
      if (words[at + FD] !== NO_FD) {
        this.#refer(at);
        const node = slots.idOf(slot) as NodeId;
        slots.unlock();
        files.close(fd);
        return { node };
      }
      slots.unlock();
      const named = files.handleOf(fd);
      slots.lock();
      if (this.#find(identity) === slot && words[at + FD] === NO_FD) {
        // The number is another file's now; what has it from before is ESTALE.
        if (typeof named === "number" || !this.#hasHandle(at, named.handle)) {
          return this.#added(identity, fd);
        }
        this.#pin(slot, fd);
        this.#refer(at);
        const node = slots.idOf(slot) as NodeId;
        slots.unlock();
        return { node };
      }
      slots.unlock();
    }
  }

  /** Adds and unlocks. */
  #added(identity: Identity, fd: number): { readonly node: NodeId } {
    const node = this.#add(identity, fd);
    this.#slots.unlock();
    if (node !== null) return { node };
    files.close(fd);
    throw failure("ENFILE");
  }

  #add(identity: Identity, fd: number): NodeId | null {
    const words = this.#words;
    const slot = this.#slots.take();
    if (slot === 0) return null;
    const at = this.#slots.at(slot);
    words[at + FD] = NO_FD;
    words[at + TYPE] = identity.fileType;
    words[at + DEVICE] = identity.device;
    words[at + INO_LOW] = Number(identity.ino & 0xffff_ffffn);
    words[at + INO_HIGH] = Number(identity.ino >> 32n);
    words[at + LOOKUPS_LOW] = 1;
    words[at + LOOKUPS_HIGH] = 0;
    words[at + IS_USED] = 0;
    words[at + HANDLE_BYTES] = 0;
    words[at + BACKED_HANDLES] = 0;
    words[at + ADDED_AS] = Atomics.add(words, this.#at + ADDED, 1) + 1;
    if (slot === ROOT_SLOT) words[at + FD] = fd;
    else this.#pin(slot, fd);
    this.#chain(slot);
    return this.#slots.show(slot) as NodeId;
  }

  // Buckets and their chains: under the lock.

  #bucketOf(device: number, low: number, high: number): number {
    const mixed = Math.imul(low ^ Math.imul(high, 0x9e3779b1) ^ Math.imul(device, 0x85ebca6b), 0x9e3779b1);
    return this.#bucketsAt + ((mixed ^ (mixed >>> 15)) & this.#bucketMask);
  }

  #find({ device, ino }: Identity): number {
    const words = this.#words;
    const number = Number(ino);
    const isExact = number <= Number.MAX_SAFE_INTEGER;
    const low = isExact ? number | 0 : Number(ino & 0xffff_ffffn) | 0;
    const high = isExact ? (number / TWO_32) | 0 : Number(ino >> 32n) | 0;
    let slot = words[this.#bucketOf(device | 0, low, high)] ?? 0;
    while (slot !== 0) {
      const at = this.#slots.at(slot);
      if (
        words[at + INO_LOW] === low &&
        words[at + INO_HIGH] === high &&
        words[at + DEVICE] === (device | 0)
      ) {
        return slot;
      }
      slot = words[at + CHAIN] ?? 0;
    }
    return 0;
  }

  #bucketOfSlot(at: number): number {
    const words = this.#words;
    return this.#bucketOf(words[at + DEVICE] ?? 0, words[at + INO_LOW] ?? 0, words[at + INO_HIGH] ?? 0);
  }

  /** One that has the same number from before is found no more. */
  #chain(slot: number): void {
    const words = this.#words;
    const at = this.#slots.at(slot);
    const bucket = this.#bucketOfSlot(at);
    for (let other = words[bucket] ?? 0; other !== 0; ) {
      const otherAt = this.#slots.at(other);
      const next = words[otherAt + CHAIN] ?? 0;
      const isSame = [DEVICE, INO_LOW, INO_HIGH].every((word) => words[otherAt + word] === words[at + word]);
      if (isSame) this.#unchain(other);
      other = next;
    }
    words[at + CHAIN] = words[bucket] ?? 0;
    words[bucket] = slot;
  }

  #unchain(slot: number): void {
    const words = this.#words;
    const at = this.#slots.at(slot);
    if (words[at + CHAIN] === NOT_CHAINED) return;
    let link = this.#bucketOfSlot(at);
    while (words[link] !== slot) link = this.#slots.at(words[link] ?? 0) + CHAIN;
    words[link] = words[at + CHAIN] ?? 0;
    words[at + CHAIN] = NOT_CHAINED;
  }

  // Pins: under the lock.

  #pin(slot: number, fd: number): void {
    Atomics.store(this.#words, this.#slots.at(slot) + FD, fd);
    Atomics.add(this.#words, this.#at + PINS, 1);
    if (this.#fileHandles !== null) this.#enlist(slot);
  }

  /** At the newest end. */
  #enlist(slot: number): void {
    const words = this.#words;
    const at = this.#slots.at(slot);
    const newest = words[this.#at + NEWEST] ?? 0;
    words[at + OLDER] = newest;
    words[at + NEWER] = 0;
    if (newest === 0) words[this.#at + OLDEST] = slot;
    else words[this.#slots.at(newest) + NEWER] = slot;
    words[this.#at + NEWEST] = slot;
  }

  #delist(slot: number): void {
    const words = this.#words;
    const at = this.#slots.at(slot);
    const [older = 0, newer = 0] = [words[at + OLDER], words[at + NEWER]];
    if (older !== 0) words[this.#slots.at(older) + NEWER] = newer;
    else if (words[this.#at + OLDEST] === slot) words[this.#at + OLDEST] = newer;
    if (newer !== 0) words[this.#slots.at(newer) + OLDER] = older;
    else if (words[this.#at + NEWEST] === slot) words[this.#at + NEWEST] = older;
    words[at + OLDER] = 0;
    words[at + NEWER] = 0;
  }

  /** Takes away the descriptor that has not been used for longest. Returns it, or NO_FD: none can be taken. */
  #unpinOldest(): number {
    const words = this.#words;
    // Each at most twice: the first time may take its second chance away.
    for (let rest = 2 * this.pins; rest > 0; rest -= 1) {
      const oldest = words[this.#at + OLDEST] ?? 0;
      if (oldest === 0) return NO_FD;
      const at = this.#slots.at(oldest);
      this.#delist(oldest);
      if (words[at + IS_USED] !== 0) {
        words[at + IS_USED] = 0;
        this.#enlist(oldest);
        continue;
      }
      // One that has no handle of this mount keeps its pin for good.
      if (words[at + HANDLE_BYTES] === 0 && !this.#nameByHandle(at)) continue;
      const fd = this.#slots.takeDescriptor(oldest);
      if (fd !== NO_FD) {
        Atomics.sub(words, this.#at + PINS, 1);
        return fd;
      }
      // In use.
      this.#enlist(oldest);
    }
    return NO_FD;
  }

  #nameByHandle(at: number): boolean {
    const handle = this.#fileHandles?.of(this.#words[at + FD] ?? NO_FD) ?? null;
    if (handle === null || handle.length > 4 * HANDLE_WORDS) return false;
    this.#bytes.set(handle, 4 * (at + HANDLE));
    this.#words[at + HANDLE_BYTES] = handle.length;
    return true;
  }

  /** A copy: a system call takes no shared memory of ours that changes under it. */
  #handleAt(at: number): Uint8Array {
    return this.#bytes.slice(4 * (at + HANDLE), 4 * (at + HANDLE) + (this.#words[at + HANDLE_BYTES] ?? 0));
  }

  #hasHandle(at: number, handle: Uint8Array): boolean {
    return Buffer.compare(this.#handleAt(at), handle) === 0;
  }

  /** Pins the slot in hand again. Without the lock: reading an inode may wait for a disk. */
  #reopen(slot: number): number {
    const at = this.#slots.at(slot);
    if (this.#fileHandles === null || this.#words[at + HANDLE_BYTES] === 0) throw failure("ESTALE");
    this.#requirePin();
    const fd = succeeded(this.#fileHandles.open(this.#handleAt(at)));
    this.#slots.lock();
    const other = this.#words[at + FD] ?? NO_FD;
    const isOurs = other === NO_FD && this.#slots.isLive(slot);
    if (isOurs) this.#pin(slot, fd);
    this.#slots.unlock();
    if (isOurs) return fd;
    files.close(fd);
    if (other === NO_FD) throw failure("ESTALE");
    return other;
  }

  /**
   * Gives back references. More than there are counts as all of them: a client cannot drive the count below zero.
   * The root stays; an unknown node is ignored, since FORGET has no reply that could say so.
   */
  forget(node: NodeId, count: bigint): void {
    if (node === ROOT_NODE) return;
    // What this thread has in hand of it must not keep its descriptor open.
    this.#hand.empty();
    const words = this.#words;
    this.#slots.lock();
    const slot = this.#slots.find(node);
    const at = this.#slots.at(slot);
    if (slot !== 0) {
      const held = ((words[at + LOOKUPS_HIGH] ?? 0) >>> 0) * TWO_32 + ((words[at + LOOKUPS_LOW] ?? 0) >>> 0);
      const left = held - Number(count);
      if (left > 0) {
        words[at + LOOKUPS_LOW] = left | 0;
        words[at + LOOKUPS_HIGH] = (left / TWO_32) | 0;
        this.#slots.unlock();
        return;
      }
      this.#unchain(slot);
      if (words[at + FD] !== NO_FD) {
        this.#delist(slot);
        Atomics.sub(words, this.#at + PINS, 1);
      }
      this.#slots.doom(slot);
    }
    this.#slots.unlock();
    if (slot !== 0) this.#slots.settle(slot);
  }

  forgetAll(): void {
    for (let slot = ROOT_SLOT + 1; slot <= this.#slots.highest; slot += 1) {
      if (this.#slots.isLive(slot)) this.forget(this.#slots.idOf(slot) as NodeId, BigInt(2 ** 62));
    }
  }

  /** No other thread may use the table any more. */
  close(): void {
    this.forgetAll();
    const at = this.#slots.at(ROOT_SLOT);
    const root = this.#words[at + FD] ?? NO_FD;
    if (root === NO_FD) return;
    files.close(root);
    this.#words[at + FD] = NO_FD;
    this.#slots.lock();
    this.#slots.doom(ROOT_SLOT);
    this.#slots.unlock();
    this.#fileHandles?.close();
  }
}
