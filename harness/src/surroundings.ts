/**
 * What the user's surroundings lack or refuse: a folder, a limit, a device, /proc. No defect of this program: the message
 * says what is wrong and what to do, and the exit code is that of usage. Which errors of the system are of this kind is
 * decided here alone; an error that is not is a defect.
 */
import { mkdtempSync, readFileSync, readlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { errorText } from "./error-text.ts";

export type Problem = {
  /** What is wrong, and why. */
  readonly what: string;
  /** What to do. */
  readonly next: string;
};

export function problemText({ what, next }: Problem): string {
  return `${what}. Next: ${next}`;
}

export class SurroundingsError extends Error {
  override readonly name = "SurroundingsError";
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(problemText(problem));
    this.problem = problem;
  }
}

const folderHints: Readonly<Partial<Record<string, string>>> = {
  ENOENT: "there is no such folder",
  ENOTDIR: "it is no folder",
  EACCES: "it may not be written by this user",
  EPERM: "it may not be written by this user",
  EROFS: "it is on a read-only file system",
  ENOSPC: "its file system is full, or has no inodes left",
  EDQUOT: "the quota of its file system is used up",
  EIO: "its device does not answer as it should",
  ENAMETOOLONG: "its path is too long",
  ELOOP: "its path has a loop of links",
};

type Lack = { readonly why: string; readonly next: string };

const MORE_DESCRIPTORS = "raise the limit: ulimit -n 4096; the hard one as root or in limits.conf(5)";

const memory: Lack = {
  why: "there is no memory left, or no more than ulimit -v allows",
  next: "end other programs, or raise the limit",
};

/** Errors of the system that any call may meet, whatever it asks for. */
const lacks: Readonly<Partial<Record<string, Lack>>> = {
  EMFILE: {
    why: "this process has all the descriptors that it may have",
    next: MORE_DESCRIPTORS,
  },
  ENFILE: {
    why: "the machine has no descriptors left",
    next: "end other programs, or raise sysctl fs.file-max",
  },
  ENOSPC: {
    why: "the file system is full, or has no inodes left",
    next: `free some there; temporary files lie in ${JSON.stringify(tmpdir())} (TMPDIR)`,
  },
  EDQUOT: {
    why: "the quota of the file system is used up",
    next: `free some there; temporary files lie in ${JSON.stringify(tmpdir())} (TMPDIR)`,
  },
  EROFS: {
    why: "the file system is read-only",
    next: "name another place; for temporary files set TMPDIR",
  },
  EFBIG: {
    why: "the file is larger than this process may make one",
    next: "raise the limit: ulimit -f unlimited",
  },
  ENOMEM: memory,
  ERR_WORKER_OUT_OF_MEMORY: memory,
};

/** Of starting a process or a thread: of other calls, EAGAIN is none. */
const noProcess: Lack = {
  why: "this user has all the processes and threads that it may have",
  next: "end some, or raise the limit: ulimit -u 4096",
};

/** Calls that make a process or a thread, as errors name them. */
const STARTS = /\b(spawn|fork|clone|pthread_create|ERR_WORKER_INIT_FAILED)\b/;

function lackOf(text: string): Lack | null {
  const code = Object.keys(lacks).find((name) => new RegExp(`\\b${name}\\b`).test(text));
  if (code !== undefined) return lacks[code] ?? null;
  return /\bEAGAIN\b/.test(text) && STARTS.test(text) ? noProcess : null;
}

/** What the text of an error says of the surroundings; null: nothing. */
export function lackIn(text: string): Problem | null {
  const found = lackOf(text);
  return found === null ? null : { what: `${text}: ${found.why}`, next: found.next };
}

/** The process has no working directory: Node asks for it by getcwd(3). */
export const noWorkingDirectory: Problem = {
  what: "the working directory does not exist any more (ENOENT)",
  next: "cd to one that does",
};

const noProc: Problem = {
  what: "/proc is not mounted: processes and mounts are found there",
  next: "mount -t proc proc /proc",
};

/** What was thrown as a message of the surroundings; null: it says nothing of them. */
export function surroundingsText(error: unknown): string | null {
  if (!(error instanceof Error)) return null;
  if (error instanceof SurroundingsError) return error.message;
  const { syscall, path } = error as NodeJS.ErrnoException;
  if (syscall === "uv_cwd") return problemText(noWorkingDirectory);
  // Nothing but a temporary folder is made by this call.
  const folder = syscall === "mkdtemp" && path !== undefined ? folderProblem(dirname(path), error) : null;
  if (folder !== null) return problemText(folder);
  if (path?.startsWith("/proc/self/")) return problemText(noProc);
  const lack = lackIn(errorText(error));
  return lack === null ? surroundingsText(error.cause) : problemText(lack);
}

/** Why the temporary folder cannot be used; null: for a reason that says nothing of the surroundings. */
export function folderProblem(folder: string, error: unknown): Problem | null {
  const { code } = error as NodeJS.ErrnoException;
  const hint = code === undefined ? undefined : folderHints[code];
  if (hint === undefined) return null;
  // What is no UTF-8 comes as U+FFFD, and is another name then.
  const encoding = folder.includes("\u{fffd}") ? "; its name is not UTF-8, which Node needs" : "";
  return {
    what: `temporary folder ${JSON.stringify(folder)}: ${hint} (${code})${encoding}`,
    next: "set TMPDIR to a folder that this user can write",
  };
}

/** A new folder `PREFIX??????` in the temporary folder. Throws a SurroundingsError where there can be none. */
export function makeTemporaryFolder(parent: string, prefix: string): string {
  try {
    return mkdtempSync(join(parent, prefix));
  } catch (error) {
    const problem = folderProblem(parent, error);
    throw problem === null ? error : new SurroundingsError(problem);
  }
}

/**
 * Descriptors that a run may need at once in this process: modules, pipes of children, files, devices. Node opens modules
 * side by side, and how many are open at once is a matter of the disk's speed: all of them are the bound. With less even
 * the reason of a failure may be another one: what Node cannot open, it may say is not there.
 */
export const DESCRIPTORS_MIN = 1024;

/** @param limits /proc/self/limits; Node raises the soft limit to the hard one at start */
export function descriptorsProblem(limits: string): Problem | null {
  const limit = Number(/^Max open files\s+(\d+)/m.exec(limits)?.[1] ?? DESCRIPTORS_MIN);
  if (limit >= DESCRIPTORS_MIN) return null;
  return {
    what: `this process may have ${limit} descriptors (ulimit -n), and daxfault needs ${DESCRIPTORS_MIN}`,
    next: MORE_DESCRIPTORS,
  };
}

/**
 * Why the processes and mounts of a run could not be found; null: they can.
 * @param self this process's id in /proc; null: /proc does not know it
 */
export function procProblem(self: string | null, pid: number): Problem | null {
  if (self === null) return noProc;
  if (self === String(pid)) return null;
  return {
    what: `/proc is that of another PID namespace (this process is ${self} there, and ${pid} here): a run could not find its processes`,
    next: `${noProc.next}, or unshare --mount-proc`,
  };
}

function unlessMissing<Value>(read: () => Value): Value | null {
  try {
    return read();
  } catch {
    return null;
  }
}

/** What this process lacks to do anything; null: nothing. */
export function ownDescriptorsProblem(): Problem | null {
  return descriptorsProblem(unlessMissing(() => readFileSync("/proc/self/limits", "utf8")) ?? "");
}

/** Throws a SurroundingsError where a command that starts processes could neither find nor end them. */
export function requireProcesses(): void {
  const self = unlessMissing(() => readlinkSync("/proc/self"));
  const problem = procProblem(self, process.pid) ?? ownDescriptorsProblem();
  if (problem !== null) throw new SurroundingsError(problem);
}
