/**
 * The folders of the cache (`$XDG_CACHE_HOME/daxfault`, else `~/.cache/daxfault`). Of a kernel it keeps only what boots here:
 * the image and the modules that we load, uncompressed, in the order of loading, with checksums that are looked at at each
 * use. A folder is made beside its place and moved there in one step: no other run sees half of it.
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import {
  copyFileSync,
  cpSync,
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
import { homedir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import type { PatchFacts } from "../../../language/src/index.ts";
import { errorText } from "../error-text.ts";
import type { KernelPackage } from "./apt.ts";
import { KernelError } from "./error.ts";
import { type GroupEnd, runGroup, textOf } from "./group.ts";
import { readImage } from "./image.ts";
import { hold } from "./in-use.ts";
import {
  neededGuestModules,
  neededModules,
  wantedGuestModules,
  wantedModules,
  wantedNestedModules,
} from "./initramfs.ts";
import { type ModuleFile, ModuleTree } from "./modules.ts";
import type { KernelRole } from "./patches.ts";

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
  /** Of a guest: virtio by PCI, before `modules`, as a module of which may be there again; empty where the image has it. */
  readonly pciModules: readonly ModuleFile[];
  /** The text of its configuration, where a guest's is at hand; else null. */
  readonly config: string | null;
  /** Its origin, for output: a package and its version, or a path. */
  readonly origin: string;
  /** SHA-256 of the image. */
  readonly sha256: string;
  /** Of a kernel that was built here: what its sources were patched with, in this order. Else empty. */
  readonly patches: readonly PatchFacts[];
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
  /** Of a kernel that was built here with patches: as the SPEC of its first use named them. */
  readonly patches?: readonly PatchFacts[];
};

const entryShape: z.ZodType<CacheEntry> = z.strictObject({
  package: z.string(),
  version: z.string(),
  suite: z.string(),
  release: z.string(),
  packages: z.record(z.string(), z.string()),
  image: z.string(),
  modules: z.array(z.strictObject({ name: z.string(), sha256: z.string() })),
  patches: z.array(z.strictObject({ name: z.string(), sha256: z.string() })).exactOptional(),
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

export const noRoom: RegExp = /no space left on device/i;
const OTHER_PLACE = "XDG_CACHE_HOME names another place";
const UNPACK_BOUND_MS = 300_000;
export const WORK_PREFIX = ".unpack-";
/** What there was no time to remove; `WORK_PREFIX` is a part of it. */
const REMOVED_PREFIX = `${WORK_PREFIX}removed-`;
const REMOVE_BOUND_MS = 2000;
const PCI_DRIVER = "virtio_pci";
/** In such a folder: what becomes the cache's. */
export const ENTRY = "entry";
/** Far beyond what loading and unpacking may take. */
const ABANDONED_MS = 24 * 60 * 60 * 1000;

/** Where the cache lies. */
export function cacheDirectory(): string {
  const base = process.env.XDG_CACHE_HOME;
  return join(base === undefined || base === "" ? join(homedir(), ".cache") : resolve(base), "daxfault");
}

export const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
export const mebibytes = (bytes: number): string => `${Math.ceil(bytes / 1024 / 1024)} MiB`;

function readJson<T>(path: string, shape: z.ZodType<T>): T | null {
  try {
    return shape.parse(JSON.parse(readFileSync(path, "utf8")));
  } catch {
    return null; // Not there, or half of something: made anew.
  }
}

export function readEntry(folder: string): CacheEntry | null {
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

export function lackText(missing: readonly string[]): string {
  return `it cannot be a guest: ${missing.join(", ")}: neither in the image nor among its modules`;
}

/**
 * A module of a list and what it needs, from the entry of a kernel under test, which begins with it (`neededModules`): those
 * before it. Empty where the image has it.
 */
function withNeeds(entries: ModuleEntries, name: string): ModuleEntries {
  return entries.slice(0, entries.findIndex((entry) => entry.name === name) + 1);
}

/** The kernel of a cache entry; null if anything of it is not what was put there. */
export function fromCache(name: string, folder: string, role: KernelRole): Kernel | null {
  hold(cacheDirectory(), folder);
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
  const pciModules = role === "guest" ? readModules(withNeeds(entry.modules, PCI_DRIVER)) : [];
  if (modules === null || nestedModules === null || pciModules === null) return null;
  const origin = `${entry.package} ${entry.version}`;
  const configPath = join(folder, "config");
  const config = role === "guest" && existsSync(configPath) ? readFileSync(configPath, "utf8") : null;
  const { release, image, patches = [] } = entry;
  return {
    name,
    imagePath,
    release,
    modules,
    nestedModules,
    pciModules,
    config,
    origin,
    sha256: image,
    patches,
  };
}

/** The modules that are loaded inside, of a kernel whose image holds the others. */
export function modulesOf(tree: ModuleTree): readonly ModuleFile[] {
  return tree.loadOrder([...neededModules, ...wantedModules.filter((name) => tree.has(name))]);
}

type GuestModules = Pick<Kernel, "modules" | "nestedModules" | "pciModules"> & {
  readonly missing: readonly string[];
};

/** The same for a guest, and what it lacks. */
export function guestModulesOf(tree: ModuleTree): GuestModules {
  const there = (names: readonly string[]): readonly string[] => names.filter((name) => tree.has(name));
  const usual = there([...neededGuestModules, ...wantedGuestModules]);
  const modules = tree.loadOrder(usual);
  const all = tree.loadOrder([...usual, ...there(wantedNestedModules)]);
  return {
    modules,
    nestedModules: all.slice(modules.length),
    pciModules: tree.loadOrder(there([PCI_DRIVER])),
    missing: neededGuestModules.filter((name) => !tree.has(name)),
  };
}

/**
 * Removes a tree beside others of the cache, for at most `REMOVE_BOUND_MS`: a source tree of a kernel takes rm(1) longer on a
 * busy disk. It goes by another name first, by which the next build knows that it is to be removed; rm goes on after that.
 */
async function removeTree(path: string): Promise<void> {
  if (!existsSync(path)) return;
  const away = path.includes(`/${REMOVED_PREFIX}`)
    ? path
    : join(dirname(path), `${REMOVED_PREFIX}${basename(path).slice(WORK_PREFIX.length)}`);
  if (away !== path) renameSync(path, away);
  const child = spawn("rm", ["-rf", "--", away], { stdio: "ignore", detached: true });
  child.unref();
  const bound = new AbortController();
  const ended = once(child, "exit").catch(() => rmSync(away, { recursive: true, force: true }));
  await Promise.race([ended, sleep(REMOVE_BOUND_MS, undefined, { signal: bound.signal }).catch(() => {})]);
  bound.abort();
}

/** What rm(1) still removes after an interruption. */
export function treesBeingRemoved(cache: string = cacheDirectory()): readonly string[] {
  const parents = ["kernels", "builds", "programs"].map((name) => join(cache, name)).filter(existsSync);
  return parents.flatMap((parent) =>
    readdirSync(parent)
      .filter((name) => name.startsWith(REMOVED_PREFIX))
      .map((name) => join(parent, name)),
  );
}

/** Removes the remains of a run that was killed while it unpacked, hundreds of megabytes, and what one had no time to remove. */
async function removeAbandoned(directory: string): Promise<void> {
  for (const name of readdirSync(directory).filter((one) => one.startsWith(WORK_PREFIX))) {
    const path = join(directory, name);
    const age = Date.now() - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Date.now());
    if (age > ABANDONED_MS || name.startsWith(REMOVED_PREFIX)) await removeTree(path);
  }
}

function checkRoom(directory: string, what: string, neededBytes: number): void {
  const { bavail, bsize } = statfsSync(directory);
  const free = bavail * bsize;
  if (free >= neededBytes) return;
  throw new KernelError(
    `no room for ${what}: it takes ${mebibytes(neededBytes)} to unpack, ${directory} has ${mebibytes(free)} ` +
      `(${OTHER_PLACE})`,
  );
}

/** What the packages take, with what is in them. */
export function packagesBytes({ parts }: KernelPackage): number {
  return parts.reduce((sum, part) => sum + part.sizeBytes + part.installedBytes, 0);
}

/** Unpacks a package's file. Throws a KernelError. */
export async function unpackPackage(packagePath: string, folder: string, signal: AbortSignal): Promise<void> {
  let stderr = (): string => "";
  const end = await runGroup(["dpkg-deb", "-x", packagePath, folder], {
    env: process.env,
    signal,
    timeoutMs: UNPACK_BOUND_MS,
    read: (out, err) => {
      out.resume();
      stderr = textOf(err);
    },
  });
  if (end.kind === "exit" && end.code === 0) return;
  const lines = stderr().trim().split("\n");
  // dpkg-deb's own last word is that tar has failed.
  const said = lines.find((line) => noRoom.test(line)) ?? lines.at(-1) ?? "";
  throw new KernelError(`dpkg-deb -x ${packagePath}: ${said === "" ? endText(end) : said}`);
}

function endText(end: GroupEnd): string {
  switch (end.kind) {
    case "exit":
      return `ended with ${end.code}`;
    case "killed":
      return `was killed by ${end.by}`;
    case "timeout":
      return `no end within ${UNPACK_BOUND_MS / 1000} s`;
    case "interrupted":
      return "was interrupted";
    case "not-started":
      return end.error.message;
  }
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

function writeEntries(folder: string, entries: Partial<Entries>): void {
  for (const [name, content] of Object.entries(entries)) {
    writeFileSync(join(folder, name), `${JSON.stringify(content, null, 2)}\n`);
  }
}

/** From the unpacked tree of a package to a folder of the cache. Modules lie in /lib or /usr/lib. */
export function storePackage(kernel: KernelPackage, tree: string, folder: string): void {
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

export type Making = {
  /** For messages. */
  readonly what: string;
  readonly neededBytes: number;
  /** Whether it is there by now: another process may have made it meanwhile. */
  readonly isThere: () => boolean;
  /** Makes `work/ENTRY`. */
  readonly fill: (work: string) => Promise<void>;
};

/** Makes a folder of the cache. Throws a KernelError, and then leaves the cache as it was. */
export async function intoCache(folder: string, { what, neededBytes, isThere, fill }: Making): Promise<void> {
  const parent = dirname(folder);
  mkdirSync(parent, { recursive: true });
  await removeAbandoned(parent);
  checkRoom(parent, what, neededBytes);
  const work = mkdtempSync(join(parent, WORK_PREFIX));
  hold(cacheDirectory(), work);
  try {
    await fill(work);
    if (isThere()) return;
    rmSync(folder, { recursive: true, force: true });
    renameSync(join(work, ENTRY), folder);
  } catch (error) {
    const message =
      error instanceof KernelError ? error.message : `${what} into the cache: ${errorText(error)}`;
    throw new KernelError(noRoom.test(message) ? `${message} (${OTHER_PLACE})` : message);
  } finally {
    await removeTree(work);
  }
}

/** The kernel in `folder` of the cache, which `fill` makes if it is not there. */
export async function atHand(
  name: string,
  folder: string,
  role: KernelRole,
  making: Omit<Making, "isThere">,
): Promise<Kernel> {
  const cached = fromCache(name, folder, role);
  if (cached !== null) return cached;
  await intoCache(folder, { ...making, isThere: () => fromCache(name, folder, role) !== null });
  const stored = fromCache(name, folder, role);
  if (stored === null) throw new KernelError(`${folder} is not what was just written there`);
  return stored;
}

/** What a build has made of a kernel's sources. */
export type BuiltImage = {
  readonly kernel: KernelPackage;
  readonly imagePath: string;
  readonly configPath: string;
  readonly patches: readonly PatchFacts[];
};

/** A kernel that was compiled here: its image and its configuration; it has no modules. */
export function storeBuilt({ kernel, imagePath, configPath, patches }: BuiltImage, folder: string): void {
  const { release } = readImage(imagePath);
  mkdirSync(folder);
  copyFileSync(imagePath, join(folder, "vmlinuz"));
  copyFileSync(configPath, join(folder, "config"));
  const entry = { ...entryOf(kernel, join(folder, "vmlinuz")), release: release ?? "", modules: [] };
  writeEntries(folder, {
    "guest.json": { modules: [], missing: [] },
    "nested.json": { modules: [] },
    "kernel.json": patches.length === 0 ? entry : { ...entry, patches },
  });
}

/**
 * The kernel of a cache entry with other modules in place of those of the same name.
 * @param stock the folder of that kernel
 */
export function storeWithModules(
  stock: string,
  { modules, patches }: { readonly modules: readonly ModuleFile[]; readonly patches: readonly PatchFacts[] },
  folder: string,
): void {
  const kernel = readEntry(stock);
  if (kernel === null) throw new KernelError(`${stock} is no whole kernel`);
  cpSync(stock, folder, { recursive: true });
  const made = new Map(modules.map((module) => [module.name, sha256(module.bytes)]));
  for (const { name, bytes } of modules) writeFileSync(join(folder, "modules", `${name}.ko`), bytes);
  const changed = (entries: ModuleEntries): ModuleEntries =>
    entries.map((entry) => ({ ...entry, sha256: made.get(entry.name) ?? entry.sha256 }));
  // Where the stock kernel's folder is from before there were guests, so is this one.
  const guest = readJson(join(stock, "guest.json"), guestEntryShape);
  const nested = readJson(join(stock, "nested.json"), nestedEntryShape);
  writeEntries(folder, {
    ...(guest === null ? {} : { "guest.json": { ...guest, modules: changed(guest.modules) } }),
    ...(nested === null ? {} : { "nested.json": { modules: changed(nested.modules) } }),
    "kernel.json": { ...kernel, modules: changed(kernel.modules), patches },
  });
}
