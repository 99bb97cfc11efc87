/**
 * Maps the one file of a guarded window by the descriptor that its guard has armed: a kernel lease is bound to that
 * descriptor, a sealed copy exists behind it only.
 */
import { DecoratedFileSystem } from "../fs/decorator.ts";
import type { FileSystem, MappableFile } from "../fs/filesystem.ts";

export class ArmedFileSystem extends DecoratedFileSystem {
  readonly #fd: number;

  /** @param fd of the only file that is mapped through this file system */
  constructor(inner: FileSystem, fd: number) {
    super(inner);
    this.#fd = fd;
  }

  override openForMapping(): MappableFile {
    return { fd: this.#fd, close: () => undefined };
  }
}
