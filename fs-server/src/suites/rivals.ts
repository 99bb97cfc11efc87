/**
 * Processes that want the same few names at once: each errno is one that the others' operations cause on any file system, and what
 * is counted up under a lock loses no count. Others were seen where threads of the server were not in order: EIO of an open
 * whose backing file another thread had closed.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { compiledEntry } from "../../../sys/src/index.ts";
import { command, type Effort, endText, type Place, type Suite } from "./suite.ts";

const CLIENTS = 4;
const MS: Readonly<Record<Effort, number>> = { whole: 4000, short: 500 };
const LONG_MS = 60_000;
const TOTAL = "total";
const COUNTED = "count by fcntl done";

/** By operation; `done` and, of a name that another one has taken away, ENOENT are ordinary of all. */
const ORDINARY: Readonly<Record<string, readonly string[]>> = {
  "create anew": ["EEXIST"],
  link: ["EEXIST"],
  "lock a range": ["EAGAIN"],
  flock: ["EAGAIN"],
};
/** What no other operation takes away. */
const LASTING = [
  "create ENOENT",
  "create anew ENOENT",
  "list ENOENT",
  "open often ENOENT",
  "count by fcntl ENOENT",
];

function isOrdinary(what: string): boolean {
  const [, operation = "", errno = ""] = /^(.*) (\S+)$/.exec(what) ?? [];
  if (LASTING.includes(what)) return false;
  return ["done", "ENOENT", ...(ORDINARY[operation] ?? [])].includes(errno);
}

async function runFor(ms: number, { folder, signal }: Place): Promise<readonly string[]> {
  writeFileSync(join(folder, TOTAL), new Uint8Array(8));
  const main = compiledEntry(import.meta.url, "../stress/rivals-main.ts").pathname;
  const clients = await Promise.all(
    Array.from({ length: CLIENTS }, (_, i) =>
      command(process.execPath, [main, folder, TOTAL, String(i + 1), String(ms)], { cwd: folder, signal }),
    ),
  );
  const complaints = new Set<string>();
  let counted = 0;
  for (const client of clients) {
    if (client.code !== 0) return [`a client ${endText(client)}`];
    const counts = JSON.parse(client.output) as Readonly<Record<string, number>>;
    counted += counts[COUNTED] ?? 0;
    for (const what of Object.keys(counts)) if (!isOrdinary(what)) complaints.add(what);
  }
  const total = readFileSync(join(folder, TOTAL)).readBigUInt64LE();
  if (counted === 0 || total !== BigInt(counted)) complaints.add("counts under the lock are lost");
  return [...complaints];
}

const WHAT = {
  needs: [],
  isAboutContent: true,
  // libfuse's operations get paths: where a name is taken away between look-up and open, O_CREAT is ENOENT.
  notOn: "libfuse",
} as const;

export const rivals: Suite = {
  ...WHAT,
  name: "rivals for a few names",
  run: (place) => runFor(MS[place.effort], place),
};

export const longRivals: Suite = {
  ...WHAT,
  name: "rivals for a minute",
  run: (place) => runFor(LONG_MS, place),
};
