/**
 * Keeps the DAX window as long as what the guest knows of a file: QEMU maps no more than a file has, and the guest, which maps
 * 2 MiB at once, does not ask again when the file grows. So before it learns of a larger size the rest is mapped.
 */
import { DecoratedFileSystem } from "../../fs/decorator.ts";
import type {
  AttributeChange,
  Attributes,
  CopyEnd,
  Entry,
  FileHandle,
  FileSystem,
  NodeId,
  WriteHow,
} from "../../fs/filesystem.ts";
import type { ComponentName } from "../../fs/names.ts";

export interface Growth {
  mayHaveGrown(node: NodeId): void;
}

export class GrowthFileSystem extends DecoratedFileSystem {
  readonly #growth: Growth;

  constructor(inner: FileSystem, growth: Growth) {
    super(inner);
    this.#growth = growth;
  }

  override lookup(parent: NodeId, name: ComponentName): Entry {
    const entry = super.lookup(parent, name);
    this.#growth.mayHaveGrown(entry.node);
    return entry;
  }

  override getattr(node: NodeId): Attributes {
    const attributes = super.getattr(node);
    this.#growth.mayHaveGrown(node);
    return attributes;
  }

  override setattr(node: NodeId, change: AttributeChange, handle: FileHandle | null): Attributes {
    const attributes = super.setattr(node, change, handle);
    this.#growth.mayHaveGrown(node);
    return attributes;
  }

  override write(handle: FileHandle, offset: bigint, data: Uint8Array, how?: WriteHow): number {
    const written = super.write(handle, offset, data, how);
    this.#written(handle);
    return written;
  }

  override fallocate(handle: FileHandle, mode: number, offset: bigint, lengthBytes: bigint): void {
    super.fallocate(handle, mode, offset, lengthBytes);
    this.#written(handle);
  }

  override copyFileRange(from: CopyEnd, to: CopyEnd, lengthBytes: bigint): number {
    const copied = super.copyFileRange(from, to, lengthBytes);
    this.#written(to.handle);
    return copied;
  }

  /** No write may pass it. */
  override descriptorOf(): null {
    return null;
  }

  #written(handle: FileHandle): void {
    const node = this.inner.openedBy(handle)?.node;
    if (node !== undefined) this.#growth.mayHaveGrown(node);
  }
}
