/**
 * A mount served by root, used by another user, while the source is changed under it: folders and files are swapped for
 * links that lead outside, and moved. The user may do anything inside and nothing outside, so that whatever of the outside
 * is read or changed was reached by the server.
 */
import { type ChildProcess, spawn } from "node:child_process";
import {
  appendFileSync,
  chmodSync,
  closeSync,
  fchmodSync,
  ftruncateSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { compiledEntry } from "../../../sys/src/index.ts";
import { Random } from "../../src/fuzz/generate.ts";
import { asUser, setAttribute, tried } from "../support/calls.ts";
import { temporaryDirectory } from "../support/directories.ts";
import { noMountBecause, startServer } from "../support/server.ts";

const reason = process.geteuid?.() === 0 ? noMountBecause("devfuse") : "needs root to act as other users";
const SECONDS = process.env.DAXFAULT_LONG ? 600 : 3;
const USER = { uid: 4711, gid: 4711 };
const SECRET = "the secret of the outside";

/** Swaps names of `source` with each other until it is killed: each is a folder or a file, and a link that leads outside. */
function swapping(source: string): ChildProcess {
  const sys = compiledEntry(import.meta.url, "../../../sys/src/index.ts").href;
  const script = `const { files } = await import(${JSON.stringify(sys)});
    const at = (name) => files.pathBytes(process.argv[1] + "/" + name);
    const swap = (a, b) => files.renameat2(files.AT_FDCWD, at(a), files.AT_FDCWD, at(b), files.RENAME_EXCHANGE);
    for (;;) { swap("folder", "to-folder"); swap("file", "to-file"); swap("deep/folder", "up"); swap("deep/file", "to-file"); }`;
  return spawn(process.execPath, ["--input-type=module", "-e", script, source], { stdio: "inherit" });
}

function madeSource(outside: string): string {
  const source = temporaryDirectory();
  for (const name of ["folder", "deep", "deep/folder"]) mkdirSync(join(source, name));
  for (const name of ["file", "deep/file", "folder/inner", "deep/folder/inner"])
    writeFileSync(join(source, name), "inside");
  symlinkSync(outside, join(source, "to-folder"));
  symlinkSync(join(outside, "secret"), join(source, "to-file"));
  symlinkSync(join("..", "..", outside), join(source, "up"));
  for (const name of [".", "folder", "deep", "deep/folder", "file", "deep/file"])
    chmodSync(join(source, name), 0o777);
  return source;
}

const NAMES = [
  "folder",
  "to-folder",
  "up",
  "deep/folder",
  "file",
  "to-file",
  "deep/file",
  "folder/secret",
  "up/secret",
  "deep/folder/secret",
  "to-folder/inner",
];

/** Anything that a user can do to a name. Returns what it read. */
function act(at: (name: string) => string, random: Random): unknown {
  const name = at(random.pick(NAMES));
  const other = at(random.pick(["own", "folder/own", "deep/folder/own", "up/own"]));
  const actions: readonly (() => unknown)[] = [
    () => readFileSync(name, "utf8"),
    () => readdirSync(name).join(" "),
    () => appendFileSync(name, "x"),
    () => truncateSync(name, 3),
    () => chmodSync(name, 0o777),
    () => utimesSync(name, 1, 1),
    () => linkSync(name, other),
    () => renameSync(name, other),
    () => renameSync(other, name),
    () => unlinkSync(name),
    () => writeFileSync(other, "mine"),
    () => setAttribute(name, "user.x", Buffer.from("x")),
    () => mkdirSync(other),
    () => rmSync(other, { recursive: true, force: true }),
    () => {
      const fd = openSync(name, "r+");
      fchmodSync(fd, 0o666);
      ftruncateSync(fd, 5);
      closeSync(fd);
      return null;
    },
  ];
  return tried(random.pick(actions));
}

describe.skipIf(reason !== null).each([
  ["default", []],
  ["--passthrough", ["--passthrough"]],
  ["no file handles", ["--inode-file-handles", "never"]],
])("a hostile source on a mount by %s", (_title, args) => {
  it(`lets its user reach nothing outside in ${SECONDS} s`, async () => {
    const [outside, mounted] = [temporaryDirectory(), temporaryDirectory()];
    writeFileSync(join(outside, "secret"), SECRET, { mode: 0o600 });
    chmodSync(outside, 0o700);
    const looks = (): unknown =>
      ["", "secret"].map((name) => {
        const { mode, uid, size, nlink, mtimeMs, ctimeMs } = lstatSync(join(outside, name));
        return [mode, uid, size, nlink, mtimeMs, ctimeMs];
      });
    const before = looks();
    const source = madeSource(outside);
    chmodSync(mounted, 0o755);
    const uncached = ["--entry-timeout", "0", "--attr-timeout", "0"];
    const server = await startServer(["--source", source, "--mountpoint", mounted, ...uncached, ...args]);
    const swapper = swapping(source);
    const random = new Random(3);
    const seen = new Map<string, number>();
    let secrets = 0;
    try {
      const end = performance.now() + SECONDS * 1000;
      while (performance.now() < end) {
        asUser(USER, () => {
          const result = act((name) => join(mounted, name), random);
          const word = typeof result === "string" && /^E[A-Z]+$/.test(result) ? result : "done";
          if (typeof result === "string" && result.includes("secret of")) secrets += 1;
          seen.set(word, (seen.get(word) ?? 0) + 1);
        });
      }
    } finally {
      swapper.kill("SIGKILL");
      await server.stop();
    }
    expect([secrets, looks(), readFileSync(join(outside, "secret"), "utf8")]).toEqual([0, before, SECRET]);
    // Both were met: names inside that let it, and links to what is closed to it.
    expect([...seen.keys()]).toEqual(expect.arrayContaining(["done", "EACCES"]));
    expect([...seen.values()].reduce((sum, count) => sum + count, 0)).toBeGreaterThan(300 * SECONDS);
  }, 900_000);
});
