/**
 * What KVM's modules of a Debian kernel are compiled against: its headers, its tools of kbuild and its sources of KVM in one
 * tree, compiled once without a patch. A build with patches copies the tree with its times, so that make compiles what the
 * patches touch and nothing else.
 */
import { spawnSync } from "node:child_process";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import type { DebianArchive, KernelPackage } from "../apt.ts";
import { KernelError } from "../error.ts";
import { hold } from "../in-use.ts";
import {
  cacheDirectory,
  ENTRY,
  intoCache,
  type Progress,
  packagesBytes,
  sha256,
  unpackPackage,
} from "../store.ts";
import { madeText, requireRoom } from "./build.ts";
import { runStep } from "./step.ts";
import { requireCompiler } from "./tools.ts";

export type KvmBase = {
  readonly directory: string;
  /** Where it was compiled, which its files of kbuild have in them. */
  readonly builtAt: string;
  readonly release: string;
  /** `usr/src/linux-headers-6.12.117+deb12-common`: where sources and headers are. */
  readonly common: string;
  /** `usr/src/linux-headers-6.12.117+deb12-amd64`: where make begins. */
  readonly headers: string;
};

const FACTS = "base.json";
const factsShape = z.strictObject({
  builtAt: z.string(),
  release: z.string(),
  common: z.string(),
  headers: z.string(),
});

/** Measured with 6.12.117: 320 MB of packages, 120 MB of tree. */
export const BASE_BYTES: number = 2 ** 30;

/** What make is given. Debugging information would be stripped; type information would need pahole. */
const makeVariables: readonly string[] = ["CONFIG_DEBUG_INFO_BTF_MODULES=", "KCFLAGS=-g0"];

/** Part of the cache's keys: another way of building is another kernel. */
export const KVM_RECIPE: string = makeVariables.join(" ");

function factsOf(directory: string): z.infer<typeof factsShape> | null {
  try {
    return factsShape.parse(JSON.parse(readFileSync(join(directory, FACTS), "utf8")));
  } catch {
    return null;
  }
}

export type MakeOptions = {
  /** The tree's folder. */
  readonly tree: string;
  readonly common: string;
  readonly headers: string;
  readonly logPath: string;
  readonly signal: AbortSignal;
  readonly progress: Progress;
};

/** make has neither quotes nor escapes for what it splits at blanks. */
export function requirePlainPath(path: string): void {
  if (/^[A-Za-z0-9_./+~@,=-]+$/.test(path)) return;
  throw new KernelError(
    `make cannot build in ${JSON.stringify(path)}: another XDG_CACHE_HOME, without blanks`,
  );
}

/** Compiles KVM's modules in the tree: what is newer than its object. */
export async function makeKvm(options: MakeOptions): Promise<void> {
  const { tree, common, headers, logPath, signal, progress } = options;
  const headersAt = join(tree, headers);
  const commonAt = join(tree, common);
  writeFileSync(join(headersAt, "Makefile"), `include ${commonAt}/Makefile\n`);
  let count = 0;
  const onLine = (line: string): void => {
    const text = madeText(line);
    if (text === null) return;
    count += 1;
    progress(`${count}: ${text.replaceAll(`${commonAt}/`, "").replace("arch/x86/kvm/../../../", "")}`);
  };
  await runStep(
    [
      "nice",
      "make",
      "-C",
      headersAt,
      `M=${join(commonAt, "arch/x86/kvm")}`,
      ...makeVariables,
      `-j${availableParallelism()}`,
      "modules",
    ],
    { cwd: tree, signal, logPath, onLine, root: commonAt },
  );
}

/** The compiler that the headers name. */
function compilerOf(headers: string): string {
  const text = readFileSync(join(headers, ".kernelvariables"), "utf8");
  const name = /^CC = .*\b(gcc-[0-9]+)$/m.exec(text)?.[1];
  if (name === undefined) throw new KernelError(`${join(headers, ".kernelvariables")} names no gcc`);
  return `x86_64-linux-gnu-${name}`;
}

function folderIn(tree: string, pattern: RegExp): string {
  const name = readdirSync(join(tree, "usr/src")).find((one) => pattern.test(one));
  if (name === undefined) throw new KernelError(`the packages of headers have no usr/src/${pattern.source}`);
  return join("usr/src", name);
}

type BaseOptions = {
  readonly archive: DebianArchive;
  readonly kernel: KernelPackage;
  readonly logPath: string;
  readonly signal: AbortSignal;
  readonly progress: Progress;
};

/** From the archive of all sources: those of KVM, into the tree of the headers. */
async function unpackSources(tree: string, common: string, options: BaseOptions): Promise<void> {
  const { logPath, signal, progress } = options;
  progress("unpacking the sources of KVM");
  const name = readdirSync(join(tree, "usr/src")).find((one) => /^linux-source-.*\.tar\.xz$/.test(one));
  if (name === undefined) throw new KernelError("the package of sources has no linux-source-*.tar.xz");
  const archivePath = join(tree, "usr/src", name);
  const wanted = ["*/arch/x86/kvm/*", "*/virt/*"];
  const command = ["nice", "tar", "-xJf", archivePath, "--strip-components=1", "--wildcards", ...wanted];
  await runStep(command, { cwd: join(tree, common), signal, logPath });
  rmSync(archivePath);
}

/** Debian's packages have programs for each kind of machine behind a script. */
const kbuildTools: readonly string[] = [
  "scripts/basic/fixdep",
  "scripts/mod/modpost.real-lsb-64",
  "scripts/mod/modpost",
  "tools/objtool/objtool.real-x86",
  "tools/objtool/objtool",
];

/** Throws a KernelError where the package's programs are for a newer C library than this machine's. */
function requireKbuild(headers: string, { release, version }: KernelPackage): void {
  for (const path of kbuildTools.map((name) => join(headers, name)).filter(existsSync)) {
    // Without arguments they complain and end.
    const { stderr } = spawnSync(path, {
      encoding: "utf8",
      env: { ...process.env, SRCARCH: "x86" },
      timeout: 5000,
    });
    const [why] = /version `GLIBC_[0-9.]+' not found/.exec(stderr ?? "") ?? [];
    if (why === undefined) continue;
    throw new KernelError(
      `Debian's tools for modules of ${release} do not run on this machine (${why}): a Debian that ${version} is made for ` +
        "can build it, or a tree of your own (--kernel ./linux)",
    );
  }
}

const isSource = ({ name }: { readonly name: string }): boolean => name.startsWith("linux-source-");

/** Some of the packages, into the tree. */
async function unpackParts(
  work: string,
  packages: KernelPackage,
  { archive, signal, progress }: BaseOptions,
): Promise<void> {
  progress(`loading ${packages.parts.map(({ name }) => name).join(", ")}`);
  for (const path of await archive.download(packages, work)) {
    await unpackPackage(path, join(work, ENTRY), signal);
    rmSync(path);
  }
}

async function fillBase(work: string, packages: KernelPackage, options: BaseOptions): Promise<void> {
  const { kernel, logPath, signal, progress } = options;
  const { release } = kernel;
  const tree = join(work, ENTRY);
  mkdirSync(tree);
  const { parts } = packages;
  await unpackParts(work, { ...packages, parts: parts.filter((part) => !isSource(part)) }, options);
  const headers = join("usr/src", `linux-headers-${release}`);
  const common = folderIn(tree, /^linux-headers-.*-common$/);
  requireKbuild(join(tree, headers), kernel);
  requireCompiler(compilerOf(join(tree, headers)));
  // Ten times the size of the others.
  await unpackParts(work, { ...packages, parts: parts.filter(isSource) }, options);
  await unpackSources(tree, common, options);
  rmSync(join(tree, "usr/share"), { recursive: true, force: true });
  await makeKvm({ tree, common, headers, logPath, signal, progress });
  const facts = { builtAt: tree, release, common, headers };
  writeFileSync(join(tree, FACTS), `${JSON.stringify(facts, null, 2)}\n`);
}

/** The base of a kernel, which is made if it is not in the cache. Throws a KernelError. */
export async function kvmBase(options: BaseOptions): Promise<KvmBase> {
  const { archive, kernel, logPath } = options;
  const recipe = sha256(Buffer.from(KVM_RECIPE)).slice(0, 8);
  const directory = join(cacheDirectory(), "builds", `${kernel.release}_${kernel.version}_${recipe}`);
  requirePlainPath(directory);
  hold(cacheDirectory(), directory);
  if (factsOf(directory) === null) {
    mkdirSync(join(cacheDirectory(), "builds"), { recursive: true });
    requireRoom(join(cacheDirectory(), "builds"), BASE_BYTES);
    const packages = await archive.kvmBuildOf(kernel);
    await intoCache(directory, {
      what: `the headers and sources of ${kernel.release}`,
      neededBytes: packagesBytes(packages),
      isThere: () => factsOf(directory) !== null,
      fill(work) {
        writeFileSync(logPath, "");
        return fillBase(work, packages, options);
      },
    });
  }
  const facts = factsOf(directory);
  if (facts === null) throw new KernelError(`${directory} is not what was just written there`);
  return { directory, ...facts };
}

/** Files of kbuild that have paths in them. */
const withPaths = /\.(?:cmd|d|mod|mod\.c)$|^(?:modules\.order|Module\.symvers)$/;

/** Puts the copy's own path in place of the one that it was compiled at, and leaves the times as they are. */
function rewritePaths(directory: string, from: string, to: string): void {
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) rewritePaths(path, from, to);
    else if (entry.isFile() && withPaths.test(entry.name)) {
      const { atime, mtime } = lstatSync(path);
      const text = readFileSync(path, "utf8");
      if (!text.includes(from)) continue;
      writeFileSync(path, text.replaceAll(from, to));
      utimesSync(path, atime, mtime);
    }
  }
}

/** A copy of the base in `tree`, compiled as the base is. */
export async function copyBase(
  base: KvmBase,
  tree: string,
  step: { readonly signal: AbortSignal; readonly logPath: string },
): Promise<void> {
  if (existsSync(tree)) throw new KernelError(`${tree} is there already`);
  await runStep(["nice", "cp", "-a", "--reflink=auto", base.directory, tree], { cwd: "/", ...step });
  rewritePaths(join(tree, "usr/src"), base.builtAt, tree);
}
