/**
 * The inode table: which nodes the client knows, most of them pinned by an O_PATH descriptor.
 *
 * Keyed by (device, inode number). A pin makes that key safe: an inode with an open descriptor is not freed, so its
 * number cannot come back as another file while the entry lives. Node ids count up and are never used again, hence
 * generation 0 everywhere and no stale id that suddenly means another file.
 *
 * Pins are bounded. Where the source's file system has file handles (file-handles.ts), the pin that has not been used for
 * longest makes room: its inode is then named by its handle, which has the inode's generation in it. It is pinned again by
 * open_by_handle_at(2), or by a look-up that finds the same handle under (device, inode number). A handle of an inode that
 * has been freed meanwhile is ESTALE. Without handles every node keeps its pin, and what is beyond the bound is ENFILE.
 */
import { files } from "../../../sys/src/index.ts";
import { failure, succeeded } from "../fs/errors.ts";
import { type NodeId, ROOT_NODE } from "../fs/filesystem.ts";
import type { Identity } from "./attributes.ts";
import type { FileHandles } from "./file-handles.ts";

const UNPINNED = -1;

export type Inode = Identity & {
  readonly node: NodeId;
  /** O_PATH: names the inode, gives no access to its content. UNPINNED: `handle` names it. The table's own. */
  fd: number;
  /** struct file_handle of an inode that was unpinned; null: never yet. The table's own. */
  handle: Uint8Array | null;
  /** References that the client holds. The table's own. */
  lookups: number;
  /** Used since the search for the oldest pin came by. The table's own. */
  isUsed: boolean;
};

export type InodeLimits = {
  /** Most nodes known at once, without the root. */
  readonly nodes: number;
  /** Most of them with a descriptor. More than the two that an operation has in hand. */
  readonly pins: number;
};

const isSame = (one: Uint8Array | null, other: Uint8Array): boolean =>
  one !== null && Buffer.compare(one, other) === 0;

export class InodeTable {
  readonly #byNode = new Map<NodeId, Inode>();
  readonly #byDevice = new Map<number, Map<bigint, Inode>>();
  /** Those that can be unpinned, the oldest first; a second chance puts one at the end. */
  readonly #pinned = new Set<Inode>();
  readonly #limits: InodeLimits;
  readonly #fileHandles: FileHandles | null;
  #pins = 0;
  #lastNode: bigint = ROOT_NODE;
  /** What the operation under way has in hand: `get` of a second node must not unpin the first. */
  #inHand: Inode | null = null;
  #inHandBefore: Inode | null = null;

  /**
   * @param root `fd` of the source directory; its node is ROOT_NODE, and stays pinned
   * @param fileHandles null: every node stays pinned
   */
  constructor(
    root: Identity & { readonly fd: number },
    limits: InodeLimits,
    fileHandles: FileHandles | null,
  ) {
    this.#limits = limits;
    this.#fileHandles = fileHandles;
    this.#insert({ ...root, node: ROOT_NODE, handle: null, lookups: 1, isUsed: true });
  }

  /** Nodes known, without the root. */
  get count(): number {
    return this.#byNode.size - 1;
  }

  /** Descriptors held, without the root's. */
  get pins(): number {
    return this.#pins;
  }

  /** Pinned, until two more have been asked for. */
  get(node: NodeId): Inode {
    const inode = this.#byNode.get(node);
    if (inode === undefined) throw failure("ESTALE");
    this.#inHandBefore = this.#inHand;
    this.#inHand = inode;
    inode.isUsed = true;
    if (inode.fd === UNPINNED) this.#reopen(inode);
    return inode;
  }

  /** The pinned inode that this is for certain; undefined: it is not known, or not pinned and has to be compared. */
  find(identity: Identity): Inode | undefined {
    const inode = this.#at(identity);
    if (inode === undefined || inode.fd === UNPINNED) return undefined;
    inode.isUsed = true;
    return inode;
  }

  #at(identity: Identity): Inode | undefined {
    return this.#byDevice.get(identity.device)?.get(identity.ino);
  }

  /** Whether a new node may be added; asked before a descriptor is spent on it. */
  requireRoom(): void {
    if (this.count >= this.#limits.nodes) throw failure("ENFILE");
    this.#requirePin();
  }

  /** The same for an inode that may be known, but not pinned. */
  requireRoomFor(identity: Identity): void {
    if (this.#at(identity) === undefined) this.requireRoom();
    else this.#requirePin();
  }

  #requirePin(): void {
    if (this.#pins >= this.#limits.pins && !this.#unpinOldest()) throw failure("ENFILE");
  }

  /** The inode behind `fd`, known or new, with one more reference. Takes `fd` over. */
  adopt(identity: Identity, fd: number): Inode {
    const known = this.#at(identity);
    if (known === undefined) return this.#add(identity, fd);
    if (known.fd !== UNPINNED) {
      files.close(fd);
    } else {
      const named = files.handleOf(fd);
      // The number is another file's now; what has it from before is ESTALE.
      if (typeof named === "number" || !isSame(known.handle, named.handle)) return this.#add(identity, fd);
      this.#pin(known, fd);
    }
    known.isUsed = true;
    known.lookups += 1;
    return known;
  }

  #add(identity: Identity, fd: number): Inode {
    this.#lastNode += 1n;
    const inode: Inode = {
      ...identity,
      node: this.#lastNode as NodeId,
      fd: UNPINNED,
      handle: null,
      lookups: 1,
      isUsed: false,
    };
    this.#pin(inode, fd);
    this.#insert(inode);
    return inode;
  }

  #insert(inode: Inode): void {
    this.#byNode.set(inode.node, inode);
    const device = this.#byDevice.get(inode.device) ?? new Map<bigint, Inode>();
    device.set(inode.ino, inode);
    this.#byDevice.set(inode.device, device);
  }

  #pin(inode: Inode, fd: number): void {
    inode.fd = fd;
    this.#pins += 1;
    if (this.#fileHandles !== null) this.#pinned.add(inode);
  }

  #reopen(inode: Inode): void {
    if (this.#fileHandles === null || inode.handle === null) throw failure("ESTALE");
    this.#requirePin();
    this.#pin(inode, succeeded(this.#fileHandles.open(inode.handle)));
  }

  /** Closes the descriptor that has not been used for longest. False: none can be closed. */
  #unpinOldest(): boolean {
    // Each at most twice: the first time may take its second chance away.
    for (let rest = 2 * this.#pinned.size; rest > 0; rest -= 1) {
      const [oldest] = this.#pinned;
      if (oldest === undefined) return false;
      this.#pinned.delete(oldest);
      if (oldest.isUsed || oldest === this.#inHand || oldest === this.#inHandBefore) {
        oldest.isUsed = false;
        this.#pinned.add(oldest);
        continue;
      }
      // One that has no handle of this mount keeps its pin for good.
      oldest.handle ??= this.#fileHandles?.of(oldest.fd) ?? null;
      if (oldest.handle === null) continue;
      this.#close(oldest);
      return true;
    }
    return false;
  }

  #close(inode: Inode): void {
    if (inode.fd === UNPINNED) return;
    files.close(inode.fd);
    inode.fd = UNPINNED;
    this.#pinned.delete(inode);
    this.#pins -= 1;
  }

  /**
   * Gives back references. More than there are counts as all of them: a client cannot drive the count below zero.
   * The root stays; an unknown node is ignored, since FORGET has no reply that could say so.
   */
  forget(node: NodeId, count: bigint): void {
    if (node === ROOT_NODE) return;
    const inode = this.#byNode.get(node);
    if (inode === undefined) return;
    if (count < BigInt(inode.lookups)) {
      inode.lookups -= Number(count);
      return;
    }
    this.#byNode.delete(node);
    this.#forgetNumber(inode);
    this.#close(inode);
  }

  /** Unless the number has become another node's. */
  #forgetNumber(inode: Inode): void {
    const device = this.#byDevice.get(inode.device);
    if (device?.get(inode.ino) !== inode) return;
    device.delete(inode.ino);
    if (device.size === 0) this.#byDevice.delete(inode.device);
  }

  forgetAll(): void {
    for (const inode of [...this.#byNode.values()]) this.forget(inode.node, BigInt(inode.lookups));
  }

  close(): void {
    for (const inode of this.#byNode.values()) this.#close(inode);
    this.#byNode.clear();
    this.#byDevice.clear();
    this.#pinned.clear();
    this.#pins = 0;
    this.#fileHandles?.close();
  }
}
