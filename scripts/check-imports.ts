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
    for (const specifier of importsOf(file.text)) {
      if (specifier.startsWith("node:")) continue;
      const breach = specifier.startsWith(".")
        ? relativeBreach(rules, file.path, specifier)
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
