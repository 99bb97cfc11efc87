/**
 * Reading a directory with getdents64(2), resumable at any offset the kernel gave out.
 *
 * Offsets are the underlying file system's own cookies, which stay valid while entries come and go: what makes
 * readdir stable under change. A reader holds one buffer; it seeks only when the client does not simply go on, or when
 * another thread has read from the same descriptor since.
 */
import { files } from "../../../sys/src/index.ts";
import { failure, succeeded } from "../fs/errors.ts";
import { DirectoryEntry } from "../fs/filesystem.ts";

const READER_BYTES = 32 * 1024;
/** Of one thread that waits for another one's READDIR of the same handle, which the client's kernel never sends. */
const LOOK_MS = 10;

/** Words shared by the threads that read from one descriptor. */
export type SharedPosition = {
  readonly words: Int32Array;
  /** Not 0: a thread reads. */
  readonly lock: number;
  /** The thread that has read last. */
  readonly owner: number;
  /** This thread, as a number that is not 0. */
  readonly self: number;
};

export class DirectoryReader {
  readonly #fd: number;
  readonly #position: SharedPosition;
  /** For records, as the kernel gives them. */
  readonly bytes: Uint8Array;
  /** The next unread record. */
  readonly #entry: DirectoryEntry;
  /** End of the records in the buffer. */
  #end = 0;
  /** Start of the last record read from the buffer, or null; then the cookie at which the buffer starts counts. */
  #lastRead: number | null = null;
  #bufferOffset = 0n;

  /** @param bytes nobody else's, as long as a reader has them */
  constructor(fd: number, position: SharedPosition, bytes: Uint8Array = new Uint8Array(READER_BYTES)) {
    this.#fd = fd;
    this.bytes = bytes;
    this.#entry = new DirectoryEntry(bytes);
    this.#position = position;
  }

  read(offset: bigint, emit: (entry: DirectoryEntry) => boolean): void {
    const { words, lock, owner, self } = this.#position;
    while (Atomics.compareExchange(words, lock, 0, 1) !== 0) Atomics.wait(words, lock, 1, LOOK_MS);
    try {
      const isOthers = Atomics.exchange(words, owner, self) !== self;
      if (isOthers || offset !== this.#offset()) this.#seek(offset);
      this.#read(emit);
    } finally {
      Atomics.store(words, lock, 0);
      Atomics.notify(words, lock, 1);
    }
  }

  #read(emit: (entry: DirectoryEntry) => boolean): void {
    const entry = this.#entry;
    for (;;) {
      if (entry.at === this.#end) {
        this.#restart(this.#offset());
        this.#end = succeeded(files.getdents(this.#fd, this.bytes));
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
