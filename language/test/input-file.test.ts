import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { FOLDER_FILES_MAX, InputError, jsonFilesOf, readInput, readLog } from "../src/input-file.ts";

const folder = mkdtempSync(join(tmpdir(), "daxfault-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function refusal(read: () => unknown): string {
  try {
    read();
  } catch (error) {
    if (error instanceof InputError) return error.message;
    throw error;
  }
  throw new Error("nothing was refused");
}

const put = (name: string, text: string): string => {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
};

describe("readInput", () => {
  it("reads a file of exactly the limit, and refuses one byte more, with both numbers", () => {
    const path = put("ten", "0123456789");
    expect(readInput(path, 10)).toBe("0123456789");
    expect(refusal(() => readInput(path, 9))).toBe("10 bytes are more than the limit 9");
  });

  it("stops at the limit where the size that was looked at says less", () => {
    // Files of /proc have size 0 and content.
    expect(readInput("/proc/self/status", 64 * 1024)).toContain("Name:");
    expect(refusal(() => readInput("/proc/self/status", 16))).toBe("more than the limit of 16 bytes");
  });

  it.each([
    ["a FIFO", "is a FIFO, not a regular file", (path: string) => void execFileSync("mkfifo", [path])],
    ["a device", "is a device, not a regular file", (path: string) => symlinkSync("/dev/zero", path)],
    ["a folder", "is a directory, not a regular file", (path: string) => symlinkSync(folder, path)],
    ["memory", "cannot be read: EIO", (path: string) => symlinkSync("/proc/self/mem", path)],
    ["a loop", "cannot be read: ELOOP", (path: string) => symlinkSync(path, path)],
  ])("refuses %s before anything is read", (name, message, make) => {
    const path = join(folder, name);
    make(path);
    expect(refusal(() => readInput(path, 100))).toBe(message);
  });
});

describe("readLog", () => {
  it("takes bytes that are no UTF-8 for what they are", () => {
    writeFileSync(join(folder, "log"), Buffer.from([0x61, 0xff, 0x62]));
    expect(readLog(join(folder, "log"), 100)).toBe("a\ufffdb");
  });

  it.each([
    ["gzip", ["-c"], "is packed (gzip); zcat FILE | ... --log - reads it"],
    ["xz", ["-c"], "is packed (xz); xzcat FILE | ... --log - reads it"],
  ])("refuses what %s has packed, in which nothing would be found", (program, args, message) => {
    const path = join(folder, program);
    writeFileSync(path, execFileSync(program, args, { input: "error: kvm run failed Bad address\n" }));
    expect(refusal(() => readLog(path, 1000))).toBe(message);
  });

  it("refuses UTF-16", () => {
    writeFileSync(join(folder, "utf16"), Buffer.from("\ufeffkvm", "utf16le"));
    expect(refusal(() => readLog(join(folder, "utf16"), 100))).toBe("is UTF-16; write it in UTF-8");
  });
});

describe("readStandardInput", () => {
  const source = fileURLToPath(new URL("../../dist/language/src/input-file.js", import.meta.url));
  const program = `import(${JSON.stringify(source)}).then(({ readStandardInput }) => {
    try { console.log(readStandardInput(1000)); } catch (error) { console.log(error.name, error.message); }
  })`;
  const read = (input: string | number) =>
    spawnSync(process.execPath, ["-e", program], {
      encoding: "utf8",
      ...(typeof input === "string" ? { input } : { stdio: [input, "pipe", "pipe"] }),
    }).stdout.trim();

  it("reads a pipe to its end, and no further than the limit", () => {
    expect(read("a line")).toBe("a line");
    expect(read("x".repeat(1001))).toBe("InputError more than the limit of 1000 bytes");
  });

  it("never reads a device to its end", () => {
    const stdout = execFileSync("sh", ["-c", 'exec "$0" -e "$1" < /dev/zero', process.execPath, program], {
      encoding: "utf8",
    });
    expect(stdout.trim()).toBe("InputError more than the limit of 1000 bytes");
  });
});

describe("jsonFilesOf", () => {
  it("has a limit", () => {
    const many = mkdtempSync(join(folder, "many-"));
    for (let index = 0; index < FOLDER_FILES_MAX; index += 1) writeFileSync(join(many, `${index}.json`), "");
    writeFileSync(join(many, "notes.txt"), "");
    expect(jsonFilesOf(many)).toHaveLength(FOLDER_FILES_MAX);
    writeFileSync(join(many, "one-more.json"), "");
    expect(refusal(() => jsonFilesOf(many))).toBe("513 files *.json are more than the limit 512");
    expect(readFileSync(join(many, "notes.txt"), "utf8")).toBe("");
  });
});
