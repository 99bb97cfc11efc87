/**
 * Reading a directory with getdents64(2), resumable at any offset the kernel gave out.
 *
 * Offsets are the underlying file system's own cookies, which stay valid while entries come and go: what makes
 * readdir stable under change. A reader holds one buffer; it seeks only when the client does not simply go on.
 */
import { files } from "../../../sys/src/index.ts";
import { failure, succeeded } from "../fs/errors.ts";
import { DirectoryEntry } from "../fs/filesystem.ts";

const BUFFER_BYTES = 32 * 1024;

export class DirectoryReader {
  readonly #fd: number;
  readonly #bytes: Uint8Array = new Uint8Array(BUFFER_BYTES);
  /** The next unread record. */
  readonly #entry: DirectoryEntry = new DirectoryEntry(this.#bytes);
  /** End of the records in the buffer. */
  #end = 0;
  /** Start of the last record read from the buffer, or null; then the cookie at which the buffer starts counts. */
  #lastRead: number | null = null;
  #bufferOffset = 0n;

  constructor(fd: number) {
    this.#fd = fd;
  }

  read(offset: bigint, emit: (entry: DirectoryEntry) => boolean): void {
    if (offset !== this.#offset()) this.#seek(offset);
    const entry = this.#entry;
    for (;;) {
      if (entry.at === this.#end) {
        this.#restart(this.#offset());
        this.#end = succeeded(files.getdents(this.#fd, this.#bytes));
        if (this.#end === 0) return;
      }
      if (!emit(entry)) return;
      this.#lastRead = entry.at;
      entry.at += entry.recordBytes;
    }
  }

  /** Cookie of the next unread record. */
  #offset(): bigint {
    return this.#lastRead === null ? this.#bufferOffset : this.#entry.nextOffsetAt(this.#lastRead);
  }

  #seek(offset: bigint): void {
    // A cookie is a signed 64-bit number; a client may send anything.
    const result = files.lseek(this.#fd, BigInt.asIntN(64, offset), files.SEEK_SET);
    if (result < 0n) throw failure(Number(-result));
    this.#restart(offset);
  }

  #restart(offset: bigint): void {
    this.#bufferOffset = offset;
    this.#lastRead = null;
    this.#entry.at = 0;
    this.#end = 0;
  }
}
