import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { readImage } from "../../src/kernel/image.ts";
import { caseFolder } from "../support/folders.ts";

const PARAGRAPHS = 600;
const WHOLE_BYTES = 5 * 512 + 16 * PARAGRAPHS;

/** The fields of the boot protocol's header that are looked at, and zeros. */
function bzImage(changes: { readonly magic?: string; readonly length?: number } = {}): string {
  const bytes = Buffer.alloc(WHOLE_BYTES);
  bytes[0x1f1] = 0; // means four
  bytes.writeUInt32LE(PARAGRAPHS, 0x1f4);
  bytes.write(changes.magic ?? "HdrS", 0x202, "latin1");
  bytes.writeUInt16LE(0x300, 0x20e);
  bytes.write("6.1.0-56-amd64 (builder@host) #1 SMP\0", 0x300 + 512, "latin1");
  const path = join(caseFolder(), "bzImage");
  writeFileSync(path, bytes.subarray(0, changes.length ?? WHOLE_BYTES));
  return path;
}

describe("readImage", () => {
  it("reads the release out of the image", () => {
    expect(readImage(bzImage())).toEqual({ release: "6.1.0-56-amd64", sizeBytes: WHOLE_BYTES });
  });

  it("names the lengths of one that is cut off", () => {
    expect(() => readImage(bzImage({ length: WHOLE_BYTES - 1 }))).toThrow(
      `truncated: its header speaks of ${WHOLE_BYTES} bytes, the file has ${WHOLE_BYTES - 1}`,
    );
  });

  it("refuses a FIFO that nothing writes to, without waiting", () => {
    const path = join(caseFolder(), "bzImage");
    execFileSync("mkfifo", [path]);
    expect(() => readImage(path)).toThrow(`kernel image ${path} is not a file`);
  });

  it("takes an ELF file, which does not say what it is", () => {
    const path = join(caseFolder(), "vmlinux");
    writeFileSync(path, Buffer.from([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0]));
    expect(readImage(path)).toEqual({ release: null, sizeBytes: 8 });
  });

  it("refuses what is no image, an empty file, a folder, and what is not there", () => {
    expect(() => readImage(bzImage({ magic: "none" }))).toThrow("is no kernel image");
    const empty = join(caseFolder(), "empty");
    writeFileSync(empty, "");
    expect(() => readImage(empty)).toThrow("(0 bytes) is no kernel image");
    expect(() => readImage(caseFolder())).toThrow("not a file");
    expect(() => readImage("/nonexistent/bzImage")).toThrow("/nonexistent/bzImage");
  });
});
