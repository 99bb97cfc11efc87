/** Which folders of the cache a live process uses: a file a process, named by its pid and start time, a folder a line. */
import { appendFileSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";

const FOLDER = "in-use";
/** Of /proc/PID/stat, behind the program's name in parentheses: field 22, starttime (proc(5)). */
const START_FIELD = 22 - 3;

/** null: there is no such process. */
function startOf(pid: number): string | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "latin1");
    return text.slice(text.lastIndexOf(")") + 2).split(" ")[START_FIELD] ?? null;
  } catch {
    return null;
  }
}

const held = new Set<string>();

/**
 * From now on until this process ends, `daxfault kernels --clean` leaves the folder alone.
 * @param cache the cache's own folder
 */
export function hold(cache: string, folder: string): void {
  if (held.has(folder)) return;
  const path = join(cache, FOLDER, `${process.pid}.${startOf(process.pid)}`);
  mkdirSync(dirname(path), { recursive: true });
  if (held.size === 0) process.once("exit", () => rmSync(path, { force: true }));
  held.add(folder);
  appendFileSync(path, `${folder}\n`);
}

/** The folders that live processes use. What ended ones have left is removed. */
export function heldFolders(cache: string): ReadonlySet<string> {
  const directory = join(cache, FOLDER);
  const folders = new Set<string>();
  let names: readonly string[] = [];
  try {
    names = readdirSync(directory);
  } catch {
    return folders;
  }
  for (const name of names) {
    const [pid, start] = name.split(".");
    const path = join(directory, name);
    if (startOf(Number(pid)) !== start) rmSync(path, { force: true });
    else for (const folder of readFileSync(path, "utf8").split("\n")) if (folder !== "") folders.add(folder);
  }
  return folders;
}
