/** A file system one of whose files is armed: it is mapped by the armed descriptor, which a kernel lease is bound to. */
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
