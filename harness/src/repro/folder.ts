/**
 * The folder of a bundle. It is written beside its place, as NAME.partial-PID, within milliseconds at the end, and renamed
 * when all of it is there. What a process that was killed in them has left is taken away by the next bundle of this name.
 * No link is followed, no file of somebody else's is opened. What is there already stays, unless it is empty or an earlier
 * bundle: a folder with files of a bundle only, whose evidence.jsonl begins as `run --json` does.
 */
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  rmdirSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { errorText } from "../error-text.ts";
import { recordSchema } from "../report/jsonl.ts";

const EVIDENCE = "evidence.jsonl";

const bundleNames = [
  "report.txt",
  "report.html",
  "evidence.jsonl",
  "trace.txt",
  "environment.json",
  "scenario.json",
  "repro.sh",
  "console.txt",
  "guest-console.txt",
  "proposal.json",
  "reproducer.c",
] as const;

export type BundleFile = { readonly name: (typeof bundleNames)[number]; readonly text: string };

/** A folder that may not be filled, or could not be. */
export class BundleError extends Error {
  override readonly name = "BundleError";
}

/** The line of type `run` is a few KiB: it has the capabilities of KVM. */
const FIRST_LINE_BYTES_MAX = 1 << 20;

/** Does the file begin with the line that begins a recorded run? */
function beginsWithRun(path: string): boolean {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    if (!fstatSync(fd).isFile()) return false;
    const bytes = Buffer.alloc(FIRST_LINE_BYTES_MAX);
    const [line = ""] = bytes.toString("utf8", 0, readSync(fd, bytes)).split("\n");
    const parsed = recordSchema.safeParse(JSON.parse(line));
    return parsed.success && parsed.data.type === "run";
  } catch (error) {
    if (error instanceof SyntaxError) return false;
    throw error;
  } finally {
    closeSync(fd);
  }
}

/** Why the folder's content may not be replaced; null: it may. */
function contentProblem(folder: string): string | null {
  const entries = readdirSync(folder, { withFileTypes: true });
  if (entries.length === 0) return null;
  const names: readonly string[] = bundleNames;
  const foreign = entries.find((entry) => !entry.isFile() || !names.includes(entry.name));
  if (foreign !== undefined) {
    return `it is not empty, and no earlier bundle: ${foreign.name} is ${foreign.isFile() ? "no file of one" : "no file"}`;
  }
  if (!entries.some(({ name }) => name === EVIDENCE) || !beginsWithRun(join(folder, EVIDENCE))) {
    return `it is not empty, and no earlier bundle: no ${EVIDENCE} of a recorded run is in it`;
  }
  return null;
}

/** Why nothing can be put in this place; null: it can. */
function placeProblem(folder: string): string | null {
  const status = lstatSync(folder, { throwIfNoEntry: false });
  if (status === undefined) return null;
  if (status.isSymbolicLink()) return "it is a link";
  if (!status.isDirectory()) return "it is no folder";
  if (folder === process.cwd()) return "it is the working directory: name a folder in it";
  if (status.dev !== lstatSync(dirname(folder)).dev) return "it is a mount point: name a folder in it";
  return contentProblem(folder);
}

function removeFiles(folder: string): void {
  for (const name of readdirSync(folder)) unlinkSync(join(folder, name));
  rmdirSync(folder);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== "ESRCH";
  }
}

/** Is it a folder of ours, with files of a bundle only? */
function isOurs(folder: string): boolean {
  const status = lstatSync(folder, { throwIfNoEntry: false });
  if (status?.isDirectory() !== true || status.uid !== process.geteuid?.()) return false;
  const names: readonly string[] = bundleNames;
  return readdirSync(folder, { withFileTypes: true }).every(
    (entry) => entry.isFile() && names.includes(entry.name),
  );
}

/** Takes away what processes that were killed have left beside the place; an earlier bundle that they had moved comes back. */
function removeDead(folder: string): void {
  const parent = dirname(folder);
  for (const name of readdirSync(parent)) {
    if (!name.startsWith(`${basename(folder)}.`)) continue;
    const [, kind, pid] = /^\.(partial|earlier)-([1-9]\d*)$/.exec(name.slice(basename(folder).length)) ?? [];
    const left = join(parent, name);
    if (kind === undefined || isAlive(Number(pid)) || !isOurs(left)) continue;
    const isMissing = lstatSync(folder, { throwIfNoEntry: false }) === undefined;
    if (kind === "earlier" && isMissing) renameSync(left, folder);
    else removeFiles(left);
  }
}

function writeNew(path: string, { name, text }: BundleFile): void {
  const { O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants;
  const mode = name === "repro.sh" ? 0o777 : 0o666;
  const fd = openSync(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode);
  try {
    writeFileSync(fd, text);
  } finally {
    closeSync(fd);
  }
}

export class BundleFolder {
  readonly #asked: string;
  readonly #folder: string;
  readonly #partial: string;
  #isOpen = true;

  /** Makes the folder beside the place. Throws a BundleError where the place is taken, or nothing can be written. */
  constructor(folder: string) {
    this.#asked = folder;
    this.#folder = resolve(folder);
    this.#partial = `${this.#folder}.partial-${process.pid}`;
    this.#try(() => {
      mkdirSync(dirname(this.#folder), { recursive: true });
      this.#check();
      removeDead(this.#folder);
      // It can be made: a case is not run for nothing. Made again when it is filled.
      mkdirSync(this.#partial);
      rmdirSync(this.#partial);
    });
  }

  #try(body: () => void): void {
    try {
      body();
    } catch (error) {
      throw new BundleError(`${this.#asked}: ${errorText(error)}`);
    }
  }

  #check(): void {
    const problem = placeProblem(this.#folder);
    if (problem !== null) throw new Error(problem);
  }

  /** Writes the files and puts the folder in its place. Throws a BundleError; then the place is as it was. */
  commit(files: readonly BundleFile[]): void {
    this.#try(() => {
      mkdirSync(this.#partial);
      for (const file of files) writeNew(join(this.#partial, file.name), file);
      // The case took its time.
      this.#check();
      this.#replace();
    });
    this.#isOpen = false;
  }

  #replace(): void {
    const isThere = lstatSync(this.#folder, { throwIfNoEntry: false }) !== undefined;
    if (!isThere) {
      renameSync(this.#partial, this.#folder);
      return;
    }
    const earlier = `${this.#folder}.earlier-${process.pid}`;
    renameSync(this.#folder, earlier);
    try {
      renameSync(this.#partial, this.#folder);
    } catch (error) {
      renameSync(earlier, this.#folder);
      throw error;
    }
    removeFiles(earlier);
  }

  /** Takes away what is not in its place. */
  discard(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    if (lstatSync(this.#partial, { throwIfNoEntry: false }) !== undefined) removeFiles(this.#partial);
  }
}
