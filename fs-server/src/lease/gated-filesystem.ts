/**
 * A file system that asks a gate before it truncates: a new size, open with O_TRUNC, and fallocate modes that remove or move
 * content. While the gate is closed the call is postponed, and the server serves other requests.
 */
import { files } from "../../../sys/src/index.ts";
import { DecoratedFileSystem } from "../fs/decorator.ts";
import { failure } from "../fs/errors.ts";
import {
  type AttributeChange,
  type Attributes,
  type CopyEnd,
  type FileHandle,
  type FileSystem,
  NO_CHANGE,
  type NodeId,
  type WriteHow,
} from "../fs/filesystem.ts";
import { Postponed } from "../fs/postponed.ts";
import type { FileIdentity, GateTicket, TruncationGate } from "./truncation-gate.ts";

/** Delay before a postponed call is tried again. */
const LOOK_MS = 1;
const FALLOC_FL_PUNCH_HOLE = 0x02;
const FALLOC_FL_COLLAPSE_RANGE = 0x08;
const FALLOC_FL_ZERO_RANGE = 0x10;
const FALLOC_FL_INSERT_RANGE = 0x20;
const LOSING =
  FALLOC_FL_PUNCH_HOLE | FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_ZERO_RANGE | FALLOC_FL_INSERT_RANGE;

/** A ticket, and the postponed calls that wait for it. */
type Asked = { readonly ticket: GateTicket; waiting: number };

export class GatedFileSystem extends DecoratedFileSystem {
  readonly #gate: TruncationGate;
  /** Open tickets, by inode and offset: a postponed call finds its own when it is tried again. */
  readonly #asked = new Map<string, Asked>();

  constructor(inner: FileSystem, gate: TruncationGate) {
    super(inner);
    this.#gate = gate;
  }

  override setattr(node: NodeId, change: AttributeChange, handle: FileHandle | null): Attributes {
    const { sizeBytes } = change;
    if (sizeBytes === null) return super.setattr(node, change, handle);
    return this.#losing(node, sizeBytes, () => super.setattr(node, change, handle));
  }

  override write(handle: FileHandle, offset: bigint, data: Uint8Array, how?: WriteHow): number {
    const open = this.inner.openedBy(handle);
    const work = () => super.write(handle, offset, data, how);
    if (open === null) return work();
    if (this.#gate.isHeld(open.file)) return this.#growing(open.node, work);
    const written = work();
    // A lease that was granted meanwhile: its holder may have read the size before this write.
    if (this.#gate.isHeld(open.file)) this.#gate.grown(open.file, this.inner.getattr(open.node).sizeBytes);
    return written;
  }

  override copyFileRange(from: CopyEnd, to: CopyEnd, lengthBytes: bigint): number {
    const node = this.inner.openedBy(to.handle)?.node;
    const work = () => super.copyFileRange(from, to, lengthBytes);
    return node === undefined ? work() : this.#growing(node, work);
  }

  override open(node: NodeId, flags: number): FileHandle {
    const open = () => super.open(node, flags);
    return (flags & files.O_TRUNC) === 0 ? open() : this.#losing(node, 0n, open);
  }

  override create(...args: Parameters<FileSystem["create"]>): ReturnType<DecoratedFileSystem["create"]> {
    const [place, flags, what] = args;
    // An existing file is opened first and truncated behind the gate: its node is not known before.
    const made = super.create(place, flags & ~files.O_TRUNC, what);
    if ((flags & files.O_TRUNC) === 0 || made.entry.attributes.sizeBytes === 0n) return made;
    try {
      const change = { ...NO_CHANGE, sizeBytes: 0n };
      this.#losing(made.entry.node, 0n, () => super.setattr(made.entry.node, change, made.handle));
      return made;
    } catch (error) {
      // A postponed call starts again from the beginning.
      this.release(made.handle);
      super.forget(made.entry.node, 1n);
      throw error;
    }
  }

  override fallocate(handle: FileHandle, mode: number, offset: bigint, lengthBytes: bigint): void {
    const node = this.inner.openedBy(handle)?.node;
    const work = () => super.fallocate(handle, mode, offset, lengthBytes);
    if (node === undefined) work();
    else if ((mode & LOSING) === 0) this.#growing(node, work);
    else this.#losing(node, offset, work);
  }

  /** The kernel's pass-through would bypass the gate. */
  override descriptorOf(): null {
    return null;
  }

  /** As who holds leases sees it: not by the number that the client is shown (inode-numbers.ts). */
  #fileOf(node: NodeId): FileIdentity {
    const file = this.inner.hostFileOf(node);
    if (file === null) throw failure("ESTALE");
    return file;
  }

  #growing<T>(node: NodeId, work: () => T): T {
    const before = this.inner.getattr(node).sizeBytes;
    const result = work();
    const { sizeBytes } = this.inner.getattr(node);
    if (sizeBytes > before) this.#gate.grown(this.#fileOf(node), sizeBytes);
    return result;
  }

  #losing<T>(node: NodeId, fromBytes: bigint, work: () => T): T {
    const { sizeBytes } = this.inner.getattr(node);
    if (fromBytes >= sizeBytes) return this.#growing(node, work);
    const file = this.#fileOf(node);
    const key = `${file.device}/${file.ino}/${fromBytes}`;
    const ticket = this.#asked.get(key)?.ticket ?? this.#gate.ask(file, fromBytes);
    if (!this.#gate.isOpen(ticket)) {
      const asked = this.#asked.get(key) ?? { ticket, waiting: 0 };
      this.#asked.set(key, asked);
      asked.waiting += 1;
      throw new Postponed(
        LOOK_MS,
        () => undefined,
        () => this.#over(key, asked, { node, sizeBytes }),
      );
    }
    this.#asked.delete(key);
    try {
      return work();
    } finally {
      this.#gate.done(ticket, this.inner.getattr(node).sizeBytes);
    }
  }

  /** A postponed call was tried again, or will not be: where none waits for the ticket any more, it ends. */
  #over(
    key: string,
    asked: Asked,
    { node, sizeBytes }: { readonly node: NodeId; readonly sizeBytes: bigint },
  ): void {
    asked.waiting -= 1;
    if (asked.waiting > 0 || this.#asked.get(key) !== asked) return;
    this.#asked.delete(key);
    let size = sizeBytes;
    try {
      size = this.inner.getattr(node).sizeBytes;
    } catch {
      // The node is not known any more: nothing is said of the file but that this truncation did not happen.
    }
    this.#gate.done(asked.ticket, size);
  }
}
