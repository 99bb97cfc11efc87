/**
 * Opens and maps the one file of a guarded window by the descriptor that its guard has armed: a kernel lease is bound to
 * that description, and any other one breaks it, the server's own for a client included; a sealed copy exists behind it only.
 */
import { DecoratedFileSystem } from "../fs/decorator.ts";
import type { FileHandle, FileSystem, MappableFile, NodeId } from "../fs/filesystem.ts";

/** A file system that hands a descriptor out as an open file. */
export type DescriptorFileSystem = FileSystem & { openDescriptor(fd: number): FileHandle };

export class ArmedFileSystem extends DecoratedFileSystem {
  readonly #source: DescriptorFileSystem;
  readonly #fd: number;

  /** @param fd of the only file that is opened and mapped through this file system */
  constructor(inner: DescriptorFileSystem, fd: number) {
    super(inner);
    this.#source = inner;
    this.#fd = fd;
  }

  override open(_node: NodeId, _flags: number): FileHandle {
    return this.#source.openDescriptor(this.#fd);
  }

  override openForMapping(): MappableFile {
    return { fd: this.#fd, close: () => undefined };
  }
}
