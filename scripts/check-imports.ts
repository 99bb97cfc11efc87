/**
 * Enforces scripts/import-rules.json: which part may import which, through which file, and who may use which package.
 * Reads text, not syntax trees: an import is a line that says so, in the form the formatter gives it.
 */
import { readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { readSources, report, type SourceFile } from "./sources.ts";

export type ImportRules = {
  readonly parts: Readonly<Record<string, readonly string[]>>;
  /** By part: files that others may import besides its src/index.ts; a folder ends in /. Below test/ for tests only. */
  readonly faces: Readonly<Record<string, string | readonly string[]>>;
  /**
   * By part: its rooms (a folder of src/ ends in /, a file does not) on their floors, from the ground up. A room may import
   * from the floors below its own, and from nothing else beside itself: so there is no circle among rooms.
   */
  readonly floors: Readonly<Record<string, string | readonly (readonly string[])[]>>;
  readonly packages: Readonly<Record<string, string | readonly string[]>>;
};

const importPattern =
  /^(?:import|export)\b[^"';]*?\bfrom\s+"([^"]+)"|^import\s+"([^"]+)"|\bimport\(\s*"([^"]+)"\s*\)|\brequire\(\s*"([^"]+)"\s*\)/gm;

/** What a source file imports, as written. */
export function importsOf(text: string): readonly string[] {
  const specifiers: string[] = [];
  for (const match of text.matchAll(importPattern)) {
    const specifier = match[1] ?? match[2] ?? match[3] ?? match[4];
    if (specifier !== undefined) specifiers.push(specifier);
  }
  return specifiers;
}

/** `@scope/name/file` -> `@scope/name`. */
function packageOf(specifier: string): string {
  return specifier.split("/", specifier.startsWith("@") ? 2 : 1).join("/");
}

/** Is the path one of these files, or below one of these folders? */
function isAmong(path: string, places: string | readonly string[] | undefined): boolean {
  if (places === undefined || typeof places === "string") return false;
  return places.some((place) => path === place || (place.endsWith("/") && path.startsWith(place)));
}

function isFace(rules: ImportRules, part: string, target: string, from: string): boolean {
  if (target === `${part}/src/index.ts`) return true;
  if (!isAmong(target, rules.faces[part])) return false;
  return target.startsWith(`${part}/src/`) || from.includes("/test/");
}

function relativeBreach(rules: ImportRules, from: string, specifier: string): string | null {
  const target = normalize(join(dirname(from), specifier));
  const fromPart = from.split("/")[0] ?? "";
  const toPart = target.split("/")[0] ?? "";
  if (fromPart === toPart) return null;
  const allowed = rules.parts[fromPart];
  if (allowed === undefined) return null; // Not in a part: configuration at the root.
  if (!allowed.includes(toPart)) {
    return `${from} imports ${target}: ${fromPart} may import ${allowed.length === 0 ? "no other part" : `only ${allowed.join(", ")}`}`;
  }
  if (!isFace(rules, toPart, target, from)) {
    return `${from} imports ${target}: other parts are seen only through ${toPart}/src/index.ts`;
  }
  return null;
}

/** The room of a path below PART/src: `run/` for `PART/src/run/plan.ts`, `engine.ts` for `PART/src/engine.ts`. The longest one listed. */
function roomOf(floors: readonly (readonly string[])[], part: string, path: string): string | null {
  const inside = path.slice(`${part}/src/`.length);
  const matches = floors
    .flat()
    .filter((room) => (room.endsWith("/") ? inside.startsWith(room) : inside === room));
  return matches.sort((a, b) => b.length - a.length)[0] ?? null;
}

function floorBreach(rules: ImportRules, from: string, specifier: string): string | null {
  const part = from.split("/")[0] ?? "";
  const floors = rules.floors[part];
  const target = normalize(join(dirname(from), specifier));
  if (floors === undefined || typeof floors === "string") return null;
  if (!from.startsWith(`${part}/src/`) || !target.startsWith(`${part}/src/`)) return null;
  const [own, other] = [roomOf(floors, part, from), roomOf(floors, part, target)];
  if (own === other) return null;
  if (own === null || other === null) return null; // Said once, of the file itself.
  const floorOf = (room: string): number => floors.findIndex((rooms) => rooms.includes(room));
  if (floorOf(other) < floorOf(own)) return null;
  return `${from} imports ${target}: ${own} may import only from the floors below its own, and ${other} is ${floorOf(other) === floorOf(own) ? "beside" : "above"} it`;
}

/** A file of a part with floors that lies in none of its rooms. */
function roomlessBreach(rules: ImportRules, path: string): string | null {
  const part = path.split("/")[0] ?? "";
  const floors = rules.floors[part];
  if (floors === undefined || typeof floors === "string" || !path.startsWith(`${part}/src/`)) return null;
  if (roomOf(floors, part, path) !== null) return null;
  return `${path}: in no room of ${part}; add it to a floor in scripts/import-rules.json`;
}

function packageBreach(rules: ImportRules, from: string, specifier: string): string | null {
  const owners = rules.packages[packageOf(specifier)];
  if (owners === undefined || typeof owners === "string") return null;
  if (isAmong(from, owners)) return null;
  return `${from} imports the package ${specifier}: only ${owners.join(", ")} may`;
}

/** Every breach of the rules, one sentence each. */
export function importBreaches(rules: ImportRules, files: readonly SourceFile[]): readonly string[] {
  const breaches: string[] = [];
  for (const file of files) {
    if (!file.path.endsWith(".ts")) continue;
    const part = file.path.split("/")[0] ?? "";
    if (file.path.includes("/") && !(part in rules.parts)) {
      breaches.push(`${file.path}: the folder ${part} is not a part; add it to scripts/import-rules.json`);
      continue;
    }
    const roomless = roomlessBreach(rules, file.path);
    if (roomless !== null) breaches.push(roomless);
    for (const specifier of importsOf(file.text)) {
      if (specifier.startsWith("node:")) continue;
      const breach = specifier.startsWith(".")
        ? (relativeBreach(rules, file.path, specifier) ?? floorBreach(rules, file.path, specifier))
        : packageBreach(rules, file.path, specifier);
      if (breach !== null) breaches.push(breach);
    }
  }
  return breaches;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const rules = JSON.parse(readFileSync("scripts/import-rules.json", "utf8")) as ImportRules;
  report("imports", importBreaches(rules, readSources(process.cwd())));
}
