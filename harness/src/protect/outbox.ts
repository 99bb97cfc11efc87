/**
 * What the listener has to say to its parent, which may be stopped: then its pipe is full, and waiting for it would let
 * threads wait whose events this process has to answer. So nothing here waits.
 */
import { files } from "../../../sys/src/index.ts";
import type { FromListener } from "./messages.ts";

const MESSAGES_MAX = 1000;
/** PIPE_BUF: a message up to that is written whole, or not at all. */
const LINE_BYTES_MAX = 4096;

export class Outbox {
  readonly #fd: number;
  readonly #lines: Buffer[] = [];
  #leftOut = 0;

  /** @param fd of a pipe, which does not wait from now on */
  constructor(fd: number) {
    this.#fd = fd;
    files.setStatusFlags(fd, files.statusFlags(fd) | files.O_NONBLOCK);
  }

  get isEmpty(): boolean {
    return this.#lines.length === 0;
  }

  say(message: FromListener): void {
    if (this.#lines.length >= MESSAGES_MAX) this.#leftOut += 1;
    else this.#add(message);
    this.flush();
  }

  /** Writes what the pipe takes. */
  flush(): void {
    for (;;) {
      if (this.#leftOut > 0 && this.#lines.length < MESSAGES_MAX) {
        this.#add({ type: "left-out", count: this.#leftOut });
        this.#leftOut = 0;
      }
      const [line] = this.#lines;
      if (line === undefined) return;
      const written = files.write(this.#fd, line);
      if (written < line.length) {
        // More than PIPE_BUF: the rest comes next. Nothing at all: later, or the parent has gone and standard input ends.
        if (written > 0) this.#lines[0] = line.subarray(written);
        return;
      }
      this.#lines.shift();
    }
  }

  #add(message: FromListener): void {
    const line = Buffer.from(`${JSON.stringify(message)}\n`);
    if (line.length > LINE_BYTES_MAX) this.#leftOut += 1;
    else this.#lines.push(line);
  }
}
