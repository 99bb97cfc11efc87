/**
 * What KVM's modules of a Debian kernel are compiled against: its headers, its tools of kbuild and its sources of KVM in one
 * tree, compiled once without a patch. A build with patches copies the tree with its times, so that make compiles what the
 * patches touch and nothing else.
 */
import {
  cpSync,
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
import {
  compilerVariables,
  type ForeignTools,
  foreignTools,
  makeTools,
  toolSources,
} from "./kbuild-tools.ts";
import { runStep } from "./step.ts";
import { ownKbuildProblem, requireCompiler } from "./tools.ts";

export type KvmBase = {
  readonly directory: string;
  /** Where it was compiled, which its files of kbuild have in them. */
  readonly builtAt: string;
  readonly release: string;
  /** `usr/src/linux-headers-6.12.117+deb12-common`: where sources and headers are. */
  readonly common: string;
  /** `usr/src/linux-headers-6.12.117+deb12-amd64`: where make begins. */
  readonly headers: string;
  /** What make is given besides, where kbuild's programs and the compiler are this machine's. */
  readonly variables: readonly string[];
};

const FACTS = "base.json";
const factsShape = z.strictObject({
  builtAt: z.string(),
  release: z.string(),
  common: z.string(),
  headers: z.string(),
  variables: z.array(z.string()).default([]),
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
  readonly variables: readonly string[];
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

/** The package's Makefile, which names where it is installed, for where it is. */
function placeMakefile(headersAt: string, commonAt: string): void {
  const path = join(headersAt, "Makefile");
  const hasOutput = existsSync(path) && /^KBUILD_OUTPUT=/m.test(readFileSync(path, "utf8"));
  writeFileSync(path, `${hasOutput ? `KBUILD_OUTPUT=${headersAt}\n` : ""}include ${commonAt}/Makefile\n`);
}

/** Compiles KVM's modules in the tree: what is newer than its object. */
export async function makeKvm(options: MakeOptions): Promise<void> {
  const { tree, common, headers, variables, logPath, signal, progress } = options;
  const headersAt = join(tree, headers);
  const commonAt = join(tree, common);
  placeMakefile(headersAt, commonAt);
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
      ...variables,
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

/** From the archive of all sources: those of KVM, into the tree of the headers; further ones into `work`, whose path is returned. */
async function unpackSources(
  { tree, common, work }: Readonly<Record<"tree" | "common" | "work", string>>,
  further: readonly string[],
  { logPath, signal, progress }: BaseOptions,
): Promise<string> {
  progress("unpacking the sources of KVM");
  const name = readdirSync(join(tree, "usr/src")).find((one) => /^linux-source-.*\.tar\.xz$/.test(one));
  if (name === undefined) throw new KernelError("the package of sources has no linux-source-*.tar.xz");
  const archivePath = join(tree, "usr/src", name);
  const to = join(work, "sources");
  mkdirSync(to);
  const wanted = ["--wildcards", "--no-wildcards-match-slash", "*/arch/x86/kvm", "*/virt", ...further];
  const command = ["nice", "tar", "-xJf", archivePath, "--strip-components=1", ...wanted];
  await runStep(command, { cwd: to, signal, logPath });
  rmSync(archivePath);
  for (const folder of ["arch/x86/kvm", "virt"]) {
    cpSync(join(to, folder), join(tree, common, folder), { recursive: true });
  }
  return to;
}

/** Throws a KernelError where Debian's programs do not run here, and cannot be made. */
function refuseForeign({ why }: ForeignTools, { release, version }: KernelPackage, problem: string): never {
  throw new KernelError(
    `Debian's tools for modules of ${release} do not run on this machine (${why}), and they cannot be made here: ${problem}. ` +
      `A Debian that ${version} is made for can build it, or a tree of your own (--kernel ./linux)`,
  );
}

/** Compiles kbuild's programs here. Returns what make is given from then on. Throws a KernelError. */
async function ownTools(
  { tree, common, headers }: Readonly<Record<"tree" | "common" | "headers", string>>,
  {
    tools,
    source,
    compiler,
  }: { readonly tools: ForeignTools; readonly source: string; readonly compiler: string },
  { kernel, logPath, signal, progress }: BaseOptions,
): Promise<readonly string[]> {
  progress("compiling kbuild's programs: the package's do not run here");
  const headersAt = join(tree, headers);
  const commonAt = join(tree, common);
  const variables = compilerVariables(compiler, source, readFileSync(join(headersAt, ".config"), "utf8"));
  placeMakefile(headersAt, commonAt);
  const places = { headers: headersAt, common: commonAt, source };
  try {
    await makeTools({ tools, ...places, variables, logPath, signal });
  } catch (error) {
    if (signal.aborted || !(error instanceof KernelError)) throw error;
    refuseForeign(tools, kernel, error.message);
  }
  return variables;
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
  const compiler = compilerOf(join(tree, headers));
  const tools = foreignTools(join(tree, headers));
  if (tools === null) requireCompiler(compiler);
  else {
    const problem = ownKbuildProblem();
    if (problem !== null) refuseForeign(tools, kernel, problem);
  }
  // Ten times the size of the others.
  await unpackParts(work, { ...packages, parts: parts.filter(isSource) }, options);
  const source = await unpackSources({ tree, common, work }, tools === null ? [] : toolSources, options);
  rmSync(join(tree, "usr/share"), { recursive: true, force: true });
  const at = { tree, common, headers };
  const variables = tools === null ? [] : await ownTools(at, { tools, source, compiler }, options);
  await makeKvm({ ...at, variables, logPath, signal, progress });
  const facts = { builtAt: tree, release, common, headers, ...(tools === null ? {} : { variables }) };
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
