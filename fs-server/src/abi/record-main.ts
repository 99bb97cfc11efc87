/**
 * Records the FUSE ABI as the kernel's own header has it: compiles a C program against <linux/fuse.h>, runs it,
 * and writes sizes, offsets and constants of everything in our table to fixtures/abi/<name>.json.
 *
 * Usage: scripts/abi-record NAME [INCLUDE_DIRECTORY]
 * Rows that the header does not have (newer than it) are recorded as null, not comparable.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CONSTANTS, INIT_FLAGS } from "./constants.ts";
import { layoutOf } from "./layout.ts";
import { OPCODES } from "./opcodes.ts";
import { STRUCTS, type StructName } from "./structs.ts";

type Recorded = Record<string, number | string | null>;

/** What the header mentions, as words: decides what can be asked of it without a compile error. */
function wordsOf(header: string): ReadonlySet<string> {
  return new Set(header.match(/\w+/g));
}

/** The fields between `struct name {` and its closing brace. */
function fieldsOf(header: string, name: string): ReadonlySet<string> {
  const body = new RegExp(`struct ${name} \\{([^}]*)\\}`).exec(header)?.[1] ?? "";
  return wordsOf(body);
}

function questions(header: string): { lines: string[]; absent: string[] } {
  const words = wordsOf(header);
  const lines: string[] = [];
  const absent: string[] = [];
  /** Asks for `expression`, if the header has the word that it names among `known`. */
  const ask = (key: string, expression: string, word: string, known: ReadonlySet<string>): void => {
    if (known.has(word)) lines.push(`  say("${key}", VALUE(${expression}));`);
    else absent.push(key);
  };
  for (const name of Object.keys(STRUCTS) as StructName[]) {
    ask(`sizeof ${name}`, `sizeof(struct ${name})`, name, words);
    const fields = fieldsOf(header, name);
    for (const { name: field } of layoutOf(name).fields) {
      ask(`offsetof ${name}.${field}`, `offsetof(struct ${name}, ${field})`, field, fields);
      ask(`sizeof ${name}.${field}`, `sizeof(((struct ${name} *)0)->${field})`, field, fields);
    }
  }
  const constants = [
    ...OPCODES.map((row) => `FUSE_${row.name}`),
    ...Object.keys({ ...INIT_FLAGS, ...CONSTANTS }),
  ];
  for (const name of constants) ask(name, name, name, words);
  return { lines, absent };
}

function main(): void {
  const [name, includes = "/usr/include"] = process.argv.slice(2);
  if (name === undefined) throw new Error("usage: abi-record NAME [INCLUDE_DIRECTORY]");
  const header = readFileSync(join(includes, "linux/fuse.h"), "utf8");
  const { lines, absent } = questions(header);
  const program = [
    "#include <stdio.h>",
    "#include <stddef.h>",
    "#include <linux/fuse.h>",
    // `1 << 31` is a negative int: as 32 bits it means what the wire has.
    "#define VALUE(x) (sizeof(x) == 4 ? (unsigned long long)(unsigned int)(x) : (unsigned long long)(x))",
    'static void say(const char *key, unsigned long long v) { printf("%s\\t%llu\\n", key, v); }',
    "int main(void) {",
    '  printf("minor\\t%d\\n", FUSE_KERNEL_MINOR_VERSION);',
    ...lines,
    "  return 0;",
    "}",
  ].join("\n");
  const folder = mkdtempSync(join(tmpdir(), "abi-record-"));
  try {
    writeFileSync(join(folder, "abi.c"), program);
    execFileSync("gcc", ["-I", includes, "-o", join(folder, "abi"), join(folder, "abi.c")]);
    const output = execFileSync(join(folder, "abi"), { encoding: "utf8" });
    const recorded: Recorded = {};
    for (const line of output.trim().split("\n")) {
      const [key, value] = line.split("\t");
      // As text: a 64-bit number survives any reader of JSON.
      if (key !== undefined && value !== undefined) recorded[key] = value;
    }
    for (const key of absent) recorded[key] = null;
    mkdirSync("fixtures/abi", { recursive: true });
    writeFileSync(`fixtures/abi/${name}.json`, `${JSON.stringify(recorded, null, 2)}\n`);
    console.log(`fixtures/abi/${name}.json: ${lines.length} values, ${absent.length} not in that header`);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

main();
