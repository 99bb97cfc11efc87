/**
 * The record of the last run, which `daxfault report` reads where no FILE is named: one file of JSON lines in
 * `$XDG_STATE_HOME/daxfault`, else `~/.local/state/daxfault`. A run replaces it when it has all of it. A folder that
 * cannot be written is no error: the run then says how all of it is had otherwise.
 */
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  writeSync,
} from "node:fs";
import { homedir } from "node:os";
import { dirname, isAbsolute, join } from "node:path";

const NAME = "last-run.jsonl";

/** XDG's rule: a relative path is as good as none. */
function folder(): string {
  const base = process.env.XDG_STATE_HOME ?? "";
  return join(isAbsolute(base) ? base : join(homedir(), ".local", "state"), "daxfault");
}

export function lastRunPath(): string {
  return join(folder(), NAME);
}

/** Step by step: Node's `recursive` tries for ever where a folder that exists refuses with ENOENT, as /proc does. */
function makeFolder(path: string): void {
  if (existsSync(path)) return;
  makeFolder(dirname(path));
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    // Another run was quicker.
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** What runs that were killed while they wrote have left. */
function removeLeft(directory: string): void {
  for (const name of readdirSync(directory)) {
    const pid = /^last-run\.([0-9]+)\.partial$/.exec(name)?.[1];
    if (pid !== undefined && !isAlive(Number(pid))) rmSync(join(directory, name), { force: true });
  }
}

function writeRecords(path: string, records: readonly unknown[]): void {
  const fd = openSync(path, "wx", 0o600);
  try {
    for (const record of records) writeSync(fd, `${JSON.stringify(record)}\n`);
  } finally {
    closeSync(fd);
  }
}

/** Keeps the records of a run in place of those of the run before. Returns the file; null: it cannot be written. */
export function keepLastRun(records: readonly unknown[]): string | null {
  const directory = folder();
  const partial = join(directory, `last-run.${process.pid}.partial`);
  try {
    makeFolder(directory);
    removeLeft(directory);
    writeRecords(partial, records);
    renameSync(partial, lastRunPath());
    return lastRunPath();
  } catch {
    // No folder, no room, no permission: nothing of it stays.
    try {
      rmSync(partial, { force: true });
    } catch {
      return null;
    }
    return null;
  }
}
