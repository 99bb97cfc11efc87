/**
 * A program of Debian's archive in the cache, with all its libraries, started by their own loader: nothing is installed, and the
 * distribution of this machine does not matter.
 */
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { aptPrograms, type ProgramPackages } from "./apt-programs.ts";
import { hold } from "./in-use.ts";
import { cacheDirectory, ENTRY, intoCache, type Progress, unpackPackage } from "./store.ts";

/** In the unpacked packages. */
const LIBRARIES = "usr/lib/x86_64-linux-gnu";
const LOADER = "ld-linux-x86-64.so.2";
const ORIGIN_FILE = "origin";

export type WantedProgram = {
  /** Of its package. */
  readonly name: string;
  /** What the archive is asked for. */
  readonly suites: readonly string[];
  /** Whose version is taken. */
  readonly suite: string;
  /** In the packages. */
  readonly programPath: string;
  /** What of them is kept beside the program and the libraries. */
  readonly kept: readonly string[];
};

export type UnpackedProgram = {
  readonly folder: string;
  readonly programPath: string;
  /** The program by its own loader; its arguments follow. */
  readonly command: readonly string[];
  /** Package and version. */
  readonly origin: string;
};

function store(
  tree: string,
  entry: string,
  { name, kept, programPath }: WantedProgram,
  version: string,
): void {
  mkdirSync(entry);
  for (const path of [programPath, LIBRARIES, ...kept])
    cpSync(join(tree, path), join(entry, path), { recursive: true, verbatimSymlinks: true });
  // The last one: without it there is no program in the folder.
  writeFileSync(join(entry, ORIGIN_FILE), `${name} ${version}\n`);
}

async function filled(
  folder: string,
  wanted: WantedProgram,
  {
    packages,
    load,
    signal,
  }: {
    readonly packages: ProgramPackages;
    readonly load: (into: string) => Promise<readonly string[]>;
    readonly signal: AbortSignal;
  },
): Promise<void> {
  await intoCache(folder, {
    what: `${wanted.name} ${packages.version}`,
    neededBytes: packages.neededBytes,
    isThere: () => existsSync(join(folder, ORIGIN_FILE)),
    async fill(work) {
      const tree = join(work, "tree");
      for (const path of await load(work)) await unpackPackage(path, tree, signal);
      store(tree, join(work, ENTRY), wanted, packages.version);
    },
  });
}

/** Loads it if the cache does not have it. Throws a KernelError. */
export async function obtainProgram(
  wanted: WantedProgram,
  signal: AbortSignal,
  progress: Progress,
): Promise<UnpackedProgram> {
  const archive = aptPrograms(join(cacheDirectory(), "apt"), wanted.suites, signal);
  const packages = await archive.closureOf(wanted.name, wanted.suite);
  const { name } = wanted;
  const folder = join(cacheDirectory(), "programs", `${name}_${packages.version.replaceAll(":", "%3a")}`);
  if (!existsSync(join(folder, ORIGIN_FILE))) {
    progress(`loading ${name} ${packages.version} and ${packages.names.length - 1} packages that it needs`);
    await filled(folder, wanted, { packages, load: (into) => archive.download(packages, into), signal });
  }
  hold(cacheDirectory(), folder);
  const at = (path: string): string => join(folder, path);
  const programPath = at(wanted.programPath);
  return {
    folder,
    programPath,
    command: [at(`${LIBRARIES}/${LOADER}`), "--library-path", at(LIBRARIES), programPath],
    origin: readFileSync(at(ORIGIN_FILE), "utf8").trim(),
  };
}
