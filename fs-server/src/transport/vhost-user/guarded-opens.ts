/**
 * Opens files of the guest by the description that their guard has: a kernel lease is given for the only one of a file, and
 * another one breaks it, the server's own for its guest included.
 */
import { files } from "../../../../sys/src/index.ts";
import { DecoratedFileSystem } from "../../fs/decorator.ts";
import { type FileHandle, type FileSystem, NO_CHANGE, type NodeId } from "../../fs/filesystem.ts";
import type { PassthroughFileSystem } from "../../passthrough/passthrough.ts";

export interface GuardedDescriptors {
  /** Lent. */
  guardedDescriptor(node: NodeId): number;
}

export class GuardedOpensFileSystem extends DecoratedFileSystem {
  readonly #source: PassthroughFileSystem;
  readonly #descriptors: GuardedDescriptors;

  constructor(source: PassthroughFileSystem, descriptors: GuardedDescriptors) {
    super(source);
    this.#source = source;
    this.#descriptors = descriptors;
  }

  override open(node: NodeId, flags: number): FileHandle {
    if ((flags & files.O_TRUNC) !== 0) super.setattr(node, { ...NO_CHANGE, sizeBytes: 0n }, null);
    return this.#source.openDescriptor(this.#descriptors.guardedDescriptor(node), node);
  }

  override create(...args: Parameters<FileSystem["create"]>): ReturnType<FileSystem["create"]> {
    const { entry, handle } = super.create(...args);
    super.release(handle);
    return { entry, handle: this.open(entry.node, 0) };
  }
}
