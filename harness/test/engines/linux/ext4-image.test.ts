/** The image of a guest's NVDIMM: what e2fsprogs finds in it. A kernel mounts it in engine.test.ts. */
import { execFileSync } from "node:child_process";
import { closeSync, openSync, readFileSync, truncateSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ext4Metadata, FILE_BYTES_MAX, FILE_OFFSET } from "../../../src/engines/linux/ext4-image.ts";
import { caseFolder } from "../../support/folders.ts";

const MIB = 2 ** 20;

function run(tool: string, ...words: readonly string[]): string {
  return execFileSync(tool, words, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

/** null: e2fsprogs is there. */
function lackingTools(): string | null {
  try {
    run("debugfs", "-V");
    run("e2fsck", "-V");
    return null;
  } catch {
    return "no e2fsprogs: sudo apt-get install e2fsprogs";
  }
}

/** The image with a file of zeros behind it. */
function imageFile(sizeBytes: number): string {
  const path = join(caseFolder(), "image");
  writeFileSync(path, ext4Metadata("file", sizeBytes));
  truncateSync(path, FILE_OFFSET + sizeBytes);
  return path;
}

const noTools = lackingTools();

describe.skipIf(noTools !== null)(`an image, by e2fsprogs (${noTools ?? "found"})`, () => {
  it.each([4096, 4 * MIB, 64 * MIB])("has no error with a file of %i bytes", (sizeBytes) => {
    const path = imageFile(sizeBytes);
    expect(run("e2fsck", "-f", "-n", path)).toContain("12/32 files (0.0% non-contiguous)");
  });

  it("has the file in one extent, where its bytes are put", () => {
    const path = imageFile(4 * MIB);
    const text = "the case's file";
    const image = openSync(path, "r+");
    writeSync(image, text, FILE_OFFSET);
    closeSync(image);
    const copy = `${path}.copy`;
    run("debugfs", "-R", `dump file ${copy}`, path);
    expect(readFileSync(copy, "utf8").slice(0, text.length)).toBe(text);
    const stat = run("debugfs", "-R", "stat file", path);
    expect(stat).toMatch(/Inode: 12 +Type: regular +Mode: +0666/);
    expect(stat).toContain("Size: 4194304");
    expect(stat).toMatch(/EXTENTS:\n\(0-1023\):512-1535/);
  });
});

describe("ext4Metadata", () => {
  it("is the same for the same file, and ends where the file begins", () => {
    const image = ext4Metadata("file", 4 * MIB);
    expect(image.length).toBe(FILE_OFFSET);
    expect(FILE_OFFSET % (2 * MIB)).toBe(0);
    // Byte by byte, toEqual() takes most of a minute.
    expect(Buffer.compare(ext4Metadata("file", 4 * MIB), image)).toBe(0);
  });

  it.each([
    ["no block", 0],
    ["half a block", 2048],
    ["more than its group", FILE_BYTES_MAX + 4096],
  ])("refuses a file of %s", (_, sizeBytes) => {
    expect(() => ext4Metadata("file", sizeBytes)).toThrow(RangeError);
  });

  it.each(["", "a/b", "\u00e4", "x".repeat(65)])("refuses the name %j", (name) => {
    expect(() => ext4Metadata(name, 4096)).toThrow(RangeError);
  });
});
