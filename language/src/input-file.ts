/**
 * Files that users name, as text. What is no regular file is refused before it is read, for a FIFO or a device never ends;
 * what is too large, or no UTF-8, is refused with place and limit. What the text says is the readers' own matter.
 */
import { readdirSync, readFileSync, type Stats, statSync } from "node:fs";
import { basename, dirname } from "node:path";
import { nearest } from "./nearest.ts";

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
  const [first, second] = bytes;
  if ((first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff)) {
    throw new InputError("is UTF-16; write it in UTF-8", 1);
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new InputError("is no UTF-8 here", brokenLine(bytes));
  }
}

/** The text of a regular file of at most `limitBytes`. Throws an InputError. */
export function readInput(path: string, limitBytes: number): string {
  const stats = look(path);
  if (!stats.isFile()) throw new InputError(`is ${kindOf(stats)}, not a regular file`);
  if (stats.size > limitBytes) {
    throw new InputError(`${stats.size} bytes are more than the limit ${limitBytes}`);
  }
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    throw new InputError(`cannot be read: ${errorCode(error)}`);
  }
  return decode(bytes);
}
