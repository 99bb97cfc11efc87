/**
 * Files that users name, as text. What is no regular file (a FIFO, as of a shell's `<(..)`, a device, a folder) is refused
 * before it is read, for it may never end; standard input, where a command takes it as `-`, may be anything up to the limit;
 * what is too large, or no UTF-8, is refused with place and limit. What the text says is the readers' own matter.
 */
import {
  closeSync,
  constants,
  fstatSync,
  openSync,
  readdirSync,
  readSync,
  type Stats,
  statSync,
} from "node:fs";
import { basename, dirname } from "node:path";
import { nearest } from "./nearest.ts";

/** Files of one folder of the user's: ten times what the project's own have. */
export const FOLDER_FILES_MAX = 512;

/** What is wrong with the file as a file; the message does not name it. */
export class InputError extends Error {
  override readonly name = "InputError";
  /** From 1, where a line is to blame. */
  readonly line: number | null;

  constructor(message: string, line: number | null = null) {
    super(message);
    this.line = line;
  }
}

function kindOf(stats: Stats): string {
  if (stats.isDirectory()) return "a directory";
  if (stats.isFIFO()) return "a FIFO";
  if (stats.isSocket()) return "a socket";
  return "a device";
}

function checkKind(stats: Stats): void {
  if (stats.isFile()) return;
  throw new InputError(`is ${kindOf(stats)}, not a regular file`);
}

function errorCode(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : String(error);
}

function namesBeside(path: string): readonly string[] {
  try {
    return nearest(basename(path), readdirSync(dirname(path)));
  } catch {
    return [];
  }
}

function look(path: string): Stats {
  try {
    return statSync(path);
  } catch (error) {
    const code = errorCode(error);
    if (code !== "ENOENT") throw new InputError(`cannot be read: ${code}`);
    const names = namesBeside(path);
    throw new InputError(
      `there is no such file (ENOENT)${names.length === 0 ? "" : `; nearest: ${names.join(", ")}`}`,
    );
  }
}

/** The line of the first byte that is no UTF-8. */
function brokenLine(bytes: Uint8Array): number {
  const before = new TextDecoder("utf-8").decode(bytes).split("\ufffd")[0] ?? "";
  return before.split("\n").length;
}

function decode(bytes: Uint8Array): string {
  if (isUtf16(bytes)) throw new InputError("is UTF-16; write it in UTF-8", 1);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new InputError("is no UTF-8 here", brokenLine(bytes));
  }
}

const { O_NONBLOCK, O_RDONLY } = constants;
const STDIN = 0;
const CHUNK_BYTES = 64 * 1024;
const CHUNK_BYTES_MIN = 1024;
const PAUSE_MS = 5;

/** Opened without waiting for a writer, should it be a FIFO by now. */
function open(path: string): number {
  try {
    return openSync(path, O_RDONLY | O_NONBLOCK);
  } catch (error) {
    throw new InputError(`cannot be read: ${errorCode(error)}`);
  }
}

/** A chunk; null where a descriptor that does not block has nothing yet. */
function readChunk(fd: number, chunk: Buffer): number | null {
  try {
    return readSync(fd, chunk);
  } catch (error) {
    const code = errorCode(error);
    if (code === "EAGAIN") return null;
    throw new InputError(`cannot be read: ${code}`);
  }
}

/**
 * All that comes, up to the limit: a size that was looked at before may not be the size any more, but most often is, so that
 * two chunks of that size are enough.
 */
function readBounded(fd: number, limitBytes: number, sizeBytes: number): Buffer {
  const chunks: Buffer[] = [];
  for (let total = 0; ; ) {
    const missing = Math.max(sizeBytes - total, CHUNK_BYTES_MIN);
    const chunk = Buffer.allocUnsafe(Math.min(missing, CHUNK_BYTES));
    const count = readChunk(fd, chunk);
    if (count === 0) return Buffer.concat(chunks);
    if (count === null) {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PAUSE_MS);
      continue;
    }
    total += count;
    if (total > limitBytes) throw new InputError(`more than the limit of ${limitBytes} bytes`);
    chunks.push(chunk.subarray(0, count));
  }
}

/** The text of a regular file of at most `limitBytes`. Throws an InputError. */
export function readInput(path: string, limitBytes: number): string {
  return decode(readRegular(path, limitBytes));
}

/** How packed files begin, as log rotation makes them, and with what they are unpacked. */
const packed: readonly (readonly [bytes: readonly number[], name: string, command: string])[] = [
  [[0x1f, 0x8b], "gzip", "zcat"],
  [[0xfd, 0x37, 0x7a, 0x58, 0x5a], "xz", "xzcat"],
  [[0x28, 0xb5, 0x2f, 0xfd], "zstd", "zstdcat"],
  [[0x42, 0x5a, 0x68], "bzip2", "bzcat"],
];

/**
 * A log, `-` for standard input, into which others write what they like: bytes that are no UTF-8 are replaced. Throws an
 * InputError, of one that is packed, too.
 */
export function readLog(path: string, limitBytes: number): string {
  const bytes = path === "-" ? readBounded(STDIN, limitBytes, CHUNK_BYTES) : readRegular(path, limitBytes);
  const [, name, command] = packed.find(([start]) => start.every((byte, i) => bytes[i] === byte)) ?? [];
  if (name !== undefined) throw new InputError(`is packed (${name}); ${command} FILE | ... --log - reads it`);
  if (isUtf16(bytes)) throw new InputError("is UTF-16; write it in UTF-8", 1);
  return new TextDecoder("utf-8").decode(bytes);
}

function isUtf16([first, second]: Uint8Array): boolean {
  return (first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff);
}

function readRegular(path: string, limitBytes: number): Buffer {
  // Looked at before it is opened, for that alone can do something to a device.
  checkKind(look(path));
  const fd = open(path);
  try {
    const stats = fstatSync(fd);
    checkKind(stats);
    if (stats.size > limitBytes) {
      throw new InputError(`${stats.size} bytes are more than the limit ${limitBytes}`);
    }
    return readBounded(fd, limitBytes, stats.size);
  } finally {
    closeSync(fd);
  }
}

/** The text that comes from standard input, of whatever kind it is, up to its end. Throws an InputError. */
export function readStandardInput(limitBytes: number): string {
  return decode(readBounded(STDIN, limitBytes, CHUNK_BYTES));
}

/** The names of a folder's `*.json`, sorted. Throws an InputError for more than FOLDER_FILES_MAX. */
export function jsonFilesOf(folder: string): readonly string[] {
  const names = readdirSync(folder).filter((name) => name.endsWith(".json"));
  if (names.length > FOLDER_FILES_MAX) {
    throw new InputError(`${names.length} files *.json are more than the limit ${FOLDER_FILES_MAX}`);
  }
  return names.sort();
}
