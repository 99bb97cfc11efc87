/**
 * Compiles a kernel: a source archive, a fragment of configuration over `tinyconfig`, make. Knows no packages and no cache.
 * The folder that it works in is the caller's to remove; nothing is written anywhere else but to the log.
 */
import { copyFileSync, mkdirSync, readdirSync, readFileSync, statfsSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { KernelError } from "../error.ts";
import { notTaken } from "./config.ts";
import { runStep, type StepOptions } from "./step.ts";

export type BuildOptions = {
  /** A tar archive, compressed by xz, with one folder at its top. */
  readonly archivePath: string;
  readonly fragment: string;
  /** For sources and objects: some 3 GB. */
  readonly directory: string;
  readonly logPath: string;
  readonly signal: AbortSignal;
  /** What is being done: a step, or the compiler's last line. */
  readonly progress: (text: string) => void;
  /** What is done to the sources before they are configured. */
  readonly prepare?: (source: string) => Promise<void>;
};

export type BuiltKernel = { readonly imagePath: string; readonly configPath: string };

/** Measured with linux-source-6.12: 1.6 GB of sources, 0.6 GB of objects; the rest is a margin. */
export const BUILD_BYTES: number = 3 * 2 ** 30;

/** Throws a KernelError where the folder's file system has no room for a build. */
export function requireRoom(directory: string, neededBytes: number = BUILD_BYTES): void {
  const { bavail, bsize } = statfsSync(directory);
  const gibibytes = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(1)} GiB`;
  if (bavail * bsize >= neededBytes) return;
  throw new KernelError(
    `no room to compile a kernel: it takes ${gibibytes(neededBytes)}, ${directory} has ${gibibytes(bavail * bsize)}`,
  );
}

/** The same words for everybody: the image does not depend on when and by whom it was made. */
const sameForAll = {
  KBUILD_BUILD_USER: "daxfault",
  KBUILD_BUILD_HOST: "daxfault",
  KBUILD_BUILD_TIMESTAMP: "1970-01-01",
};

/** `  CC      fs/ext4/inode.o`: what make says of one object. */
const made = /^ {2}[A-Z]+ +\S/;

/** `CC fs/ext4/inode.o`; null for another line of make's. */
export function madeText(line: string): string | null {
  return made.test(line) ? line.trim().replace(/ +/, " ") : null;
}

/** What is written of Documentation: its Kconfig, without which no configuration can be read. */
const unpackArguments = ["--exclude=*/Documentation/*/*"];

async function unpack({ archivePath, directory, ...rest }: BuildOptions): Promise<string> {
  const sources = join(directory, "sources");
  mkdirSync(sources);
  rest.progress("unpacking the sources");
  const options = { cwd: sources, signal: rest.signal, logPath: rest.logPath };
  await runStep(["nice", "tar", "-xJf", archivePath, ...unpackArguments], options);
  const [top, ...others] = readdirSync(sources);
  if (top === undefined || others.length > 0)
    throw new KernelError(`${archivePath} has no one folder of sources`);
  return join(sources, top);
}

async function configure(fragment: string, objects: string, step: StepOptions): Promise<void> {
  const fragmentPath = join(objects, "daxfault.config");
  writeFileSync(fragmentPath, fragment);
  const config = join(objects, ".config");
  await runStep(["make", `O=${objects}`, "tinyconfig"], step);
  await runStep(["scripts/kconfig/merge_config.sh", "-m", "-O", objects, config, fragmentPath], step);
  await runStep(["make", `O=${objects}`, "olddefconfig"], step);
  const left = notTaken(fragment, readFileSync(config, "utf8"));
  if (left.length > 0)
    throw new KernelError(`this source does not take ${left.join(", ")} (make olddefconfig)`);
}

/** Throws a KernelError: no room, the step that failed with its last words, or that it was interrupted. */
export async function buildKernel(options: BuildOptions): Promise<BuiltKernel> {
  const { directory, signal, logPath, progress } = options;
  const source = await unpack(options);
  await options.prepare?.(source);
  const objects = join(directory, "objects");
  mkdirSync(objects);
  const step: StepOptions = { cwd: source, environment: sameForAll, signal, logPath };
  progress("making its configuration");
  await configure(options.fragment, objects, step);
  let objectCount = 0;
  const onLine = (line: string): void => {
    const text = madeText(line);
    if (text === null) return;
    objectCount += 1;
    progress(`${objectCount}: ${text}`);
  };
  const command = ["nice", "make", `O=${objects}`, `-j${availableParallelism()}`, "bzImage"];
  await runStep(command, { ...step, onLine });
  const imagePath = join(directory, "bzImage");
  const configPath = join(directory, "config");
  copyFileSync(join(objects, "arch/x86/boot/bzImage"), imagePath);
  copyFileSync(join(objects, ".config"), configPath);
  return { imagePath, configPath };
}
