/** What is in the cache, folder by folder: kernels of packages, kernels that were built here, what such builds begin from. */
import { existsSync, lstatSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { PatchFacts } from "../../../language/src/index.ts";
import { heldFolders } from "./in-use.ts";
import { cacheDirectory, readEntry, WORK_PREFIX } from "./store.ts";

export type CachedFolder = {
  readonly path: string;
  readonly kind:
    | "package"
    /** Compiled here. */
    | "built"
    /** Headers and sources of KVM, compiled without a patch. */
    | "base"
    /** Of a build that runs, or was killed. */
    | "unfinished"
    /** A program that was unpacked with all its libraries: QEMU with a DAX window. */
    | "program"
    /** The archive's index, as apt keeps it. */
    | "index"
    /** What a build that failed has said. */
    | "log";
  /** `uname -r`; null where it is no kernel. */
  readonly release: string | null;
  /** The package and its version; null likewise. */
  readonly origin: string | null;
  readonly patches: readonly PatchFacts[];
  readonly sizeBytes: number;
  /** A live process of daxfault uses it. */
  readonly isInUse: boolean;
};

function sizeOf(path: string): number {
  const status = lstatSync(path, { throwIfNoEntry: false });
  if (status === undefined) return 0;
  if (!status.isDirectory()) return status.blocks * 512;
  return readdirSync(path).reduce((sum, name) => sum + sizeOf(join(path, name)), 0);
}

function kindOf(part: string, name: string, isCompiled: boolean): CachedFolder["kind"] {
  if (name.startsWith(WORK_PREFIX)) return "unfinished";
  if (part === "builds") return "base";
  if (part === "programs") return "program";
  return isCompiled ? "built" : "package";
}

/** All of it, in a fixed order. */
export function cachedFolders(cache: string = cacheDirectory()): readonly CachedFolder[] {
  const held = heldFolders(cache);
  const list = (folder: string): readonly string[] => (existsSync(folder) ? readdirSync(folder).sort() : []);
  const common = { release: null, origin: null, patches: [] };
  const measured = (path: string): Pick<CachedFolder, "path" | "sizeBytes" | "isInUse"> => ({
    path,
    sizeBytes: sizeOf(path),
    isInUse: held.has(path),
  });
  const kernels = ["kernels", "builds", "programs"].flatMap((part) =>
    list(join(cache, part)).map((name): CachedFolder => {
      const path = join(cache, part, name);
      const entry = readEntry(path);
      const patches = entry?.patches ?? [];
      const isCompiled = patches.length > 0 || (entry?.package.startsWith("linux-source-") ?? false);
      const facts =
        entry === null ? common : { release: entry.release, origin: `${entry.package} ${entry.version}` };
      return { ...common, ...facts, ...measured(path), patches, kind: kindOf(part, name, isCompiled) };
    }),
  );
  const logs = list(cache)
    .filter((name) => /^build-.*\.log$/.test(name))
    .map((name): CachedFolder => ({ ...common, ...measured(join(cache, name)), kind: "log" }));
  const index = list(cache).includes("apt")
    ? [{ ...common, ...measured(join(cache, "apt")), kind: "index" } as const]
    : [];
  return [...kernels, ...logs, ...index];
}

/** Removes what no live process uses. The index stays: it is a day old at most, and no kernel. */
export function cleanCache(cache: string = cacheDirectory()): {
  readonly removed: readonly CachedFolder[];
  readonly kept: readonly CachedFolder[];
} {
  const folders = cachedFolders(cache).filter(({ kind }) => kind !== "index");
  const removed = folders.filter(({ isInUse }) => !isInUse);
  for (const { path } of removed) rmSync(path, { recursive: true, force: true });
  return { removed, kept: folders.filter(({ isInUse }) => isInUse) };
}
