import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { punchHole, SyscallError, truncate } from "../src/index.ts";

const folder = mkdtempSync(join(tmpdir(), "daxfault-test-"));
afterAll(() => rmSync(folder, { recursive: true }));

describe("truncate", () => {
  it("shrinks and grows by path", () => {
    const path = join(folder, "a");
    writeFileSync(path, "0123456789");
    truncate(path, 4n);
    expect(readFileSync(path, "utf8")).toBe("0123");
    truncate(path, 6n);
    expect(readFileSync(path, "utf8")).toBe("0123\0\0");
  });

  it("throws the errno by name", () => {
    const missing = join(folder, "missing");
    expect(() => truncate(missing, 0n)).toThrow(SyscallError);
    expect(() => truncate(missing, 0n)).toThrow(/truncate: ENOENT/);
  });
});

describe("punchHole", () => {
  it("zeroes the range and keeps the size", () => {
    const path = join(folder, "b");
    writeFileSync(path, Buffer.alloc(12288, 0x61));
    punchHole(path, 4096n, 4096n);
    const bytes = readFileSync(path);
    expect(statSync(path).size).toBe(12288);
    expect(bytes.subarray(4096, 8192).every((byte) => byte === 0)).toBe(true);
    expect([bytes[4095], bytes[8192]]).toEqual([0x61, 0x61]);
  });
});
