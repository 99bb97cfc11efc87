/**
 * Entry points of child processes and threads: always the compiled file, also when the caller itself runs from
 * TypeScript (tests). `scripts/build` keeps dist fresh; the tests' set-up calls it.
 */
import { fileURLToPath, pathToFileURL } from "node:url";

/**
 * The compiled JavaScript of a module of ours.
 * @param from `import.meta.url` of the caller
 * @param relative the module seen from the caller, as in an import: `./vcpu-thread.ts`
 */
export function compiledEntry(from: string, relative: string): URL {
  const url = new URL(relative.replace(/\.ts$/, ".js"), from);
  if (from.endsWith(".js")) return url;
  const path = fileURLToPath(url);
  const root = fileURLToPath(new URL("../../", import.meta.url));
  return pathToFileURL(`${root}dist/${path.slice(root.length)}`);
}
