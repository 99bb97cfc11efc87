/**
 * Kernels at hand: what a SPEC means on this machine, downloaded and unpacked where need be. The cache
 * (`$XDG_CACHE_HOME/daxfault`, else `~/.cache/daxfault`) keeps of a package only what boots here: the image and the
 * modules that we load, uncompressed, in the order of loading, with checksums that are looked at at each use.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { homedir, release as hostRelease } from "node:os";
import { dirname, join, resolve } from "node:path";
import { z } from "zod";
import { errorText } from "../error-text.ts";
import { DebianArchive, type KernelPackage } from "./apt.ts";
import { buildKernel, requireRoom } from "./build/build.ts";
import { parseConfig, smallFragment } from "./build/config.ts";
import { requireBuildTools } from "./build/tools.ts";
import { KernelError } from "./error.ts";
import { readImage } from "./image.ts";
import { configOfImage } from "./image-config.ts";
import {
  neededGuestModules,
  neededModules,
  wantedGuestModules,
  wantedModules,
  wantedNestedModules,
} from "./initramfs.ts";
import { type ModuleFile, ModuleTree, moduleRelease } from "./modules.ts";
import { guestLacks } from "./needs.ts";
import type { KernelSpec } from "./spec.ts";

/** What a kernel is booted for, which decides its modules: cases inside, or the guest of a VMM of ours. */
export type KernelRole = "under-test" | "guest";

/** A kernel that can be booted. */
export type Kernel = {
  /** The SPEC's text. */
  readonly name: string;
  readonly imagePath: string;
  /** `uname -r` that it must have; null where the image does not contain it. */
  readonly release: string | null;
  /** In the order of loading. */
  readonly modules: readonly ModuleFile[];
  /** Of a guest: those of its own KVM, after `modules`; empty where it has none, or is no guest. */
  readonly nestedModules: readonly ModuleFile[];
  /** The text of its configuration, where a guest's is at hand; else null. */
  readonly config: string | null;
  /** Its origin, for output: a package and its version, or a path. */
  readonly origin: string;
  /** SHA-256 of the image. */
  readonly sha256: string;
};

/** The cache's entry of a kernel (`kernel.json`). */
export type CacheEntry = {
  readonly package: string;
  readonly version: string;
  readonly suite: string;
  readonly release: string;
  /** SHA-256 of the packages, as the archive's signed index has them. */
  readonly packages: Readonly<Record<string, string>>;
  /** SHA-256 of the image. */
  readonly image: string;
  /** In the order of loading. */
  readonly modules: readonly { readonly name: string; readonly sha256: string }[];
};

const entryShape: z.ZodType<CacheEntry> = z.strictObject({
  package: z.string(),
  version: z.string(),
  suite: z.string(),
  release: z.string(),
  packages: z.record(z.string(), z.string()),
  image: z.string(),
  modules: z.array(z.strictObject({ name: z.string(), sha256: z.string() })),
});

const modulesShape = z.array(z.strictObject({ name: z.string(), sha256: z.string() }));

type GuestEntry = {
  readonly modules: CacheEntry["modules"];
  /** Needed, and neither there nor in the image. */
  readonly missing: readonly string[];
};

/**
 * The modules of a guest, beside the entry (`guest.json`), and those of its own KVM (`nested.json`): a cache that was filled
 * before there were such guests is filled again only when one is asked for.
 */
const guestEntryShape: z.ZodType<GuestEntry> = z.strictObject({
  modules: modulesShape,
  missing: z.array(z.string()),
});
const nestedEntryShape: z.ZodType<Pick<GuestEntry, "modules">> = z.strictObject({ modules: modulesShape });

const noRoom = /no space left on device/i;
const OTHER_PLACE = "XDG_CACHE_HOME names another place";
const UNPACK_BOUND_MS = 300_000;
const UNPACK_PREFIX = ".unpack-";
/** In such a folder: what becomes the kernel's own. */
const ENTRY = "entry";
/** The series whose sources the small kernel is made of. */
const SMALL_VERSION = "6.12";
const CONFIG_HASH_DIGITS = 12;
/** Far beyond what loading and unpacking may take. */
const ABANDONED_MS = 24 * 60 * 60 * 1000;

/** Where the cache lies. */
export function cacheDirectory(): string {
  const base = process.env.XDG_CACHE_HOME;
  return join(base === undefined || base === "" ? join(homedir(), ".cache") : resolve(base), "daxfault");
}

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
const mebibytes = (bytes: number): string => `${Math.ceil(bytes / 1024 / 1024)} MiB`;

function readJson<T>(path: string, shape: z.ZodType<T>): T | null {
  try {
    return shape.parse(JSON.parse(readFileSync(path, "utf8")));
  } catch {
    return null; // Not there, or half of something: made anew.
  }
}

function readEntry(folder: string): CacheEntry | null {
  return readJson(join(folder, "kernel.json"), entryShape);
}

/** All kernels in the cache. */
export function cachedKernels(directory: string = cacheDirectory()): readonly CacheEntry[] {
  const folder = join(directory, "kernels");
  if (!existsSync(folder)) return [];
  return readdirSync(folder).flatMap((name) => readEntry(join(folder, name)) ?? []);
}

type ModuleEntries = CacheEntry["modules"];

/** null: not there, or from before. Throws a KernelError where the kernel lacks what a guest needs. */
function readGuestEntries(
  folder: string,
): Readonly<Record<"modules" | "nestedModules", ModuleEntries>> | null {
  const guest = readJson(join(folder, "guest.json"), guestEntryShape);
  const nested = readJson(join(folder, "nested.json"), nestedEntryShape);
  if (guest === null || nested === null) return null;
  if (guest.missing.length > 0) throw new KernelError(lackText(guest.missing));
  return { modules: guest.modules, nestedModules: nested.modules };
}

function lackText(missing: readonly string[]): string {
  return `it cannot be a guest: ${missing.join(", ")}: neither in the image nor among its modules`;
}

/** Throws a KernelError where the configuration of a guest's kernel is at hand, and lacks something. */
function checkedGuest(kernel: Kernel): Kernel {
  if (kernel.config === null) return kernel;
  const lacks = guestLacks(parseConfig(kernel.config), kernel.modules.length > 0);
  if (lacks.length > 0) throw new KernelError(`it cannot be a guest: ${lacks.join("; ")}`);
  return kernel;
}

/** The kernel of a cache entry; null if anything of it is not what was put there. */
function fromCache(name: string, folder: string, role: KernelRole): Kernel | null {
  const entry = readEntry(folder);
  if (entry === null) return null;
  const wanted = role === "guest" ? readGuestEntries(folder) : { ...entry, nestedModules: [] };
  if (wanted === null) return null;
  const imagePath = join(folder, "vmlinuz");
  const read = (path: string): Uint8Array => (existsSync(path) ? readFileSync(path) : new Uint8Array());
  if (sha256(read(imagePath)) !== entry.image) return null;
  const readModules = (entries: ModuleEntries): readonly ModuleFile[] | null => {
    const files = entries.map(({ name }) => ({ name, bytes: read(join(folder, "modules", `${name}.ko`)) }));
    return entries.every((one, i) => sha256(files[i]?.bytes ?? new Uint8Array()) === one.sha256)
      ? files
      : null;
  };
  const modules = readModules(wanted.modules);
  const nestedModules = readModules(wanted.nestedModules);
  if (modules === null || nestedModules === null) return null;
  const origin = `${entry.package} ${entry.version}`;
  const configPath = join(folder, "config");
  const config = role === "guest" && existsSync(configPath) ? readFileSync(configPath, "utf8") : null;
  const { release, image } = entry;
  return { name, imagePath, release, modules, nestedModules, config, origin, sha256: image };
}

/** The modules that are loaded inside, of a kernel whose image holds the others. */
function modulesOf(tree: ModuleTree): readonly ModuleFile[] {
  return tree.loadOrder([...neededModules, ...wantedModules.filter((name) => tree.has(name))]);
}

type GuestModules = Pick<Kernel, "modules" | "nestedModules"> & {
  readonly missing: readonly string[];
};

/** The same for a guest, and what it lacks. */
function guestModulesOf(tree: ModuleTree): GuestModules {
  const there = (names: readonly string[]): readonly string[] => names.filter((name) => tree.has(name));
  const usual = there([...neededGuestModules, ...wantedGuestModules]);
  const modules = tree.loadOrder(usual);
  const all = tree.loadOrder([...usual, ...there(wantedNestedModules)]);
  return {
    modules,
    nestedModules: all.slice(modules.length),
    missing: neededGuestModules.filter((name) => !tree.has(name)),
  };
}

/** Removes the remains of a run that was killed while it unpacked: hundreds of megabytes. */
function removeAbandoned(directory: string): void {
  for (const name of readdirSync(directory).filter((one) => one.startsWith(UNPACK_PREFIX))) {
    const path = join(directory, name);
    const age = Date.now() - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Date.now());
    if (age > ABANDONED_MS) rmSync(path, { recursive: true, force: true });
  }
}

function checkRoom(directory: string, kernel: KernelPackage): void {
  const needed = kernel.parts.reduce((sum, part) => sum + part.sizeBytes + part.installedBytes, 0);
  const { bavail, bsize } = statfsSync(directory);
  const free = bavail * bsize;
  if (free >= needed) return;
  throw new KernelError(
    `no room for ${kernel.name}: it takes ${mebibytes(needed)} to unpack, ${directory} has ${mebibytes(free)} ` +
      `(${OTHER_PLACE})`,
  );
}

function unpack(packagePath: string, folder: string, signal: AbortSignal): Promise<void> {
  return new Promise((done, reject) => {
    const options = { timeout: UNPACK_BOUND_MS, signal };
    execFile("dpkg-deb", ["-x", packagePath, folder], options, (error, _out, stderr) => {
      if (error === null) return done();
      const lines = stderr.trim().split("\n");
      // dpkg-deb's own last word is that tar has failed.
      const said = lines.find((line) => noRoom.test(line)) ?? (lines.at(-1) || error.message);
      reject(new KernelError(`dpkg-deb -x ${packagePath}: ${said}`));
    });
  });
}

function entriesOf(modules: readonly ModuleFile[]): ModuleEntries {
  return modules.map(({ name, bytes }) => ({ name, sha256: sha256(bytes) }));
}

function entryOf(kernel: KernelPackage, imagePath: string): Omit<CacheEntry, "modules"> {
  return {
    package: kernel.name,
    version: kernel.version,
    suite: kernel.suite,
    release: kernel.release,
    packages: Object.fromEntries(kernel.parts.map((part) => [part.name, part.sha256])),
    image: sha256(readFileSync(imagePath)),
  };
}

type Entries = {
  readonly "guest.json": GuestEntry;
  readonly "nested.json": Pick<GuestEntry, "modules">;
  /** The last one: without it there is no kernel in the folder. */
  readonly "kernel.json": CacheEntry;
};

function writeEntries(folder: string, entries: Entries): void {
  for (const [name, content] of Object.entries(entries)) {
    writeFileSync(join(folder, name), `${JSON.stringify(content, null, 2)}\n`);
  }
}

/** From the unpacked tree to a folder of the cache. Modules lie in /lib or /usr/lib. */
function store(kernel: KernelPackage, tree: string, folder: string): void {
  const modulesAt = [join(tree, "lib/modules"), join(tree, "usr/lib/modules")]
    .map((parent) => join(parent, kernel.release))
    .find(existsSync);
  if (modulesAt === undefined) throw new KernelError(`${kernel.name} has no lib/modules/${kernel.release}`);
  const places = [join(tree, "boot", `vmlinuz-${kernel.release}`), join(modulesAt, "vmlinuz")];
  const image = places.find(existsSync);
  if (image === undefined) throw new KernelError(`${kernel.name} has no vmlinuz`);
  readImage(image);
  const modulesTree = new ModuleTree(modulesAt);
  const modules = modulesOf(modulesTree);
  const guest = guestModulesOf(modulesTree);
  mkdirSync(join(folder, "modules"), { recursive: true });
  copyFileSync(image, join(folder, "vmlinuz"));
  const config = join(tree, "boot", `config-${kernel.release}`);
  if (existsSync(config)) copyFileSync(config, join(folder, "config"));
  for (const { name, bytes } of [...modules, ...guest.modules, ...guest.nestedModules]) {
    writeFileSync(join(folder, "modules", `${name}.ko`), bytes);
  }
  writeEntries(folder, {
    "guest.json": { modules: entriesOf(guest.modules), missing: guest.missing },
    "nested.json": { modules: entriesOf(guest.nestedModules) },
    "kernel.json": { ...entryOf(kernel, join(folder, "vmlinuz")), modules: entriesOf(modules) },
  });
}

/** What takes minutes says what it is doing. */
export type Progress = (text: string) => void;

type Source = {
  readonly archive: DebianArchive;
  readonly kernel: KernelPackage;
  readonly signal: AbortSignal;
  readonly role: KernelRole;
};

/** From package files in `work` to the entry of the cache, in `work` as well. */
type Fill = (packages: readonly string[], work: string) => Promise<void>;

/** The kernel in `folder` of the cache, which `fill` makes if it is not there. */
async function atHand(
  name: string,
  folder: string,
  { archive, kernel, role }: Source,
  fill: Fill,
): Promise<Kernel> {
  const cached = fromCache(name, folder, role);
  if (cached !== null) return cached;
  mkdirSync(dirname(folder), { recursive: true });
  removeAbandoned(dirname(folder));
  checkRoom(dirname(folder), kernel);
  // Made beside its place and moved there in one step: no other run sees half a kernel.
  const work = mkdtempSync(join(dirname(folder), UNPACK_PREFIX));
  try {
    await fill(await archive.download(kernel, work), work);
    rmSync(folder, { recursive: true, force: true });
    renameSync(join(work, ENTRY), folder);
  } catch (error) {
    const message =
      error instanceof KernelError ? error.message : `${kernel.name} into the cache: ${errorText(error)}`;
    throw new KernelError(noRoom.test(message) ? `${message} (${OTHER_PLACE})` : message);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  const stored = fromCache(name, folder, role);
  if (stored === null) throw new KernelError(`${folder} is not what was just written there`);
  return stored;
}

function fromArchive(name: string, source: Source): Promise<Kernel> {
  const { kernel, signal } = source;
  const folder = join(cacheDirectory(), "kernels", `${kernel.release}_${kernel.version}`);
  return atHand(name, folder, source, async (packages, work) => {
    const tree = join(work, "tree");
    for (const path of packages) await unpack(path, tree, signal);
    store(kernel, tree, join(work, ENTRY));
  });
}

/** A kernel that was compiled here: its image and its configuration; it has no modules. */
function storeBuilt(kernel: KernelPackage, imagePath: string, configPath: string, folder: string): void {
  const { release } = readImage(imagePath);
  mkdirSync(folder);
  copyFileSync(imagePath, join(folder, "vmlinuz"));
  copyFileSync(configPath, join(folder, "config"));
  writeEntries(folder, {
    "guest.json": { modules: [], missing: [] },
    "nested.json": { modules: [] },
    "kernel.json": { ...entryOf(kernel, join(folder, "vmlinuz")), release: release ?? "", modules: [] },
  });
}

/** The small kernel of guests: compiled here, once for each source and configuration. */
async function fromSource(name: string, source: Source, progress: Progress): Promise<Kernel> {
  const { kernel, signal } = source;
  const made = sha256(Buffer.from(smallFragment)).slice(0, CONFIG_HASH_DIGITS);
  const folder = join(cacheDirectory(), "kernels", `${name}-${made}_${kernel.version}`);
  const logPath = join(cacheDirectory(), `build-${name}.log`);
  if (fromCache(name, folder, source.role) === null) {
    requireBuildTools();
    mkdirSync(dirname(folder), { recursive: true });
    requireRoom(dirname(folder));
    progress(`loading ${kernel.name} ${kernel.version}`);
  }
  return atHand(name, folder, source, async (packages, work) => {
    writeFileSync(logPath, "");
    const tree = join(work, "tree");
    for (const path of packages) await unpack(path, tree, signal);
    const archivePath = join(tree, "usr/src", `${kernel.name}.tar.xz`);
    const options = { archivePath, fragment: smallFragment, directory: work, logPath, signal, progress };
    const { imagePath, configPath } = await buildKernel(options);
    storeBuilt(kernel, imagePath, configPath, join(work, ENTRY));
    rmSync(logPath, { force: true });
  });
}

/** A file of the user's, with its modules where some were named. */
function fromFile(
  name: string,
  imagePath: string,
  modulesDirectory: string | null,
  role: KernelRole,
): Kernel {
  const { release } = readImage(imagePath);
  const none = { modules: [], nestedModules: [] };
  const { modules, nestedModules } =
    modulesDirectory === null ? none : ownModules(modulesDirectory, release, role);
  const path = resolve(imagePath);
  return {
    name,
    imagePath: path,
    release,
    modules,
    nestedModules,
    config: role === "guest" ? configOfImage(path, release) : null,
    origin: path,
    sha256: sha256(readFileSync(path)),
  };
}

/** Those that are loaded. The kernel would refuse another one's: reported here, before anything is booted. */
function ownModules(
  directory: string,
  release: string | null,
  role: KernelRole,
): Pick<Kernel, "modules" | "nestedModules"> {
  const tree = modulesTree(directory, release);
  const guest = role === "guest" ? guestModulesOf(new ModuleTree(tree)) : null;
  if (guest !== null && guest.missing.length > 0) throw new KernelError(lackText(guest.missing));
  const modules = guest?.modules ?? modulesOf(new ModuleTree(tree));
  const nestedModules = guest?.nestedModules ?? [];
  const strange = modules.find(({ bytes }) => ![null, release].includes(moduleRelease(bytes)));
  if (release !== null && strange !== undefined) {
    const other = moduleRelease(strange.bytes);
    throw new KernelError(`${tree} has modules of ${other} (${strange.name}), the image is of ${release}`);
  }
  return { modules, nestedModules };
}

/** `make modules_install INSTALL_MOD_PATH=DIR` puts them into DIR/lib/modules/RELEASE: either end of that path is good. */
function modulesTree(directory: string, release: string | null): string {
  const parent = join(directory, "lib/modules");
  if (release === null || !existsSync(parent)) return directory;
  const tree = join(parent, release);
  if (existsSync(tree)) return tree;
  const others = readdirSync(parent).join(", ");
  throw new KernelError(`${parent} has ${others === "" ? "nothing" : others}, the image is of ${release}`);
}

/** The running kernel's image, where distributions put it. */
function fromHost(name: string, role: KernelRole): Kernel {
  const release = hostRelease();
  const places = [`/boot/vmlinuz-${release}`, `/lib/modules/${release}/vmlinuz`];
  const image = places.find(existsSync);
  if (image === undefined) {
    throw new KernelError(
      `the running kernel's image is not on this machine: neither ${places.join(" nor ")} is there ` +
        "(--kernel FILE --modules DIR, if it is somewhere else)",
    );
  }
  const modules = `/lib/modules/${release}`;
  return fromFile(name, image, existsSync(modules) ? modules : null, role);
}

/**
 * The kernel that a SPEC means, at hand. Downloads and unpacks it if it is not in the cache.
 * @param modulesDirectory for images in files: where their modules are, or null if they need none
 * Throws a KernelError, whose message is for the user.
 */
export async function obtainKernel(
  spec: KernelSpec,
  modulesDirectory: string | null,
  signal: AbortSignal = new AbortController().signal,
  role: KernelRole = "under-test",
  progress: Progress = () => {},
): Promise<Kernel> {
  const kernel = await kernelOf({ spec, modulesDirectory, signal, role, progress });
  return role === "guest" ? checkedGuest(kernel) : kernel;
}

type Asked = {
  readonly spec: KernelSpec;
  readonly modulesDirectory: string | null;
  readonly signal: AbortSignal;
  readonly role: KernelRole;
  readonly progress: Progress;
};

async function kernelOf({ spec, modulesDirectory, signal, role, progress }: Asked): Promise<Kernel> {
  switch (spec.kind) {
    case "small": {
      if (role !== "guest")
        throw new KernelError(`${spec.text} is the kernel of Linux guests (--guest-kernel ${spec.text})`);
      const archive = new DebianArchive(join(cacheDirectory(), "apt"), signal);
      const kernel = await archive.sourceOf(SMALL_VERSION);
      return fromSource(spec.text, { archive, kernel, signal, role }, progress);
    }
    case "file":
      return fromFile(spec.text, spec.path, modulesDirectory, role);
    case "host":
      return fromHost(spec.text, role);
    case "debian-suite":
    case "debian-version": {
      const archive = new DebianArchive(join(cacheDirectory(), "apt"), signal);
      const kernel =
        spec.kind === "debian-suite"
          ? await archive.newestOf(spec.suite)
          : await archive.newestVersion(spec.version);
      return fromArchive(spec.text, { archive, kernel, signal, role });
    }
  }
}
