/**
 * `daxfault kernels`: what `--kernel debian:...` can stand for on this machine, which patches can be built into it, and what is
 * in the cache. `--clean` empties the cache, `build SPEC` puts a kernel into it.
 */
import { dirname, join } from "node:path";
import { exitCodes } from "../../../language/src/index.ts";
import { DebianArchive, type KernelPackage, OWN_SUITES, searchedSuites } from "../kernel/apt.ts";
import { type CachedFolder, cachedFolders, cleanCache } from "../kernel/contents.ts";
import { KernelError } from "../kernel/error.ts";
import { builtInKvm, proposedKernels } from "../kernel/patches.ts";
import type { KernelSpec } from "../kernel/spec.ts";
import { cacheDirectory, cachedKernels, type Kernel, mebibytes } from "../kernel/store.ts";
import { visible } from "../report/encode.ts";
import { shellWord } from "../run/plan.ts";
import type { KernelsLine } from "./lines/kernels.ts";
import { type JsonOutput, openJson } from "./output.ts";
import { readyKernel } from "./ready-kernels.ts";
import { checkedSpec, UsageError } from "./usage.ts";

type Listed = { readonly kernels: readonly KernelPackage[]; readonly problems: readonly string[] };

/** The SPEC that stands for a suite's newest kernel; null for the machine's own sources, which are no suite. */
function suiteSpec(kernel: KernelPackage, kernels: readonly KernelPackage[]): string | null {
  const newest = kernels.find(({ suite }) => suite === kernel.suite);
  return kernel.suite === OWN_SUITES || newest !== kernel ? null : `debian:${kernel.suite}`;
}

/** Suite by suite, the newest first, each release once: in the first suite that has it. */
async function available(archive: DebianArchive): Promise<Listed> {
  const kernels = new Map<string, KernelPackage>();
  const problems: string[] = [];
  for (const suite of searchedSuites) {
    try {
      for (const kernel of await archive.suite(suite).kernels()) {
        if (!kernels.has(kernel.release)) kernels.set(kernel.release, kernel);
      }
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      problems.push(`${suite}: ${error.message}`);
    }
  }
  return { kernels: [...kernels.values()], problems };
}

type Output = JsonOutput<KernelsLine>;

function folderText({ path, kind, release, origin, patches, sizeBytes, isInUse }: CachedFolder): string {
  const names = patches.map(({ name, sha256 }) => `${name} (SHA-256 ${sha256.slice(0, 12)})`);
  const with_ = names.length === 0 ? "" : `, with ${names.join(", ")}`;
  const what = release === null ? kind : `${kind}: ${release} of ${origin}${with_}`;
  return `${mebibytes(sizeBytes).padStart(9)}  ${path}  ${what}${isInUse ? ", in use" : ""}`;
}

function writeFolders(
  type: "cached" | "removed" | "kept",
  folders: readonly CachedFolder[],
  json: Output,
): void {
  for (const folder of folders) {
    const { isInUse, ...facts } = folder;
    json.write({ type, ...facts, inUse: isInUse });
    if (!json.isStdout) console.log(visible(folderText(folder)));
  }
}

function writePackages(kernels: readonly KernelPackage[], json: Output): void {
  const cached = new Set(cachedKernels().map(({ release }) => release));
  for (const kernel of kernels) {
    const { suite, release, version, parts } = kernel;
    const newest = suiteSpec(kernel, kernels);
    const sizeBytes = parts.reduce((sum, part) => sum + part.sizeBytes, 0);
    const isCached = cached.has(release);
    const specs = [`debian:${version}`, ...(newest === null ? [] : [newest])];
    json.write({ type: "kernel", release, version, suite, specs, sizeBytes, cached: isCached });
    if (json.isStdout) continue;
    const note = isCached ? "in the cache" : `${mebibytes(sizeBytes)} to load`;
    const also = newest === null ? "" : `; also ${newest}`;
    const line = `debian:${version.padEnd(22)} ${release.padEnd(24)} ${suite.padEnd(17)} ${note}${also}`;
    console.log(visible(line));
  }
}

function writeProposals(json: Output): void {
  const proposals = proposedKernels();
  if (!json.isStdout && proposals.length > 0) console.log("\nPatches, behind a + (debian:6.12+NAME):");
  for (const proposal of proposals) {
    json.write({ type: "patch", ...proposal });
    if (json.isStdout) continue;
    const series = proposal.patches.map((file) => file.replace(/\.patch$/, "")).join(", ");
    console.log(visible(`+${proposal.name.padEnd(20)} ${proposal.about} (${series})`));
  }
}

export type KernelsOptions = { readonly json?: string; readonly clean?: boolean };

function clean(json: Output): number {
  const { removed, kept } = cleanCache();
  writeFolders("removed", removed, json);
  const bytes = removed.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  if (!json.isStdout) console.log(`removed: ${removed.length}, ${bytes} bytes`);
  if (kept.length > 0 && !json.isStdout) console.log("kept, for a process of daxfault uses them:");
  writeFolders("kept", kept, json);
  return exitCodes.ok;
}

export async function kernelsCommand(options: KernelsOptions): Promise<number> {
  if (options.clean === true) return clean(openJson<KernelsLine>(options.json));
  const { kernels, problems } = await available(new DebianArchive(join(cacheDirectory(), "apt")));
  const json = openJson<KernelsLine>(options.json);
  writePackages(kernels, json);
  writeProposals(json);
  const folders = cachedFolders();
  if (!json.isStdout && folders.length > 0) console.log("\nIn the cache (daxfault kernels --clean):");
  writeFolders("cached", folders, json);
  for (const problem of problems) console.error(`daxfault: ${visible(problem)}`);
  return kernels.length === 0 ? exitCodes.nothingRan : exitCodes.ok;
}

function isForGuests(spec: KernelSpec): boolean {
  return spec.kind === "small" || (spec.kind === "patched" && spec.base.kind === "small");
}

function builtLine(spec: KernelSpec, kernel: Kernel): KernelsLine & { readonly type: "built" } {
  const { imagePath, release, origin, patches, modules, nestedModules } = kernel;
  const option = isForGuests(spec) ? "--engine linux --guest-kernel" : "--kernel";
  return {
    type: "built",
    spec: spec.text,
    kvm: builtInKvm(spec),
    imagePath,
    release,
    origin,
    patches,
    modules: [...modules, ...nestedModules].map(({ name }) =>
      join(dirname(imagePath), "modules", `${name}.ko`),
    ),
    command: `daxfault run ${option} ${shellWord(spec.text)}`,
  };
}

/** `daxfault kernels build SPEC`. Throws a UsageError where it cannot be had. */
export async function kernelsBuildCommand(
  text: string,
  options: { readonly json?: string },
): Promise<number> {
  const spec = checkedSpec("daxfault kernels build", text);
  if (spec.kind === "file" || spec.kind === "host") {
    throw new UsageError(
      `daxfault kernels build ${text}: nothing is built of it: debian:6.12+PATCH, small+PATCH`,
    );
  }
  const role = isForGuests(spec) ? "guest" : "under-test";
  const kernel = await readyKernel({ spec, role, option: `daxfault kernels build ${text}` });
  if (typeof kernel === "number") return kernel;
  const json = openJson<KernelsLine>(options.json);
  const line = builtLine(spec, kernel);
  json.write(line);
  if (json.isStdout) return exitCodes.ok;
  console.log(`${line.spec}: ${line.release} of ${line.origin}, kvm=${line.kvm}`);
  for (const { name, sha256 } of line.patches) console.log(`patch   ${visible(name)} (SHA-256 ${sha256})`);
  console.log(`image   ${line.imagePath}`);
  for (const path of line.modules.filter((one) => /\/kvm[^/]*$/.test(one))) console.log(`module  ${path}`);
  console.log(line.command);
  return exitCodes.ok;
}
