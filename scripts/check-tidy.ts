/**
 * What the repository promises about itself and no linter checks: every test is collected, none stands alone,
 * nothing is left for later, no path of somebody's machine, plain ASCII in code, no fixture that nobody reads, no prose
 * that is too wide to read, no page that does not say whom it is for, no link that leads nowhere.
 */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { readSources, report, type SourceFile } from "./sources.ts";

const isCode = (path: string): boolean =>
  /\.(ts|c|h|S|json|sh)$/.test(path) || /^(scripts|\.ci)\/[^.]+$/.test(path);
/** The checks and their tests spell out what they look for. */
const isChecker = (path: string): boolean => /^scripts\/(test\/)?check-tidy(\.test)?\.ts$/.test(path);
const isGenerated = (path: string): boolean => path === "package-lock.json";

const forbidden: readonly { readonly pattern: RegExp; readonly why: string }[] = [
  { pattern: /\b(?:describe|it|test)\.only\(/, why: "a test that stands alone hides all others" },
  { pattern: /\b(?:TODO|FIXME|XXX)\b/, why: "do it, or write it down where users can see it" },
  { pattern: /(?:^|[\s"'`(=:])\/(?:home|Users|root|work)\//, why: "a path of one machine" },
];

/** Letters, marks, digits, blanks and invisible characters outside ASCII. Signs (an ellipsis, an arrow, a line) are plain to see. */
const trap = /(?!\p{ASCII})[\p{L}\p{M}\p{N}\p{Z}\p{C}]/u;

const codePoint = (character: string): string =>
  `U+${(character.codePointAt(0) ?? 0).toString(16).padStart(4, "0")}`;

function lineBreaches(file: SourceFile): readonly string[] {
  const breaches: string[] = [];
  for (const [index, line] of file.text.split("\n").entries()) {
    const place = `${file.path}:${index + 1}`;
    for (const { pattern, why } of forbidden) {
      if (pattern.test(line)) breaches.push(`${place}: ${why}: ${line.trim().slice(0, 100)}`);
    }
    const odd = isCode(file.path) ? trap.exec(line) : null;
    if (odd !== null)
      breaches.push(`${place}: a letter or blank that looks like another: ${codePoint(odd[0])}`);
  }
  return breaches;
}

/** Test files that the `include` pattern of vitest.config.ts does not collect. */
function uncollectedTests(files: readonly SourceFile[]): readonly string[] {
  const config = files.find((file) => file.path === "vitest.config.ts")?.text ?? "";
  const parts = /include: \["\{([^}]*)\}\/test\/\*\*\/\*\.test\.ts"\]/.exec(config)?.[1]?.split(",");
  if (parts === undefined) return ["vitest.config.ts: its include is not {parts}/test/**/*.test.ts"];
  const breaches: string[] = [];
  for (const { path, text } of files) {
    const collected = parts.some((part) => path.startsWith(`${part}/test/`)) && path.endsWith(".test.ts");
    const isTest =
      /\.(test|spec)\.[a-z]+$/.test(path) || /^\s*(describe|it|test)(\.\w+)?\(["`'(]/m.test(text);
    if (path.endsWith(".ts") && isTest && !collected)
      breaches.push(`${path}: a test that vitest does not collect`);
  }
  return breaches;
}

/** Fixture files whose name, or whose folder's path, no code mentions. */
function deadFixtures(files: readonly SourceFile[]): readonly string[] {
  const code = files.filter((file) => file.path.endsWith(".ts") && !isChecker(file.path));
  const mentioned = (text: string): boolean => code.some((file) => file.text.includes(text));
  const breaches: string[] = [];
  for (const { path } of files) {
    if (!path.startsWith("fixtures/")) continue;
    const steps = path.split("/");
    const file = steps.at(-1) ?? "";
    const folder = steps.slice(1, -1).join("/");
    if (!mentioned(file) && (folder === "" || !mentioned(`fixtures/${folder}`))) {
      breaches.push(`${path}: a fixture that no code mentions`);
    }
  }
  return breaches;
}

/** Of documents for people: wider lines do not fit beside a diff, nor a terminal of 120 columns. */
const PROSE_COLUMNS_MAX = 120;
/** A cell that is longer is a sentence, for which a definition list has room. */
const CELL_COLUMNS_MAX = 80;

/** For people; the reference is generated in full. */
const isDocument = (path: string): boolean =>
  /^(docs\/)?[^/]+\.md$/.test(path) && path !== "docs/reference.md";

/** Code is not broken: a span counts as one short word. */
const withoutCode = (line: string): string => line.replaceAll(/`[^`]+`/g, "`x`");

/** The lines of a Markdown document outside of fences. */
function* proseLines({
  path,
  text,
}: SourceFile): Generator<{ readonly place: string; readonly line: string }> {
  let isFenced = false;
  for (const [index, line] of text.split("\n").entries()) {
    if (/^\s*```/.test(line)) isFenced = !isFenced;
    if (!isFenced) yield { place: `${path}:${index + 1}`, line };
  }
}

/** Lines and cells of a Markdown document that are too wide. */
function wideProse(file: SourceFile): readonly string[] {
  const breaches: string[] = [];
  for (const { place, line } of proseLines(file)) {
    if (!line.startsWith("|")) {
      const columns = withoutCode(line).length;
      if (columns > PROSE_COLUMNS_MAX)
        breaches.push(`${place}: ${columns} columns of prose, at most ${PROSE_COLUMNS_MAX}: npm run format`);
      continue;
    }
    const longest = Math.max(...line.split("|").map((cell) => withoutCode(cell.trim()).length));
    if (longest > CELL_COLUMNS_MAX && !/^\|[\s|:-]+\|$/.test(line))
      breaches.push(`${place}: a cell of ${longest} columns, at most ${CELL_COLUMNS_MAX}: a definition list`);
  }
  return breaches;
}

/** A page of docs/ says first whom it is for: whoever is not meant reads on elsewhere. */
function readerless({ path, text }: SourceFile): readonly string[] {
  if (!/^docs\/[^/]+\.md$/.test(path)) return [];
  const [title = "", first = ""] = text.split("\n").filter((line) => line !== "");
  if (title.startsWith("# ") && /^For \S/.test(first)) return [];
  return [`${path}: begins with a title and then "For ...": whom the page is for`];
}

/** As GitHub makes a heading's address. */
const anchorOf = (heading: string): string =>
  heading
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N} _-]/gu, "")
    .replaceAll(" ", "-");

function hasAnchor(text: string, anchor: string): boolean {
  return text
    .split("\n")
    .some((line) => /^#+ /.test(line) && anchorOf(line.replace(/^#+ /, "").trim()) === anchor);
}

/** A code span that names a file or folder of this repository, or how the names of some tests begin; a pattern names many. */
const pathSpan =
  /`((?:docs|examples|fixtures|fs-server|harness|kvm-model|language|scripts|sys|vmm)\/[\w.+/-]*[\w/])(?=[ `])/g;

/** `engines/NAME/engine.ts`: the reader's own. */
const isPlaceholder = (path: string): boolean => /(?:^|\/)[A-Z]+\//.test(path);

export type Repository = {
  readonly files: readonly SourceFile[];
  /** Of a path relative to the root, a folder's, too. */
  readonly exists: (path: string) => boolean;
};

/** Links within the repository, and names of its files, that lead nowhere. */
function brokenLinks(document: SourceFile, { files, exists }: Repository): readonly string[] {
  const { path } = document;
  const breaches: string[] = [];
  for (const { place, line } of proseLines(document)) {
    for (const [, name = ""] of line.matchAll(pathSpan))
      if (!isPlaceholder(name) && !exists(name) && !files.some((file) => file.path.startsWith(name)))
        breaches.push(`${place}: no such file: ${name}`);
    for (const [, target = ""] of line.replaceAll(/`[^`]*`/g, "").matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      const [name = "", anchor = ""] = target.split("#");
      const file = name === "" ? path : join(dirname(path), name);
      const found = files.find((one) => one.path === file);
      if (!exists(file)) breaches.push(`${place}: a link that leads nowhere: ${target}`);
      else if (anchor !== "" && !hasAnchor(found?.text ?? "", anchor))
        breaches.push(`${place}: no heading for the link ${target}`);
    }
  }
  return breaches;
}

/** Every breach, one sentence each. */
export function tidyBreaches(repository: Repository): readonly string[] {
  const { files } = repository;
  const breaches: string[] = [...uncollectedTests(files), ...deadFixtures(files)];
  for (const file of files) {
    if (!isChecker(file.path) && !isGenerated(file.path)) breaches.push(...lineBreaches(file));
    if (isDocument(file.path)) breaches.push(...wideProse(file));
    if (file.path.endsWith(".md")) breaches.push(...readerless(file), ...brokenLinks(file, repository));
  }
  return breaches;
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  report("tidy", tidyBreaches({ files: readSources(process.cwd()), exists: (path) => existsSync(path) }));
