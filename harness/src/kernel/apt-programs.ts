/**
 * A program of Debian's archive with everything that it needs, down to the C library, as packages to unpack: apt resolves for
 * an empty system, with lists and sources of ours. Nothing is installed, and no root is needed. Kernels are apt.ts.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { aptCommand, debianSources, INDEX_LIFE_MS, signedSource } from "./apt.ts";
import { KernelError } from "./error.ts";

/** What unpacking takes, of what a package's file has: measured with QEMU's, 172 MB of 38 MB. */
const UNPACKED_FACTOR = 6;

export type ProgramPackages = {
  /** Of the program's own package. */
  readonly version: string;
  /** `name=version`, as apt takes it. */
  readonly names: readonly string[];
  /** What they take, files and contents. */
  readonly neededBytes: number;
};

export type AptPrograms = {
  /** The program's package of that suite and what it depends on. Throws a KernelError. */
  closureOf(name: string, suite: string): Promise<ProgramPackages>;
  /** Returns the paths of the packages' files, which apt has checked. Throws a KernelError. */
  download(packages: ProgramPackages, folder: string): Promise<readonly string[]>;
};

/** From the text of `apt-get --print-uris install`: a line a package, `'URI' NAME_VERSION_ARCHITECTURE.deb SIZE HASH`. */
export function packagesOf(text: string, program: string): ProgramPackages | null {
  const packages = [...text.matchAll(/^'[^']*' ([^_\s]+)_([^_\s]+)_[^_\s]+\.deb ([0-9]+)/gm)].map(
    ([, name = "", version = "", size = "0"]) => ({
      name,
      version: decodeURIComponent(version),
      size: Number(size),
    }),
  );
  const own = packages.find(({ name }) => name === program);
  if (own === undefined) return null;
  return {
    version: own.version,
    names: packages.map(({ name, version }) => `${name}=${version}`),
    neededBytes: packages.reduce((sum, { size }) => sum + size, 0) * (1 + UNPACKED_FACTOR),
  };
}

export function aptPrograms(
  aptDirectory: string,
  suites: readonly string[],
  signal: AbortSignal,
): AptPrograms {
  const directory = join(aptDirectory, `programs-${suites.join("-")}`);
  const at = (name: string): string => join(directory, name);
  const settings = {
    "Dir::Etc::sourcelist": at("sources.list"),
    "Dir::Etc::sourceparts": "/dev/null",
    "Dir::State::lists": at("lists"),
    // Nothing is installed there.
    "Dir::State::status": at("status"),
    "Dir::Cache": at("cache"),
    "Acquire::Languages": "none",
    "APT::Sandbox::User": "root",
    "APT::Install-Recommends": "false",
    "Debug::NoLocking": "true",
  };
  const options = Object.entries(settings).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
  const apt = (args: readonly string[], cwd?: string): Promise<string> =>
    aptCommand("apt-get", [...options, ...args], { signal, ...(cwd === undefined ? {} : { cwd }) });

  /** Returns whether the index is another one than before. */
  async function refresh(): Promise<boolean> {
    const stamp = at("updated");
    const age = existsSync(stamp) ? Date.now() - statSync(stamp).mtimeMs : Number.POSITIVE_INFINITY;
    if (age < INDEX_LIFE_MS) return false;
    for (const folder of ["lists/partial", "cache/archives/partial"])
      mkdirSync(at(folder), { recursive: true });
    const own = await debianSources(signal);
    const main = own.find(({ label }) => label === "Debian") ?? own[0];
    if (main === undefined) throw new KernelError("apt has no archive of Debian's among its sources");
    writeFileSync(at("sources.list"), suites.map((suite) => signedSource({ ...main, suite })).join(""));
    writeFileSync(at("status"), "");
    try {
      await apt(["-o", "APT::Update::Error-Mode=any", "update"]);
    } catch (error) {
      // An old index serves where a new one cannot be had.
      if (Number.isFinite(age) && !signal.aborted) return false;
      throw error;
    }
    writeFileSync(stamp, "");
    return true;
  }

  /** Resolving takes apt seconds: its answer is kept as long as the index. */
  async function resolved(name: string, suite: string): Promise<string> {
    const kept = at(`${name}.${suite}.uris`);
    const isNew = await refresh();
    if (!isNew && existsSync(kept)) return readFileSync(kept, "utf8");
    const text = await apt(["-t", suite, "-qq", "--print-uris", "install", name]);
    writeFileSync(kept, text);
    return text;
  }

  return {
    async closureOf(name, suite) {
      const packages = packagesOf(await resolved(name, suite), name);
      if (packages === null) throw new KernelError(`Debian's archive has no ${name} in ${suite}`);
      return packages;
    },
    async download({ names }, folder) {
      await apt(["download", ...names], folder);
      return readdirSync(folder)
        .filter((name) => name.endsWith(".deb"))
        .map((name) => join(folder, name));
    },
  };
}
