/** The files that the repository checks look at: every file of the checkout except what is made or fetched. */
import { readdirSync, readFileSync } from "node:fs";
import { extname, join, relative } from "node:path";

export type SourceFile = {
  /** Relative to the root, with `/`. */ readonly path: string;
  readonly text: string;
};

const skippedFolders: ReadonlySet<string> = new Set(["node_modules", "dist", ".git", "coverage"]);
const textExtensions: ReadonlySet<string> = new Set([
  "",
  ".ts",
  ".js",
  ".json",
  ".md",
  ".c",
  ".h",
  ".S",
  ".ld",
  ".sh",
  ".yml",
]);

/** Files that hold text, sorted by path. */
export function readSources(root: string): readonly SourceFile[] {
  const files: SourceFile[] = [];
  const pending: string[] = [root];
  for (let folder = pending.pop(); folder !== undefined; folder = pending.pop()) {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) {
        if (!skippedFolders.has(entry.name)) pending.push(path);
      } else if (entry.isFile() && entry.name !== ".git" && textExtensions.has(extname(entry.name))) {
        files.push({ path: relative(root, path), text: readFileSync(path, "utf8") });
      }
    }
  }
  return files.sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** Prints what a check found and sets the exit code. */
export function report(check: string, breaches: readonly string[]): void {
  for (const breach of breaches) console.error(`${check}: ${breach}`);
  if (breaches.length > 0) process.exitCode = 1;
}
