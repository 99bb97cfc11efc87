/**
 * Leaves nothing behind: kills every process that works for a folder, takes away every mount below it, removes it.
 * The same routine after a case, at the normal end of a run, and in the janitor after a crash.
 * Every loop has a bound: a process stuck in the kernel must not hang the clean-up as well.
 */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { basename, dirname, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  MNT_DETACH,
  MNT_FORCE,
  mountsBelow,
  unmountLazily,
  unmount as unmountNow,
} from "../../../sys/src/index.ts";
import { errorText } from "../error-text.ts";
import { runDirectoryParent } from "../paths.ts";
import { MAY_BE_STOPPED, RUN_TAG } from "./tag.ts";

const KILL_ROUNDS = 60;
const KILL_PAUSE_MS = 25;
const UNMOUNT_ROUNDS = 64;
const REMOVE_ROUNDS = 10;

export const RUN_DIRECTORY_PREFIX = "daxfault-";

/** Is this a run's folder, or something in one? Nothing else is ever swept. */
export function isRunDirectory(directory: string, parent: string = runDirectoryParent): boolean {
  // A path with `..` in it may lead anywhere.
  if (resolve(directory) !== directory) return false;
  for (let folder = directory; folder !== dirname(folder); folder = dirname(folder)) {
    if (dirname(folder) === parent && basename(folder).startsWith(RUN_DIRECTORY_PREFIX)) return true;
  }
  return false;
}

/** None of a process that is gone, or another user's. */
function environmentOf(pid: string): readonly string[] {
  try {
    // As process.env reads it: the folder may have any letters.
    return readFileSync(`/proc/${pid}/environ`, "utf8").split("\0");
  } catch {
    return [];
  }
}

function mayBeStopped(pid: string): boolean {
  return environmentOf(pid).includes(`${MAY_BE_STOPPED}=1`);
}

function worksFor(pid: string, directory: string): boolean {
  for (const entry of environmentOf(pid)) {
    if (!entry.startsWith(`${RUN_TAG}=`)) continue;
    const tag = entry.slice(RUN_TAG.length + 1);
    return tag === directory || tag.startsWith(`${directory}/`);
  }
  return false;
}

/** The processes that carry the tag of `directory` or of a folder below it; this one excepted. */
export function processesOf(directory: string): readonly number[] {
  return readdirSync("/proc")
    .filter((name) => /^[0-9]+$/.test(name) && Number(name) !== process.pid && worksFor(name, directory))
    .map(Number);
}

/** `process 17 (mapper-main)`: the entry point that a process of ours runs, else its program. */
function processText(pid: number): string {
  let words: readonly string[] = [];
  try {
    words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
  } catch {
    // Ended meanwhile.
  }
  const entry = words.find((word) => word.endsWith("-main.js"));
  return `process ${pid} (${basename(entry ?? words[0] ?? "", ".js")})`;
}

function isStopped(pid: string): boolean {
  try {
    return /^State:\s+T/im.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

/**
 * The processes of `directory` that are stopped (SIGSTOP), one phrase each: what they were to do has not happened. Not
 * those that a scenario may stop. Looks at the memory of no other process: one that hangs in a page fault may hold the lock for which a reader of its
 * /proc/PID/environ would wait (proc_pid_status() takes none).
 */
export function stoppedProcesses(directory: string): readonly string[] {
  return readdirSync("/proc")
    .filter(
      (name) => /^[0-9]+$/.test(name) && isStopped(name) && worksFor(name, directory) && !mayBeStopped(name),
    )
    .map((name) => processText(Number(name)));
}

async function killProcesses(directory: string): Promise<readonly number[]> {
  let left: readonly number[] = [];
  for (let round = 0; round < KILL_ROUNDS; round += 1) {
    left = processesOf(directory);
    if (left.length === 0) return left;
    for (const pid of left) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // Ended by itself meanwhile.
      }
    }
    await sleep(KILL_PAUSE_MS);
  }
  return left;
}

function unmount(mountpoint: string): void {
  try {
    unmountLazily(mountpoint);
  } catch {
    // Not root: a FUSE mount of ours can be taken away by the set-user-id helper.
    for (const helper of ["fusermount3", "fusermount"]) {
      try {
        execFileSync(helper, ["-u", "-z", mountpoint], { stdio: "ignore", timeout: 5000 });
        return;
      } catch {
        // The next helper; what is still mounted afterwards is reported by the caller.
      }
    }
  }
}

/**
 * Ends the FUSE connections below `directory` (fuse_umount_begin()), where root: what waits for a server that does not
 * answer goes on, before anything looks at the memory of such a process, and could wait for a lock that it holds.
 */
function abortFuseMounts(directory: string): void {
  for (const { mountpoint, type } of mountsBelow(directory)) {
    if (type.startsWith("fuse")) unmountNow(mountpoint, MNT_FORCE | MNT_DETACH);
  }
}

/** Unmounts `directory` and everything below it, even what is still in use. Returns the mounts that stayed. */
export function unmountBelow(directory: string): readonly string[] {
  let previous = "";
  for (let round = 0; round < UNMOUNT_ROUNDS; round += 1) {
    const below = mountsBelow(directory).map((mount) => mount.mountpoint);
    // Nothing changed since the last round: trying again would not help.
    if (below.length === 0 || below.join("\n") === previous) return below;
    for (const mountpoint of below) unmount(mountpoint);
    previous = below.join("\n");
  }
  return mountsBelow(directory).map((mount) => mount.mountpoint);
}

async function remove(directory: string): Promise<string | null> {
  let problem: string | null = null;
  for (let round = 0; round < REMOVE_ROUNDS; round += 1) {
    try {
      rmSync(directory, { recursive: true, force: true });
      return null;
    } catch (error) {
      problem = errorText(error);
    }
    await sleep(KILL_PAUSE_MS);
  }
  return problem;
}

/**
 * Ends everything that works for `directory` and removes it. Returns what is left, one sentence each: normally nothing.
 * Throws for a folder that is not a run's: this routine kills and deletes.
 */
export async function sweep(
  directory: string,
  parent: string = runDirectoryParent,
): Promise<readonly string[]> {
  if (!isRunDirectory(directory, parent))
    throw new Error(`${directory} is not a run directory below ${parent}`);
  const left: string[] = [];
  abortFuseMounts(directory);
  for (const pid of await killProcesses(directory)) left.push(`process ${pid} does not die`);
  const mounted = unmountBelow(directory);
  for (const mountpoint of mounted) left.push(`${mountpoint} is still mounted`);
  // Removing files below a live mount would remove them in the mounted tree.
  if (mounted.length > 0) return left;
  const problem = await remove(directory);
  if (problem !== null) left.push(problem);
  return left;
}
