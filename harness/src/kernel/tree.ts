/** A kernel tree of the user's that was built in place: its image, its configuration, its modules where make left them. */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import type { PatchFacts } from "../../../language/src/index.ts";
import { parseConfig } from "./build/config.ts";
import { KernelError } from "./error.ts";
import { type FilePatch, readPatchText, summaryOf } from "./patch-text.ts";

export type KernelTree = {
  readonly imagePath: string;
  readonly configPath: string;
  /** The path, and the commit as git describes it. */
  readonly origin: string;
  /** What is changed in it since that commit; empty: nothing, or there is no git. */
  readonly patches: readonly PatchFacts[];
};

const IMAGE = "arch/x86/boot/bzImage";
const DIFF = "git diff HEAD";
const GIT_BOUND_MS = 30_000;
const DIFF_BYTES_MAX = 64 * 1024 * 1024;

/** Whatever keeps it from being looked at (a loop of links, a name that is too long), reading it will say. */
export function isFolder(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
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

/** Whatever the user's configuration makes of a diff: prefixes as patch -p1 wants them, nothing run, no colours. */
const diffCommand = [
  "diff",
  "--no-ext-diff",
  "--no-textconv",
  "--no-color",
  "--src-prefix=a/",
  "--dst-prefix=b/",
];

/** What is changed in the tree since its commit; empty: nothing, or there is no git. */
export function treeDiff(folder: string): string {
  return git(resolve(folder), [...diffCommand, "HEAD"]) ?? "";
}

/** The files of a diff; empty where it has none that `readPatchText` takes, such as binary ones. */
export function diffFiles(diff: string): readonly FilePatch[] {
  try {
    return readPatchText(DIFF, diff);
  } catch (error) {
    if (error instanceof KernelError) return [];
    throw error;
  }
}

/** Of a folder that has no `treeProblem`. */
export function readTree(folder: string): KernelTree {
  const path = resolve(folder);
  const commit = git(path, ["describe", "--always"])?.trim() ?? null;
  const diff = treeDiff(path);
  const sha256 = createHash("sha256").update(diff).digest("hex");
  const summary = summaryOf(diffFiles(diff));
  return {
    imagePath: join(path, IMAGE),
    configPath: join(path, ".config"),
    origin: commit === null ? path : `${path} (${commit})`,
    patches: diff === "" ? [] : [{ name: summary === "" ? DIFF : `${DIFF}: ${summary}`, sha256 }],
  };
}
