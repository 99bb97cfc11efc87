/**
 * The modules of a kernel: where they are, what they need, in which order they load. Read from the modules themselves
 * (section `.modinfo`), not from `modules.dep`: a package that was only unpacked has none, nor has every machine depmod.
 */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
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
    return gunzipSync(readFileSync(path), { maxOutputLength: MAX_MODULE_BYTES });
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
      return readFileSync(path);
  }
}

/** `key=value` texts of the section `.modinfo` of an ELF64 object, little endian (elf.5). Empty if it is none. */
export function moduleInfo(bytes: Uint8Array): readonly (readonly [key: string, value: string])[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const ELF_MAGIC = 0x7f454c46;
  const CLASS_64 = 2;
  if (bytes.length < 64 || view.getUint32(0) !== ELF_MAGIC || bytes[4] !== CLASS_64) return [];
  const tableOffset = Number(view.getBigUint64(0x28, true));
  const entryBytes = view.getUint16(0x3a, true);
  const count = view.getUint16(0x3c, true);
  const namesIndex = view.getUint16(0x3e, true);
  const section = (index: number): { name: number; data: Uint8Array } => {
    const at = tableOffset + index * entryBytes;
    const offset = Number(view.getBigUint64(at + 0x18, true));
    const size = Number(view.getBigUint64(at + 0x20, true));
    return { name: view.getUint32(at, true), data: bytes.subarray(offset, offset + size) };
  };
  const names = Buffer.from(section(namesIndex).data);
  for (let index = 0; index < count; index += 1) {
    const { name, data } = section(index);
    if (names.toString("latin1", name, names.indexOf(0, name)) !== ".modinfo") continue;
    return Buffer.from(data)
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

/** The modules of one kernel. */
export class ModuleTree {
  readonly #directory: string;
  readonly #paths = new Map<string, string>();
  readonly #builtIn = new Set<string>();

  /** @param directory `lib/modules/RELEASE`, as `make modules_install` and packages lay it out. Throws a KernelError. */
  constructor(directory: string) {
    this.#directory = directory;
    let files: readonly string[];
    try {
      files = readdirSync(directory, { recursive: true, encoding: "utf8" });
    } catch (error) {
      throw new KernelError(`modules of the kernel: ${errorText(error)}`);
    }
    for (const file of files) {
      if (SUFFIX.test(file)) this.#paths.set(moduleName(file), join(directory, file));
    }
    const builtIn = join(directory, "modules.builtin");
    if (!existsSync(builtIn)) return;
    for (const line of readFileSync(builtIn, "utf8").split("\n")) {
      if (line !== "") this.#builtIn.add(moduleName(line));
    }
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
