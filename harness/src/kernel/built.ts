/**
 * Kernels of Debian's archive, as they are or built here from its sources: KVM's modules with patches, or the small kernel of
 * guests. Each is kept in the cache by its content: the version, the patches' texts, the way of building.
 */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { DebianArchive, type KernelPackage } from "./apt.ts";
import { applyPatches } from "./build/apply.ts";
import { buildKernel, requireRoom } from "./build/build.ts";
import { smallFragment } from "./build/config.ts";
import { KVM_RECIPE, kvmBase } from "./build/kvm-base.ts";
import { buildKvm, PATCHED_BYTES } from "./build/kvm-modules.ts";
import { requireBuildTools, requireKvmTools } from "./build/tools.ts";
import { KernelError } from "./error.ts";
import { type KernelRole, outsideKvm, type Patch, patchFacts, readPatches } from "./patches.ts";
import type { DebianSpec, PatchedSpec, SmallSpec } from "./spec.ts";
import {
  atHand,
  cacheDirectory,
  ENTRY,
  fromCache,
  type Kernel,
  type Progress,
  packagesBytes,
  sha256,
  storeBuilt,
  storePackage,
  storeWithModules,
  unpackPackage,
} from "./store.ts";

export type BuiltAsked = {
  readonly role: KernelRole;
  readonly signal: AbortSignal;
  readonly progress: Progress;
};

/** The series whose sources the small kernel is made of. */
const SMALL_SERIES = "6.12";
const HASH_DIGITS = 12;

const hashOf = (texts: readonly string[]): string =>
  sha256(Buffer.from(texts.join("\0"))).slice(0, HASH_DIGITS);

/** What of the patches decides what is built. */
const textsOf = (patches: readonly Patch[]): readonly string[] =>
  patches.flatMap(({ files }) => files.map(({ text }) => text));

const kernelFolder = (name: string): string => join(cacheDirectory(), "kernels", name);

function archiveOf(signal: AbortSignal): DebianArchive {
  return new DebianArchive(join(cacheDirectory(), "apt"), signal);
}

function packageOf(archive: DebianArchive, spec: DebianSpec): Promise<KernelPackage> {
  return spec.kind === "debian-suite" ? archive.newestOf(spec.suite) : archive.newestVersion(spec.version);
}

/** Makes something whose steps write to a log, which is kept where one of them fails: not of an interruption. */
async function logged<T>(logPath: string, signal: AbortSignal, make: () => Promise<T>): Promise<T> {
  try {
    const made = await make();
    rmSync(logPath, { force: true });
    return made;
  } catch (error) {
    if (signal.aborted) rmSync(logPath, { force: true });
    throw error;
  }
}

type Stock = { readonly archive: DebianArchive; readonly kernel: KernelPackage };

/** The package's own kernel. */
function stockKernel(
  name: string,
  { archive, kernel }: Stock,
  { role, signal }: BuiltAsked,
): Promise<Kernel> {
  const folder = kernelFolder(`${kernel.release}_${kernel.version}`);
  return atHand(name, folder, role, {
    what: kernel.name,
    neededBytes: packagesBytes(kernel),
    async fill(work) {
      const tree = join(work, "tree");
      for (const path of await archive.download(kernel, work)) await unpackPackage(path, tree, signal);
      storePackage(kernel, tree, join(work, ENTRY));
    },
  });
}

export async function debianKernel(spec: DebianSpec, asked: BuiltAsked): Promise<Kernel> {
  const archive = archiveOf(asked.signal);
  return stockKernel(spec.text, { archive, kernel: await packageOf(archive, spec) }, asked);
}

type SmallOptions = { readonly name: string; readonly series: string; readonly patches: readonly Patch[] };

/** The small kernel of guests: compiled here, once for each source, configuration and patches. */
async function smallWith({ name, series, patches }: SmallOptions, asked: BuiltAsked): Promise<Kernel> {
  const { role, signal, progress } = asked;
  const archive = archiveOf(signal);
  const kernel = await archive.sourceOf(series);
  const key = hashOf([smallFragment, ...textsOf(patches)]);
  const folder = kernelFolder(`small-${key}_${kernel.version}`);
  const logPath = join(cacheDirectory(), patches.length === 0 ? "build-small.log" : `build-small-${key}.log`);
  if (fromCache(name, folder, role) === null) {
    requireBuildTools({ patched: patches.length > 0 });
    mkdirSync(dirname(folder), { recursive: true });
    requireRoom(dirname(folder));
    progress(`loading ${kernel.name} ${kernel.version}`);
  }
  const making = {
    what: kernel.name,
    neededBytes: packagesBytes(kernel),
    async fill(work: string) {
      writeFileSync(logPath, "");
      const tree = join(work, "tree");
      for (const path of await archive.download(kernel, work)) await unpackPackage(path, tree, signal);
      const archivePath = join(tree, "usr/src", `${kernel.name}.tar.xz`);
      const options = { archivePath, fragment: smallFragment, directory: work, logPath, signal, progress };
      const prepare = (source: string): Promise<void> =>
        applyPatches(patches, { source, version: kernel.version, work, logPath, signal });
      const { imagePath, configPath } = await buildKernel({ ...options, prepare });
      storeBuilt({ kernel, imagePath, configPath, patches: patchFacts(patches) }, join(work, ENTRY));
    },
  };
  const built = await logged(logPath, signal, () => atHand(name, folder, role, making));
  return { ...built, patches: patchFacts(patches) };
}

export async function smallKernel(spec: SmallSpec, asked: BuiltAsked): Promise<Kernel> {
  requireGuest(spec.text, asked.role);
  return smallWith({ name: spec.text, series: SMALL_SERIES, patches: [] }, asked);
}

function requireGuest(text: string, role: KernelRole): void {
  if (role === "guest") return;
  throw new KernelError(`${text} is the kernel of Linux guests (--guest-kernel ${text})`);
}

/** `6.12` of `6.12.117+deb12-amd64`. */
export function seriesOf(release: string): string {
  return /^[0-9]+\.[0-9]+/.exec(release)?.[0] ?? release;
}

/** A package's kernel with modules of KVM that were compiled here. */
async function kvmWith(
  name: string,
  stock: Stock,
  patches: readonly Patch[],
  asked: BuiltAsked,
): Promise<Kernel> {
  const { kernel } = stock;
  const { role, signal, progress } = asked;
  const key = hashOf([KVM_RECIPE, ...textsOf(patches)]);
  const folder = kernelFolder(`${kernel.release}_${kernel.version}_${key}`);
  const logPath = join(cacheDirectory(), `build-kvm-${key}.log`);
  const facts = patchFacts(patches);
  const built = fromCache(name, folder, role);
  if (built !== null) return { ...built, patches: facts };
  requireKvmTools();
  const image = await stockKernel(name, stock, asked);
  const made = await logged(logPath, signal, async () => {
    const base = await kvmBase({ ...stock, signal, progress, logPath });
    return atHand(name, folder, role, {
      what: `${kernel.name} with ${facts.map((patch) => patch.name).join(", ")}`,
      neededBytes: PATCHED_BYTES,
      async fill(work) {
        const steps = { work, logPath, signal, progress };
        const modules = await buildKvm({ base, patches, version: kernel.version, ...steps });
        storeWithModules(dirname(image.imagePath), { modules, patches: facts }, join(work, ENTRY));
      },
    });
  });
  return { ...made, patches: facts };
}

const BUILT_HERE = "what is built here for it is KVM's modules: virt/kvm, arch/x86/kvm and KVM's headers";

/** Throws a KernelError: a patch that is not there, does not apply or compile, or changes what is not built here. */
export async function patchedKernel(spec: PatchedSpec, asked: BuiltAsked): Promise<Kernel> {
  const { role } = asked;
  const { base, text } = spec;
  if (base.kind === "small") {
    requireGuest(text, role);
    const patches = readPatches(spec.patches, { series: SMALL_SERIES, role });
    return smallWith({ name: text, series: SMALL_SERIES, patches }, asked);
  }
  const archive = archiveOf(asked.signal);
  const kernel = await packageOf(archive, base);
  const series = seriesOf(kernel.release);
  const patches = readPatches(spec.patches, { series, role });
  const [outside] = outsideKvm(patches);
  if (outside === undefined) return kvmWith(text, { archive, kernel }, patches, asked);
  // A guest's kernel needs no modules: built-in code is no obstacle.
  if (role === "guest") return smallWith({ name: text, series, patches }, asked);
  throw new KernelError(
    `${outside} is not of KVM's modules; ${BUILT_HERE}. Build the whole tree and name it (--kernel ./linux), or ` +
      `have a guest with it (--guest-kernel small+..)`,
  );
}
