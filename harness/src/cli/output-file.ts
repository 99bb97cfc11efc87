/**
 * Files that a command writes: beside their place, as NAME.partial, and renamed when the command has all of them. Until
 * then what was there before stays. A command that ends early leaves no new output; one that is killed leaves NAME.partial.
 *
 * An output that is an input of the command, that two options name, or that another command writes at the moment (its partial
 * file is locked, flock(2)), is refused before anything runs. A link in the
 * place of an output is replaced, not followed. What is no file (a device, a FIFO, `-` for standard output) is written
 * directly.
 */
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  realpathSync,
  renameSync,
  type Stats,
  unlinkSync,
  writeSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { SyscallError, tryLock } from "../../../sys/src/index.ts";
import { errorText } from "../error-text.ts";
import { inputs, OutputError, openOutputs, type PendingOutput } from "./open-outputs.ts";
import { UsageError } from "./usage.ts";

const STDOUT = 1;
const PIPE_PAUSE_MS = 1;
const MODE = 0o666;

/** The status, or null where there is nothing. */
function statusOf(path: string): Stats | null {
  return lstatSync(path, { throwIfNoEntry: false }) ?? null;
}

/** Takes the lock by which other commands see that a file is being written. True: another command has it. */
function isHeld(fd: number): boolean {
  try {
    return !tryLock(fd);
  } catch (error) {
    // Where there are no locks, nobody has one.
    if (error instanceof SyscallError) return false;
    throw error;
  }
}

/** What tells two names of one file: the folder's real path and the name in it. */
function placeOf(path: string): string {
  return join(realpathSync(dirname(path)), basename(path));
}

/** A pipe may take less than a line at once, and nothing at all for a moment. A reader that has gone gets nothing. */
function writeAll(fd: number, bytes: Buffer): void {
  for (let done = 0; done < bytes.length; ) {
    try {
      done += writeSync(fd, bytes, done);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "EPIPE") return;
      if (code !== "EAGAIN") throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PIPE_PAUSE_MS);
    }
  }
}

export type OutputFile = {
  readonly isStdout: boolean;
  write(bytes: Buffer): void;
};

class OpenOutput implements OutputFile, PendingOutput {
  readonly option: string;
  readonly path: string;
  readonly isStdout: boolean;
  readonly #fd: number;
  /** The name that it is written under; null: directly. */
  readonly #partial: string | null;

  constructor(option: string, path: string) {
    this.option = option;
    this.path = path;
    this.isStdout = path === "-";
    const status = this.isStdout ? null : statusOf(path);
    const isDirect = status !== null && !status.isFile() && !status.isSymbolicLink();
    this.#partial = this.isStdout || isDirect ? null : `${path}.partial`;
    this.#fd = this.isStdout ? STDOUT : this.#open(status);
  }

  #open(status: Stats | null): number {
    if (this.#partial === null) return openSync(this.path, "w");
    const left = statusOf(this.#partial);
    // What a command that was killed has left; nothing else is taken away.
    if (left?.isFile() === true) this.#removeLeft(this.#partial);
    const { O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants;
    const mode = status?.isFile() === true ? status.mode & 0o777 : MODE;
    const fd = openSync(this.#partial, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode);
    if (!isHeld(fd)) return fd;
    closeSync(fd);
    throw this.#heldError(this.#partial);
  }

  #removeLeft(partial: string): void {
    const { O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants;
    const fd = openSync(partial, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    try {
      if (isHeld(fd)) throw this.#heldError(partial);
      unlinkSync(partial);
    } finally {
      closeSync(fd);
    }
  }

  #heldError(partial: string): UsageError {
    return new UsageError(
      `${this.option} ${this.path}: another command writes it now (${partial} is locked)`,
    );
  }

  write(bytes: Buffer): void {
    try {
      writeAll(this.#fd, bytes);
    } catch (error) {
      throw new OutputError(`${this.option} ${this.path}: ${errorText(error)}`);
    }
  }

  /** Is it this file, under whatever name? */
  isAt(path: string): boolean {
    if (this.isStdout || path === "-") return false;
    const status = statusOf(path);
    const { dev, ino } = fstatSync(this.#fd);
    if (status !== null && this.#partial === null) return status.dev === dev && status.ino === ino;
    return placeOf(path) === placeOf(this.path);
  }

  close(): void {
    if (!this.isStdout) closeSync(this.#fd);
  }

  rename(): void {
    if (this.#partial !== null) renameSync(this.#partial, this.path);
  }

  discard(): void {
    if (this.#partial !== null && statusOf(this.#partial)?.isFile() === true) unlinkSync(this.#partial);
  }
}

/** Is the existing target one of the inputs? */
function inputAt(path: string): string | undefined {
  const status = statusOf(path);
  if (status === null || path === "-") return undefined;
  return [...inputs].find((input) => {
    const one = input === "-" ? null : statusOf(input);
    return one !== null && one.dev === status.dev && one.ino === status.ino;
  });
}

/**
 * Opens the FILE of an option, `-` for standard output. A UsageError where it cannot be written, is an input, or is
 * named twice.
 */
export function openOutput(option: string, path: string): OutputFile {
  if (path === "") throw new UsageError(`${option} "": a file has a name`);
  const input = inputAt(path);
  if (input !== undefined) throw new UsageError(`${option} ${path}: it is an input of this command`);
  let output: OpenOutput;
  try {
    const twin = [...openOutputs].find((one) => one.isAt(path));
    if (twin !== undefined) throw new UsageError(`${option} ${path}: ${twin.option} writes there, too`);
    output = new OpenOutput(option, path);
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`${option} ${path}: ${errorText(error)}`);
  }
  openOutputs.add(output);
  return output;
}
