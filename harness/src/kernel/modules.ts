/**
 * The modules of a kernel: where they are, what they need, in which order they load. Read from the modules themselves
 * (section `.modinfo`), not from `modules.dep`: a package that was only unpacked has none, nor has every machine depmod.
 */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { gunzipSync } from "node:zlib";
import { errorText } from "../error-text.ts";
import { KernelError } from "./error.ts";

export type ModuleFile = {
  /** `kvm_amd`: underscores, no suffix. */
  readonly name: string;
  /** Not compressed. */
  readonly bytes: Uint8Array;
};

const SUFFIX = /\.ko(\.(?:xz|zst|gz))?$/;
const MAX_MODULE_BYTES = 256 * 1024 * 1024;
/** Files and folders below lib/modules/RELEASE: a distribution's kernel has some 8,000. */
const TREE_ENTRIES_MAX = 100_000;

/** The kernel takes `-` and `_` in module names for the same. */
function moduleName(path: string): string {
  return basename(path).replace(SUFFIX, "").replaceAll("-", "_");
}

function decompressWith(tool: string, path: string): Uint8Array {
  try {
    return execFileSync(tool, ["-dc", path], {
      maxBuffer: MAX_MODULE_BYTES,
      stdio: ["ignore", "pipe", "pipe"],
    });
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code !== "ENOENT") throw new KernelError(`${path} does not decompress: ${message.trim()}`);
    const packageName = tool === "xz" ? "xz-utils" : "zstd";
    throw new KernelError(
      `${path} is compressed and there is no ${tool} (sudo apt-get install ${packageName})`,
    );
  }
}

function gunzip(path: string): Uint8Array {
  try {
    return gunzipSync(readWhole(path), { maxOutputLength: MAX_MODULE_BYTES });
  } catch (error) {
    throw new KernelError(`${path} does not decompress: ${errorText(error)}`);
  }
}

function readModule(path: string): Uint8Array {
  switch (SUFFIX.exec(path)?.[1]) {
    case ".xz":
      return decompressWith("xz", path);
    case ".zst":
      return decompressWith("zstd", path);
    case ".gz":
      return gunzip(path);
    default:
      return readWhole(path);
  }
}

/** Offsets in an ELF64 file header and in a section header (elf.5). */
const ELF = {
  magic: 0x7f454c46,
  class64: 2,
  headerBytes: 0x40,
  shoff: 0x28,
  shentsize: 0x3a,
  shnum: 0x3c,
  shstrndx: 0x3e,
};
const SECTION = { bytes: 0x40, name: 0x00, offset: 0x18, size: 0x20 };

type Section = { readonly name: number; readonly data: Uint8Array };

/** A section of an ELF64 object; null where its header, or what that names, is not in the file. */
function sectionAt(view: DataView, bytes: Uint8Array, index: number): Section | null {
  const at = Number(view.getBigUint64(ELF.shoff, true)) + index * view.getUint16(ELF.shentsize, true);
  if (at + SECTION.bytes > bytes.length) return null;
  const offset = Number(view.getBigUint64(at + SECTION.offset, true));
  const size = Number(view.getBigUint64(at + SECTION.size, true));
  if (offset + size > bytes.length) return null;
  return { name: view.getUint32(at + SECTION.name, true), data: bytes.subarray(offset, offset + size) };
}

/**
 * `key=value` texts of the section `.modinfo` of an ELF64 object, little endian (elf.5). Empty if it is none, or is cut:
 * the kernel refuses such a module with a message of its own.
 */
export function moduleInfo(bytes: Uint8Array): readonly (readonly [key: string, value: string])[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < ELF.headerBytes || view.getUint32(0) !== ELF.magic || bytes[4] !== ELF.class64)
    return [];
  const count = view.getUint16(ELF.shnum, true);
  const names = sectionAt(view, bytes, view.getUint16(ELF.shstrndx, true))?.data;
  if (names === undefined) return [];
  const nameAt = (at: number): string => Buffer.from(names).toString("latin1", at, names.indexOf(0, at));
  for (let index = 0; index < count; index += 1) {
    const section = sectionAt(view, bytes, index);
    if (section === null || section.name >= names.length || nameAt(section.name) !== ".modinfo") continue;
    return Buffer.from(section.data)
      .toString("utf8")
      .split("\0")
      .flatMap((text) => {
        const at = text.indexOf("=");
        return at < 0 ? [] : [[text.slice(0, at), text.slice(at + 1)] as const];
      });
  }
  return [];
}

/** The release of a module: the first word of its `vermagic`. null where it has none. */
export function moduleRelease(bytes: Uint8Array): string | null {
  const [, magic] = moduleInfo(bytes).find(([key]) => key === "vermagic") ?? [];
  return magic?.split(" ")[0] ?? null;
}

/** Modules that must be loaded before this one, and those that should be. */
function needsOf(bytes: Uint8Array): { readonly hard: readonly string[]; readonly soft: readonly string[] } {
  const hard: string[] = [];
  const soft: string[] = [];
  for (const [key, value] of moduleInfo(bytes)) {
    if (key === "depends") hard.push(...value.split(",").filter((name) => name !== ""));
    const pre = key === "softdep" ? /pre:\s*((?:[^\s:]+(?:\s+|$))+)/.exec(value) : null;
    if (pre !== null) soft.push(...(pre[1] ?? "").trim().split(/\s+/));
  }
  const normal = (name: string): string => name.replaceAll("-", "_");
  return { hard: hard.map(normal), soft: soft.map(normal) };
}

/** Paths below the folder. Throws a KernelError where they are too many to be the modules of one kernel. */
function filesBelow(directory: string): readonly string[] {
  const files: string[] = [];
  const pending = [""];
  for (let folder = pending.pop(); folder !== undefined; folder = pending.pop()) {
    for (const entry of readdirSync(join(directory, folder), { withFileTypes: true })) {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) pending.push(path);
      files.push(path);
      if (files.length > TREE_ENTRIES_MAX) {
        throw new KernelError(
          `${directory} has more than ${TREE_ENTRIES_MAX} files: not the modules of one kernel`,
        );
      }
    }
  }
  return files;
}

/** A file that is no larger than a module or a list of them can be. Throws a KernelError. */
function readWhole(path: string): Uint8Array {
  try {
    const status = statSync(path);
    if (!status.isFile()) throw new Error("is no regular file");
    if (status.size > MAX_MODULE_BYTES) {
      throw new Error(`${status.size} bytes are more than the limit ${MAX_MODULE_BYTES}`);
    }
    return readFileSync(path);
  } catch (error) {
    throw new KernelError(`${path}: ${errorText(error)}`);
  }
}

/** Files of modules below a folder. Throws a KernelError. */
function modulesBelow(directory: string): readonly string[] {
  try {
    return filesBelow(directory);
  } catch (error) {
    if (error instanceof KernelError) throw error;
    throw new KernelError(`modules of the kernel: ${errorText(error)}`);
  }
}

function linesOf(path: string): readonly string[] {
  if (!existsSync(path)) return [];
  return Buffer.from(readWhole(path))
    .toString("utf8")
    .split("\n")
    .filter((line) => line !== "");
}

/** The modules of one kernel. */
export class ModuleTree {
  readonly #directory: string;
  readonly #paths = new Map<string, string>();
  readonly #builtIn = new Set<string>();

  /** Of a kernel tree that was built in place: those that its `modules.order` names (`.o` for `.ko` since Linux 6.3). */
  static ofBuild(directory: string): ModuleTree {
    const files = linesOf(join(directory, "modules.order")).map((line) =>
      line.replace(/^kernel\//, "").replace(/\.o$/, ".ko"),
    );
    return new ModuleTree(directory, files);
  }

  /**
   * Throws a KernelError.
   * @param directory `lib/modules/RELEASE`, as `make modules_install` and packages lay it out
   * @param files paths in it; left out: all there are
   */
  constructor(directory: string, files: readonly string[] = modulesBelow(directory)) {
    this.#directory = directory;
    for (const file of files) {
      if (SUFFIX.test(file)) this.#paths.set(moduleName(file), join(directory, file));
    }
    for (const line of linesOf(join(directory, "modules.builtin"))) this.#builtIn.add(moduleName(line));
  }

  /** Is it there at all, as a file or in the image? */
  has(name: string): boolean {
    return this.#paths.has(name) || this.#builtIn.has(name);
  }

  /**
   * The files to load for the wanted modules, each after what it needs; those in the image are left out.
   * Throws a KernelError for one that is not there.
   */
  loadOrder(wanted: readonly string[]): readonly ModuleFile[] {
    const order: ModuleFile[] = [];
    const seen = new Set<string>();
    const visit = (name: string, neededBy: string | null): void => {
      if (seen.has(name) || this.#builtIn.has(name)) return;
      seen.add(name);
      const path = this.#paths.get(name);
      if (path === undefined) {
        const why = neededBy === null ? "" : `, which ${neededBy} needs`;
        throw new KernelError(`${this.#directory} has no module ${name}${why}, nor is it in the image`);
      }
      const bytes = readModule(path);
      const { hard, soft } = needsOf(bytes);
      for (const other of soft) if (this.#paths.has(other)) visit(other, name);
      for (const other of hard) visit(other, name);
      order.push({ name, bytes });
    };
    for (const name of wanted) visit(name, null);
    return order;
  }
}
