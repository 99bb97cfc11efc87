/**
 * Reports calls of node:fs that change something outside a folder, in this process. It replaces the functions of the
 * module, which named imports see as well (module.syncBuiltinESMExports). System calls by other ways are not seen.
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

/** @param report gets the function's name and the place, of calls that succeed; @param isAllowed may the place be changed? */
export function watchWrites(isAllowed: (place: string) => boolean, report: (what: string) => void): void {
  const functions = fs as unknown as Record<string, (...args: unknown[]) => unknown>;
  const check = (name: string, place: string | null): void => {
    if (place !== null && !isAllowed(place)) report(`${name} ${place}`);
  };
  for (const { name, paths } of changing) {
    const original = functions[name];
    if (original === undefined) throw new Error(`node:fs has no ${name}`);
    functions[name] = (...args) => {
      const places = args.slice(0, paths).map(placeOf);
      const result = original(...args);
      for (const place of places) check(name, place);
      return result;
    };
  }
  const open = fs.openSync;
  functions.openSync = (...args) => {
    const place = isForWriting(args[1]) ? placeOf(args[0]) : null;
    const fd = open(...(args as Parameters<typeof open>));
    check("openSync", place);
    return fd;
  };
  syncBuiltinESMExports();
}
