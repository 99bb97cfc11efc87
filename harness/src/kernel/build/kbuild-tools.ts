/**
 * kbuild's programs for modules of a Debian kernel. The packages bring them for the C library of their release; where that
 * is newer than this machine's, they are compiled here from the same version's sources: modpost and fixdep by kbuild's own
 * rules (scripts/mod/Makefile, scripts/basic/Makefile), objtool by tools/objtool/Makefile. The compiler is this machine's,
 * then: what the kernel's configuration says of options that it lacks is overridden. Features are tested, no versions.
 */
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, readdirSync, readFileSync, realpathSync, rmSync, symlinkSync } from "node:fs";
import { availableParallelism } from "node:os";
import { basename, dirname, join, relative } from "node:path";
import { KernelError } from "../error.ts";
import { parseConfig } from "./config.ts";
import { runStep } from "./step.ts";
import { hasProgram } from "./tools.ts";

/** By the folder that they are made in. Debian has a program for each kind of machine behind a script or a program. */
const programs: Readonly<Record<string, readonly string[]>> = {
  "scripts/basic": ["fixdep"],
  "scripts/mod": ["modpost.real-lsb-64", "modpost"],
  "tools/objtool": ["objtool.real-x86", "objtool"],
};

export type ForeignTools = {
  /** Their folders. */
  readonly folders: readonly string[];
  /** What the dynamic linker says of the first one. */
  readonly why: string;
};

/** ld.so(8) where a library or a version of one is missing. */
const linkerSays = /version `[^']+' not found|[^ ]+: cannot open shared object file/;

/** Why a program cannot be executed here; null: it can. */
function foreign(path: string): string | null {
  // Without arguments they complain and end.
  const { stderr, error } = spawnSync(path, {
    encoding: "utf8",
    env: { ...process.env, LC_ALL: "C", SRCARCH: "x86" },
    timeout: 5000,
  });
  if (error !== undefined && "code" in error && error.code === "ENOEXEC") return "another machine's format";
  return linkerSays.exec(stderr ?? "")?.[0] ?? null;
}

/**
 * The package's programs that this machine cannot execute; null: it can execute all of them.
 * @param headers where make begins
 */
export function foreignTools(headers: string): ForeignTools | null {
  const found = Object.entries(programs).flatMap(([folder, names]) => {
    const paths = names.map((name) => join(headers, folder, name)).filter(existsSync);
    const why = paths.map(foreign).find((one) => one !== null);
    return why === undefined ? [] : [{ folder, why }];
  });
  const [first] = found;
  return first === undefined ? null : { folders: found.map(({ folder }) => folder), why: first.why };
}

/** What of the sources the programs and the tests of options are in: patterns of tar(1), of which `*` is no slash. */
export const toolSources: readonly string[] = [
  ...["scripts", "tools/objtool", "tools/lib", "tools/include", "tools/arch", "tools/build", "tools/scripts"],
  ...["arch/Kconfig", "arch/x86/Kconfig*", "init/Kconfig", "lib/Kconfig*"],
].map((path) => `*/${path}`);

export type OptionTest = { readonly name: string; readonly options: readonly string[] };

/** `config NAME` / `def_bool $(cc-option,OPTIONS)`: what a symbol says of the compiler. */
export function optionTests(kconfig: string): readonly OptionTest[] {
  return kconfig.split(/^(?=config )/m).flatMap((block) => {
    const [, name] = /^config ([A-Za-z0-9_]+)/.exec(block) ?? [];
    const [, options] =
      /^\s+def_bool \$\(cc-option,\s*([^()]+)\)\s*$/m.exec(block.replaceAll("$(comma)", ",")) ?? [];
    return name === undefined || options === undefined
      ? []
      : [{ name, options: options.trim().split(/\s+/) }];
  });
}

function accepts(compiler: string, options: readonly string[]): boolean {
  const args = ["-Werror", ...options, "-c", "-x", "c", "/dev/null", "-o", "/dev/null"];
  return spawnSync(compiler, args, { stdio: "ignore", timeout: 5000 }).status === 0;
}

/** Symbols of the configuration that say of the compiler what is not true of this one. */
function untrueSymbols(source: string, config: string, compiler: string): readonly string[] {
  const on = parseConfig(config);
  const folders = ["arch", "arch/x86", "init", "lib"].map((name) => join(source, name)).filter(existsSync);
  const files = folders.flatMap((folder) =>
    readdirSync(folder)
      .filter((name) => name.startsWith("Kconfig"))
      .map((name) => join(folder, name)),
  );
  return files
    .flatMap((path) => optionTests(readFileSync(path, "utf8")))
    .filter(({ name, options }) => on.get(name) === "y" && !accepts(compiler, options))
    .map(({ name }) => name);
}

/**
 * What make is given where the compiler may be another one than the kernel's.
 * @param named the kernel's own
 */
export function compilerVariables(named: string, source: string, config: string): readonly string[] {
  const compiler = hasProgram(named) ? named : "gcc";
  const untrue = untrueSymbols(source, config, compiler);
  return [`CC=${compiler}`, ...untrue.map((name) => `CONFIG_${name}=`)];
}

export type MakeTools = {
  readonly tools: ForeignTools;
  /** Where make begins. */
  readonly headers: string;
  /** Where its Makefile and the headers of all machines are. */
  readonly common: string;
  /** `toolSources`, unpacked. */
  readonly source: string;
  readonly variables: readonly string[];
  readonly logPath: string;
  readonly signal: AbortSignal;
};

/**
 * By kbuild's rules of a folder of scripts/. As of an external module, so that the packages' configuration stays as it is;
 * the target `prepare` has make read it.
 */
async function makeScripts(folder: string, options: MakeTools): Promise<void> {
  const { headers, common, source, variables, logPath, signal } = options;
  const scripts = realpathSync(join(headers, "scripts"));
  const at = join(headers, folder);
  for (const name of programs[folder] ?? []) rmSync(join(at, name), { force: true });
  for (const name of [basename(folder), "include"]) {
    const from = join(source, "scripts", name);
    if (existsSync(from)) cpSync(from, join(scripts, name), { recursive: true });
  }
  // modpost.h has a header of the kernel's by its path from scripts/mod.
  const include = join(dirname(scripts), "include");
  if (!existsSync(include)) symlinkSync(relative(dirname(include), join(common, "include")), include);
  const targets = ["prepare", "run-command", `KBUILD_RUN_COMMAND=$(MAKE) $(build)=${folder}`];
  const command = ["nice", "make", "-C", headers, `M=${headers}`, ...variables, ...targets];
  await runStep(command, { cwd: "/", logPath, signal });
}

async function makeObjtool({ headers, source, logPath, signal }: MakeTools): Promise<void> {
  const at = join(source, "tools/objtool");
  const variables = ["ARCH=x86", "SRCARCH=x86", `srctree=${source}`, `-j${availableParallelism()}`];
  await runStep(["nice", "make", "-C", at, ...variables], { cwd: "/", logPath, signal });
  const to = realpathSync(join(headers, "tools/objtool"));
  for (const name of programs["tools/objtool"] ?? []) rmSync(join(to, name), { force: true });
  cpSync(join(at, "objtool"), join(to, "objtool"));
}

/** Compiles the programs, and puts them in the place of the package's. Throws a KernelError. */
export async function makeTools(options: MakeTools): Promise<void> {
  for (const folder of options.tools.folders) {
    if (folder === "tools/objtool") await makeObjtool(options);
    else await makeScripts(folder, options);
  }
  const left = foreignTools(options.headers);
  if (left !== null) throw new KernelError(`what was compiled for this machine does not run: ${left.why}`);
}
