/** Where things of this package and of runs lie, from source and from dist/ alike. Child processes always run from dist/. */
import { existsSync, readFileSync, realpathSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

function findRoot(): string {
  const start = dirname(fileURLToPath(import.meta.url));
  for (let folder = start; folder !== dirname(folder); folder = dirname(folder)) {
    if (existsSync(join(folder, "package.json"))) return folder;
  }
  throw new Error(`no package.json above ${start}`);
}

const root = findRoot();

/** A file of the package: `fixtures/scenarios`. */
export function packagePath(relative: string): string {
  return join(root, relative);
}

/** A built module by the path of its source: `harness/src/engines/host-actor-main.ts` -> `ROOT/dist/.../host-actor-main.js`. */
export function builtPath(source: string): string {
  return join(root, "dist", source.replace(/\.ts$/, ".js"));
}

let ownVersion: string | null = null;

/** The package's version. */
export function version(): string {
  ownVersion ??= (JSON.parse(readFileSync(packagePath("package.json"), "utf8")) as { version: string })
    .version;
  return ownVersion;
}

/** Absolute and without symbolic links, as the mount table has paths. What cannot be resolved is refused where a folder is made in it. */
function resolved(folder: string): string {
  try {
    return realpathSync(folder);
  } catch {
    return resolve(folder);
  }
}

/** Where run folders lie. */
export const runDirectoryParent: string = resolved(tmpdir());
