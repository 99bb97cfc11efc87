/** What a machine needs to compile a kernel (Documentation/process/changes.rst), and what of it is not there. */
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { KernelError } from "../error.ts";

type Tool =
  | { readonly program: string; readonly debian: string }
  | { readonly header: string; readonly debian: string };

const tools: readonly Tool[] = [
  { program: "gcc", debian: "gcc" },
  { program: "ld", debian: "binutils" },
  { program: "make", debian: "make" },
  { program: "flex", debian: "flex" },
  { program: "bison", debian: "bison" },
  { program: "bc", debian: "bc" },
  { program: "tar", debian: "tar" },
  { program: "xz", debian: "xz-utils" },
  // Of objtool, which every x86-64 kernel is built with.
  { header: "libelf.h", debian: "libelf-dev" },
];

const patchTool: Tool = { program: "patch", debian: "patch" };

/** KVM's modules against Debian's headers, which bring the tools of kbuild. Of the compiler: `requireCompiler`. */
const kvmTools: readonly Tool[] = [
  { program: "gcc", debian: "gcc" },
  { program: "ld", debian: "binutils" },
  { program: "strip", debian: "binutils" },
  { program: "make", debian: "make" },
  patchTool,
  { program: "tar", debian: "tar" },
  { program: "xz", debian: "xz-utils" },
];

/** In their place where the programs of kbuild are compiled here. */
const ownKbuildTools: readonly Tool[] = [
  ...kvmTools,
  { program: "awk", debian: "mawk" },
  { header: "libelf.h", debian: "libelf-dev" },
];

const INCLUDE_FOLDERS = ["/usr/include", "/usr/local/include"];

type Places = {
  readonly PATH?: string | undefined;
  /** As gcc has it. */
  readonly CPATH?: string | undefined;
};

function isThere(tool: Tool, { PATH = "", CPATH = "" }: Places): boolean {
  const [name, folders] =
    "header" in tool
      ? [tool.header, [...INCLUDE_FOLDERS, ...CPATH.split(delimiter)]]
      : [tool.program, PATH.split(delimiter)];
  return folders.some((folder) => folder !== "" && existsSync(join(folder, name)));
}

/** Whether it is in PATH. */
export function hasProgram(program: string, places: Places = process.env): boolean {
  return isThere({ program, debian: "" }, places);
}

function requireTools(wanted: readonly Tool[], places: Places): void {
  const missing = wanted.filter((tool) => !isThere(tool, places));
  if (missing.length === 0) return;
  const names = missing.map((tool) => ("header" in tool ? tool.header : tool.program)).join(", ");
  const packages = [...new Set(missing.map(({ debian }) => debian))].join(" ");
  throw new KernelError(
    `this kernel is compiled here, and there is no ${names} (sudo apt-get install ${packages})`,
  );
}

/**
 * Throws a KernelError that names what is missing and the packages that have it.
 * @param patched whether patch(1) is needed as well
 */
export function requireBuildTools(
  { patched }: { readonly patched: boolean } = { patched: false },
  places: Places = process.env,
): void {
  requireTools(patched ? [...tools, patchTool] : tools, places);
}

/** The same for KVM's modules alone. */
export function requireKvmTools(places: Places = process.env): void {
  requireTools(kvmTools, places);
}

/** What is missing to compile the programs of kbuild, too, as `requireKvmTools` says it; null: nothing. */
export function ownKbuildProblem(places: Places = process.env): string | null {
  try {
    requireTools(ownKbuildTools, places);
    return null;
  } catch (error) {
    if (error instanceof KernelError) return error.message;
    throw error;
  }
}

/** The same for the compiler that a kernel was built with: its modules need one of that version. */
export function requireCompiler(program: string, places: Places = process.env): void {
  requireTools([{ program, debian: program.replace(/^.*-(gcc-[0-9]+)$/, "$1") }], places);
}
