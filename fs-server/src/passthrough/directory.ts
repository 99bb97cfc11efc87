/**
 * Reading a directory with getdents64(2), resumable at any offset the kernel gave out.
 *
 * Offsets are the underlying file system's own cookies, which stay valid while entries come and go: what makes
 * readdir stable under change. A reader holds one buffer; it seeks only when the client does not simply go on.
 */
import { files } from "../../../sys/src/index.ts";
import { failure, succeeded } from "../fs/errors.ts";
import type { DirectoryEntry } from "../fs/filesystem.ts";

const BUFFER_BYTES = 32 * 1024;
/** struct linux_dirent64: u64 ino, s64 off, u16 reclen, u8 type, name. */
const NAME_OFFSET = 19;

export class DirectoryReader {
  readonly #fd: number;
  readonly #bytes: Uint8Array = new Uint8Array(BUFFER_BYTES);
  readonly #view: DataView = new DataView(this.#bytes.buffer);
  /** Unread part of the buffer. */
  #start = 0;
  #end = 0;
  /** Cookie of the entry at `#start`. */
  #offset = 0n;

  constructor(fd: number) {
    this.#fd = fd;
  }

  read(offset: bigint, emit: (entry: DirectoryEntry) => boolean): void {
    if (offset !== this.#offset) this.#seek(offset);
    for (;;) {
      if (this.#start === this.#end) {
        this.#start = 0;
        this.#end = 0;
        this.#end = succeeded(files.getdents(this.#fd, this.#bytes));
        if (this.#end === 0) return;
      }
      const entry = this.#entry();
      if (!emit(entry)) return;
      this.#start += this.#view.getUint16(this.#start + 16, true);
      this.#offset = entry.nextOffset;
    }
  }

  #seek(offset: bigint): void {
    // A cookie is a signed 64-bit number; a client may send anything.
    const result = files.lseek(this.#fd, BigInt.asIntN(64, offset), files.SEEK_SET);
    if (result < 0n) throw failure(Number(-result));
    this.#start = 0;
    this.#end = 0;
    this.#offset = offset;
  }

  #entry(): DirectoryEntry {
    const start = this.#start;
    const nameStart = start + NAME_OFFSET;
    const nameEnd = this.#bytes.indexOf(0, nameStart) + 1;
    return {
      ino: this.#view.getBigUint64(start, true),
      nextOffset: this.#view.getBigUint64(start + 8, true),
      type: this.#view.getUint8(start + 18),
      name: this.#bytes.subarray(nameStart, nameEnd),
    };
  }
}
