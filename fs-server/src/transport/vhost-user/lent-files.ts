/**
 * Which files are in the DAX window, for the control thread: QEMU adds each mapping as a region of memory, with the descriptor
 * that it was given. In shared memory: the main thread lends, the control thread asks.
 */
import { fstatSync } from "node:fs";

/** Two words for each file: device and inode. */
const WORDS = 2;

export class LentFiles {
  readonly #words: BigUint64Array;

  static memory(files: number): SharedArrayBuffer {
    return new SharedArrayBuffer(8 * WORDS * files);
  }

  constructor(memory: SharedArrayBuffer) {
    this.#words = new BigUint64Array(memory);
  }

  /** Before the front-end gets the file. `slot` stands for a place in the window. */
  lend(slot: number, { dev, ino }: { readonly dev: bigint; readonly ino: bigint }): void {
    Atomics.store(this.#words, WORDS * slot, dev);
    Atomics.store(this.#words, WORDS * slot + 1, ino);
  }

  has(fd: number): boolean {
    const { dev, ino } = fstatSync(fd, { bigint: true });
    for (let at = 0; at < this.#words.length; at += WORDS) {
      if (Atomics.load(this.#words, at + 1) === ino && Atomics.load(this.#words, at) === dev) return true;
    }
    return false;
  }
}
