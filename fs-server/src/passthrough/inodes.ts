/**
 * The inode table: which nodes the client knows, each pinned by an O_PATH descriptor.
 *
 * Keyed by (device, inode number). The pin makes that key safe: an inode with an open descriptor is not freed, so its
 * number cannot come back as another file while the entry lives. Node ids count up and are never used again, hence
 * generation 0 everywhere and no stale id that suddenly means another file.
 */
import { files } from "../../../sys/src/index.ts";
import { failure } from "../fs/errors.ts";
import { type NodeId, ROOT_NODE } from "../fs/filesystem.ts";
import type { Identity } from "./attributes.ts";

export type Inode = Identity & {
  readonly node: NodeId;
  /** O_PATH: names the inode, gives no access to its content. */
  readonly fd: number;
  /** References that the client holds. Mutable: the table's own. */
  lookups: number;
};

export class InodeTable {
  readonly #byNode = new Map<NodeId, Inode>();
  readonly #byDevice = new Map<number, Map<bigint, Inode>>();
  readonly #limit: number;
  #lastNode: bigint = ROOT_NODE;

  /** @param root `fd` of the source directory; its node is ROOT_NODE. */
  constructor(root: Identity & { readonly fd: number }, limit: number) {
    this.#limit = limit;
    this.#insert({ ...root, node: ROOT_NODE, lookups: 1 });
  }

  /** Nodes known, without the root. */
  get count(): number {
    return this.#byNode.size - 1;
  }

  get(node: NodeId): Inode {
    const inode = this.#byNode.get(node);
    if (inode === undefined) throw failure("ESTALE");
    return inode;
  }

  find(identity: Identity): Inode | undefined {
    return this.#byDevice.get(identity.device)?.get(identity.ino);
  }

  /** Whether a new node may be added; asked before a descriptor is spent on it. */
  requireRoom(): void {
    if (this.count >= this.#limit) throw failure("ENFILE");
  }

  /** Takes over `fd`. The new node has one reference. */
  add(identity: Identity, fd: number): Inode {
    this.#lastNode += 1n;
    const inode = { ...identity, node: this.#lastNode as NodeId, fd, lookups: 1 };
    this.#insert(inode);
    return inode;
  }

  #insert(inode: Inode): void {
    this.#byNode.set(inode.node, inode);
    const device = this.#byDevice.get(inode.device) ?? new Map<bigint, Inode>();
    device.set(inode.ino, inode);
    this.#byDevice.set(inode.device, device);
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
    const device = this.#byDevice.get(inode.device);
    device?.delete(inode.ino);
    if (device?.size === 0) this.#byDevice.delete(inode.device);
    files.close(inode.fd);
  }

  forgetAll(): void {
    for (const inode of [...this.#byNode.values()]) this.forget(inode.node, BigInt(inode.lookups));
  }

  close(): void {
    for (const inode of this.#byNode.values()) files.close(inode.fd);
    this.#byNode.clear();
    this.#byDevice.clear();
  }
}
