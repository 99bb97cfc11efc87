/**
 * Reports calls of node:fs that change files, and takes what is written to standard output and error, in this process. It
 * replaces the functions of the module, which named imports see as well (module.syncBuiltinESMExports). System calls by
 * other ways are not seen: place.ts looks for what they leave.
 */
import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { basename, dirname, join, resolve } from "node:path";

type Changing = { readonly name: string; readonly paths: number };

/** The functions that change, and how many of their first arguments are paths. */
const changing: readonly Changing[] = [
  { name: "writeFileSync", paths: 1 },
  { name: "appendFileSync", paths: 1 },
  { name: "mkdirSync", paths: 1 },
  { name: "mkdtempSync", paths: 1 },
  { name: "rmSync", paths: 1 },
  { name: "rmdirSync", paths: 1 },
  { name: "unlinkSync", paths: 1 },
  { name: "truncateSync", paths: 1 },
  { name: "chmodSync", paths: 1 },
  { name: "symlinkSync", paths: 2 },
  { name: "utimesSync", paths: 1 },
  { name: "renameSync", paths: 2 },
  { name: "copyFileSync", paths: 2 },
  { name: "linkSync", paths: 2 },
  { name: "createWriteStream", paths: 1 },
];

function isForWriting(flags: unknown): boolean {
  const { O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_APPEND } = fs.constants;
  if (typeof flags === "number") return (flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_APPEND)) !== 0;
  return typeof flags === "string" && /[wa+]/.test(flags);
}

const realpath = fs.realpathSync;

/** Where a change of the path would happen: the real folder, and the name in it. null: it is a descriptor. */
function placeOf(path: unknown): string | null {
  if (typeof path !== "string") return null;
  const full = resolve(path);
  try {
    return join(realpath(dirname(full)), basename(full));
  } catch {
    return full;
  }
}

type Functions = Record<string, (...args: unknown[]) => unknown>;

/** @param report gets the function's name and the place, of calls that succeed; nothing is looked at unless `isOn()` */
export function watchWrites(isOn: () => boolean, report: (name: string, place: string) => void): void {
  const functions = fs as unknown as Functions;
  const wrap = (name: string, pathsOf: (args: readonly unknown[]) => readonly unknown[]): void => {
    const original = functions[name];
    if (original === undefined) throw new Error(`node:fs has no ${name}`);
    functions[name] = (...args) => {
      if (!isOn()) return original(...args);
      const places = pathsOf(args).map(placeOf);
      const result = original(...args);
      for (const place of places) if (place !== null) report(name, place);
      return result;
    };
  };
  for (const { name, paths } of changing) wrap(name, (args) => args.slice(0, paths));
  wrap("openSync", ([path, flags]) => (isForWriting(flags) ? [path] : []));
  syncBuiltinESMExports();
}

const STDOUT = 1;
const STDERR = 2;

/** What was written to one stream. */
class Capture {
  #parts: Buffer[] = [];

  add(part: string | Uint8Array): number {
    const bytes = typeof part === "string" ? Buffer.from(part) : Buffer.from(part);
    this.#parts.push(bytes);
    return bytes.length;
  }

  take(): string {
    const text = Buffer.concat(this.#parts).toString("utf8");
    this.#parts = [];
    return text;
  }
}

export type Streams = {
  /** What was written since the last call. */
  take(): { readonly stdout: string; readonly stderr: string };
};

/** Takes what goes to standard output and error while `isOn()`: by the streams, and by writeSync() to their descriptors. */
export function captureStreams(isOn: () => boolean): Streams {
  const captures = new Map([
    [STDOUT, new Capture()],
    [STDERR, new Capture()],
  ]);
  for (const [fd, stream] of [
    [STDOUT, process.stdout],
    [STDERR, process.stderr],
  ] as const) {
    const original = stream.write.bind(stream) as (...args: unknown[]) => boolean;
    const write = (part: string | Uint8Array, ...rest: unknown[]): boolean => {
      if (!isOn()) return original(part, ...rest);
      captures.get(fd)?.add(part);
      const done = rest.at(-1);
      if (typeof done === "function") process.nextTick(done as () => void);
      return true;
    };
    stream.write = write as typeof stream.write;
  }
  const functions = fs as unknown as Functions;
  const writeSync = fs.writeSync as (...args: unknown[]) => number;
  functions.writeSync = (...args) => {
    const [fd, part, offset, length] = args;
    const capture = isOn() ? captures.get(fd as number) : undefined;
    if (capture === undefined) return writeSync(...args);
    if (typeof part === "string") return capture.add(part);
    const from = typeof offset === "number" ? offset : 0;
    const bytes = part as Uint8Array;
    return capture.add(bytes.subarray(from, typeof length === "number" ? from + length : undefined));
  };
  syncBuiltinESMExports();
  const takeOne = (fd: number): string => captures.get(fd)?.take() ?? "";
  return { take: () => ({ stdout: takeOne(STDOUT), stderr: takeOne(STDERR) }) };
}
