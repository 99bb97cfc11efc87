/** What the suites work on: a repository with a history, and a tree with everything that a backup must keep. */
import { execFile } from "node:child_process";
import {
  chmodSync,
  chownSync,
  closeSync,
  ftruncateSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  openSync,
  readdirSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { files } from "../../../sys/src/index.ts";

const MAKEFILE = `objects = $(patsubst %.c,build/%.o,$(wildcard *.c))
program: $(objects)
\t$(CC) -o $@ $^
build/%.o: %.c all.h | build
\t$(CC) -O1 -c -o $@ $<
build:
\tmkdir -p build
`;

function writeSources(folder: string, modules: number, factor: number): void {
  const all = Array.from({ length: modules }, (_, i) => i);
  for (const i of all) {
    writeFileSync(join(folder, `module${i}.c`), `int module${i}(void) { return ${i} * ${factor}; }\n`);
  }
  writeFileSync(join(folder, "all.h"), all.map((i) => `int module${i}(void);\n`).join(""));
  const sum = all.map((i) => `module${i}()`).join(" + ");
  const expected = all.reduce((total, i) => total + i * factor, 0);
  const main = `#include "all.h"\nint main(void) { return ${sum} == ${expected} ? 0 : 1; }\n`;
  writeFileSync(join(folder, "main.c"), main);
}

/** A git repository of a C program, with two commits. */
export async function makeRepository(folder: string, modules: number): Promise<void> {
  mkdirSync(folder);
  const identity = ["-c", "user.name=test", "-c", "user.email=test@example.invalid"];
  const git = (...args: string[]): Promise<unknown> =>
    promisify(execFile)("git", [...identity, ...args], { cwd: folder });
  await git("init", "-q");
  writeFileSync(join(folder, "Makefile"), MAKEFILE);
  writeFileSync(join(folder, ".gitignore"), "build/\nprogram\n");
  writeFileSync(join(folder, "binary"), Buffer.alloc(300_000, "\0\u0001pattern"));
  for (const factor of [1, 3]) {
    writeSources(folder, modules, factor);
    await git("add", "-A");
    await git("commit", "-q", "-m", `times ${factor}`);
  }
}

/** Sparse and large files, links of both kinds, modes, owners, times, attributes, odd names. */
export function makeTree(folder: string): void {
  mkdirSync(join(folder, "deep/deeper/deepest"), { recursive: true });
  const at = (name: string): string => join(folder, name);
  for (let i = 0; i < 50; i += 1) writeFileSync(at(`deep/file ${i}`), "x".repeat(i * 997));
  writeFileSync(at("large"), Buffer.alloc(3_000_001, "large content "));
  const sparse = openSync(at("sparse"), "w");
  ftruncateSync(sparse, 2 ** 25 + 5);
  writeSync(sparse, "end", 2 ** 25);
  closeSync(sparse);
  linkSync(at("large"), at("deep/hard-link"));
  symlinkSync("../large", at("deep/link"));
  symlinkSync("/nowhere/at/all", at("dangling"));
  for (const mode of [0o400, 0o640, 0o755, 0o4755, 0o2750, 0o1777]) {
    writeFileSync(at(`mode-${mode.toString(8)}`), "mode");
    chmodSync(at(`mode-${mode.toString(8)}`), mode);
  }
  files.mknodat(files.AT_FDCWD, files.pathBytes(at("fifo")), files.S_IFIFO | 0o600, 0n);
  writeFileSync(at("n\u00e4me with\nnewline"), "odd");
  writeFileSync(at("attributed"), "a");
  const name = files.pathBytes("user.origin");
  files.setxattr(files.pathBytes(at("attributed")), name, Buffer.from("somewhere"), 0);
  if (process.geteuid?.() === 0) chownSync(at("deep/file 1"), 1234, 4321);
  // Long ago: a copy that is made within the same second must not have the right times by chance.
  for (const [i, name] of ["", ...readdirSync(folder, { recursive: true, encoding: "utf8" })].entries()) {
    lutimesSync(at(name), 1_000_000_000.123, 1_100_000_000.456 + i);
  }
}
