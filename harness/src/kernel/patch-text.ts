/** The text of a patch, as `diff -u` and `git format-patch` write it: which files it changes, and which lines are about which. Pure. */
import { KernelError } from "./error.ts";

/** The part of a patch that is about one file. */
export type FilePatch = {
  /** As `patch -p1` takes it: without its first folder. */
  readonly path: string;
  readonly text: string;
};

/** Where a change of a file has to be compiled. */
export type ChangedPart =
  /** Sources of KVM's modules. */
  | "kvm"
  /** Headers of KVM, which are compiled into its modules. */
  | "kvm-header"
  /** Code of the image, or of another module. */
  | "other"
  /** Nothing of a kernel for x86-64. */
  | "none";

const parts: readonly (readonly [ChangedPart, RegExp])[] = [
  ["kvm", /^(?:virt\/kvm|arch\/x86\/kvm)\//],
  [
    "kvm-header",
    /^(?:include\/(?:linux\/kvm_|uapi\/linux\/kvm|trace\/events\/kvm)|arch\/x86\/include\/(?:uapi\/)?asm\/(?:kvm|vmx|svm))[^/]*\.h$/,
  ],
  [
    "none",
    /^(?:Documentation|tools|samples|LICENSES)\/|^(?:MAINTAINERS|CREDITS|\.mailmap)$|^arch\/(?!x86\/)/,
  ],
];

export function changedPart(path: string): ChangedPart {
  return parts.find(([, pattern]) => pattern.test(path))?.[0] ?? "other";
}

const HUNK = /^@@ -[0-9]+(?:,([0-9]+))? \+[0-9]+(?:,([0-9]+))? @@/;
const NO_FILE = "/dev/null";

/** `--- a/virt/kvm/kvm_main.c\t2026-01-01` -> `virt/kvm/kvm_main.c`; null for /dev/null. */
function pathOf(header: string): string | null {
  const name = header.slice("--- ".length).split("\t")[0]?.trim() ?? "";
  return name === NO_FILE ? null : name.split("/").slice(1).join("/");
}

/** The index behind a hunk that begins at `at`; -1 where it is cut. */
function behindHunk(lines: readonly string[], at: number, header: RegExpExecArray): number {
  let [old, now] = [Number(header[1] ?? 1), Number(header[2] ?? 1)];
  let index = at + 1;
  for (; old > 0 || now > 0; index += 1) {
    const line = lines[index];
    if (line === undefined || !/^(?:[-+ \\]|$)/.test(line)) return -1;
    if (!line.startsWith("+") && !line.startsWith("\\")) old -= 1;
    if (!line.startsWith("-") && !line.startsWith("\\")) now -= 1;
  }
  return lines[index]?.startsWith("\\") ? index + 1 : index;
}

function refuse(name: string, line: number, why: string): never {
  throw new KernelError(`${name}:${line + 1}: ${why}`);
}

/** @param name of the patch, for messages. Throws a KernelError that names the line. */
export function readPatchText(name: string, text: string): readonly FilePatch[] {
  const lines = text.replace(/\n$/, "").split("\n");
  const files: FilePatch[] = [];
  for (let at = 0; at < lines.length; ) {
    if (lines[at] === "GIT binary patch") refuse(name, at, "a binary patch");
    const [from = "", to = ""] = [lines[at], lines[at + 1]];
    if (!from.startsWith("--- ") || !to.startsWith("+++ ")) {
      at += 1;
      continue;
    }
    const path = pathOf(to) ?? pathOf(from);
    if (path === null || path === "" || path.split("/").includes("..")) {
      refuse(name, at, "no file with a folder before it, as patch -p1 wants it (a/virt/kvm/kvm_main.c)");
    }
    let end = at + 2;
    for (let hunk = HUNK.exec(lines[end] ?? ""); hunk !== null; hunk = HUNK.exec(lines[end] ?? "")) {
      const begin = end;
      end = behindHunk(lines, begin, hunk);
      if (end < 0) refuse(name, begin, "this hunk has fewer lines than it says");
    }
    if (end === at + 2) refuse(name, at, "no hunk (@@ -1,2 +3,4 @@) behind the file's name");
    files.push({ path, text: `${lines.slice(at, end).join("\n")}\n` });
    at = end;
  }
  if (files.length === 0) throw new KernelError(`${name} is no patch: it has no lines --- and +++`);
  return files;
}

const linesOf = ({ text }: FilePatch, sign: "+" | "-"): readonly string[] =>
  text
    .split("\n")
    .slice(2)
    .filter((line) => line.startsWith(sign));

const FILES_NAMED_MAX = 4;

/** `virt/kvm/kvm_main.c +3 -1, arch/x86/kvm/x86.c +1 -0`. */
export function summaryOf(files: readonly FilePatch[]): string {
  const named = files
    .slice(0, FILES_NAMED_MAX)
    .map((file) => `${file.path} +${linesOf(file, "+").length} -${linesOf(file, "-").length}`);
  const others = files.length - named.length;
  return [...named, ...(others > 0 ? [`${others} more`] : [])].join(", ");
}

/** Whether two patches remove and add the same lines of the same files, wherever those are, and with whatever around them. */
export function isSameChange(one: readonly FilePatch[], other: readonly FilePatch[]): boolean {
  const keyOf = (files: readonly FilePatch[]): string =>
    JSON.stringify(files.map((file) => [file.path, linesOf(file, "-"), linesOf(file, "+")]).sort());
  return keyOf(one) === keyOf(other);
}
