/** A kernel tree of the user's that was built in place: its image, its configuration, its modules where make left them. */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import type { PatchFacts } from "../../../language/src/index.ts";
import { parseConfig } from "./build/config.ts";

export type KernelTree = {
  readonly imagePath: string;
  readonly configPath: string;
  /** The path, and the commit as git describes it. */
  readonly origin: string;
  /** What is changed in it since that commit; empty: nothing, or there is no git. */
  readonly patches: readonly PatchFacts[];
};

const IMAGE = "arch/x86/boot/bzImage";
const GIT_BOUND_MS = 30_000;
const DIFF_BYTES_MAX = 64 * 1024 * 1024;

export function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

/** Why the folder is no tree that can be booted, and what to do; null: it is one. */
export function treeProblem(path: string): string | null {
  const has = (name: string): boolean => existsSync(join(path, name));
  if (!has("Makefile") || !has("arch/x86"))
    return "it is no file, and no kernel tree: no Makefile or no arch/x86";
  if (!has(".config"))
    return "this kernel tree has no .config (make defconfig, and what docs/kernels.md lists)";
  if (!has(IMAGE)) return `this kernel tree has no ${IMAGE} (make bzImage)`;
  const config = parseConfig(readFileSync(join(path, ".config"), "utf8"));
  if ([...config.values()].includes("m") && !has("modules.order")) {
    return "this kernel tree has no modules.order: its modules are not built (make modules)";
  }
  return null;
}

/** null: git is not there, or this is none of its trees. */
function git(path: string, args: readonly string[]): string | null {
  try {
    return execFileSync("git", ["-C", path, ...args], {
      timeout: GIT_BOUND_MS,
      maxBuffer: DIFF_BYTES_MAX,
      stdio: ["ignore", "pipe", "ignore"],
      encoding: "utf8",
    });
  } catch {
    return null;
  }
}

/** Of a folder that has no `treeProblem`. */
export function readTree(folder: string): KernelTree {
  const path = resolve(folder);
  const commit = git(path, ["describe", "--always"])?.trim() ?? null;
  const diff = git(path, ["diff", "HEAD"]) ?? "";
  const sha256 = createHash("sha256").update(diff).digest("hex");
  return {
    imagePath: join(path, IMAGE),
    configPath: join(path, ".config"),
    origin: commit === null ? path : `${path} (${commit})`,
    patches: diff === "" ? [] : [{ name: "git diff HEAD", sha256 }],
  };
}
