/** The folders below one, for marks: a mark of a folder is told of the files in it, and of nothing deeper. */
import { readdirSync } from "node:fs";
import { join } from "node:path";

export const FOLDERS_MAX = 4096;

export type Folders = {
  readonly paths: readonly string[];
  /** There are more than are given. */
  readonly isCut: boolean;
};

/** `root` and all below it; links are not followed, what may not be read is left out. */
export function foldersBelow(root: string, max: number = FOLDERS_MAX): Folders {
  const paths = [root];
  // The list grows while it is walked.
  for (const path of paths) {
    let entries: readonly { readonly name: string; isDirectory(): boolean }[];
    try {
      entries = readdirSync(path, { withFileTypes: true });
    } catch {
      continue;
    }
    for (const entry of entries) {
      if (!entry.isDirectory()) continue;
      if (paths.length >= max) return { paths, isCut: true };
      paths.push(join(path, entry.name));
    }
  }
  return { paths, isCut: false };
}
