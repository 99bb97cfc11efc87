/** Open files and directories. Handle numbers count up and are never used again; a stale one is EBADF. */
import { files } from "../../../sys/src/index.ts";
import { failure } from "../fs/errors.ts";
import type { FileHandle } from "../fs/filesystem.ts";
import type { DirectoryReader } from "./directory.ts";

export type OpenFile = { readonly kind: "file"; readonly fd: number };
export type OpenDirectory = {
  readonly kind: "directory";
  readonly fd: number;
  readonly reader: DirectoryReader;
};
type Open = OpenFile | OpenDirectory;

export class HandleTable {
  readonly #open = new Map<FileHandle, Open>();
  readonly #limit: number;
  #last = 0n;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get count(): number {
    return this.#open.size;
  }

  /** Whether one more may be opened; asked before a descriptor is spent on it. */
  requireRoom(): void {
    if (this.#open.size >= this.#limit) throw failure("ENFILE");
  }

  /** Takes over the descriptor. */
  add(open: Open): FileHandle {
    this.#last += 1n;
    const handle = this.#last as FileHandle;
    this.#open.set(handle, open);
    return handle;
  }

  file(handle: FileHandle): OpenFile {
    const open = this.#open.get(handle);
    if (open?.kind !== "file") throw failure("EBADF");
    return open;
  }

  directory(handle: FileHandle): OpenDirectory {
    const open = this.#open.get(handle);
    if (open?.kind !== "directory") throw failure("EBADF");
    return open;
  }

  release(handle: FileHandle, kind: Open["kind"]): void {
    const open = this.#open.get(handle);
    if (open?.kind !== kind) throw failure("EBADF");
    this.#open.delete(handle);
    files.close(open.fd);
  }

  close(): void {
    for (const open of this.#open.values()) files.close(open.fd);
    this.#open.clear();
  }
}
