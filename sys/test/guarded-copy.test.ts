import { ftruncateSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  copyFrom,
  copyTo,
  errnoNumber,
  files,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_PRIVATE,
  MAP_SHARED,
  mmap,
  munmap,
  PAGE_SIZE,
  PROT_NONE,
  PROT_READ,
  PROT_WRITE,
} from "../src/index.ts";

const PAGES = 3;
const EFAULT = -errnoNumber("EFAULT");

let folder: string;
let fd: number;
let address: bigint;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "daxfault-copy-"));
  const path = join(folder, "file");
  writeFileSync(path, Buffer.alloc(PAGES * PAGE_SIZE, "a"));
  fd = openSync(path, "r+");
  address = mmap({ lengthBytes: PAGES * PAGE_SIZE, prot: PROT_READ | PROT_WRITE, flags: MAP_SHARED, fd });
});

afterEach(() => {
  munmap(address, PAGES * PAGE_SIZE);
  files.close(fd);
  rmSync(folder, { recursive: true });
});

const at = (offset: number): bigint => address + BigInt(offset);

describe("guarded copies of a shared mapping", () => {
  it("move bytes both ways, at any offset", () => {
    expect(copyTo(at(PAGE_SIZE - 3), Buffer.from("across"))).toBe(0);
    const into = Buffer.alloc(8);
    expect(copyFrom(at(PAGE_SIZE - 4), into)).toBe(0);
    expect(into.toString()).toBe("aacrossa");
    expect(copyFrom(at(0), new Uint8Array(0))).toBe(0);
  });

  it("are EFAULT behind the end of a truncated file, and this process lives on", () => {
    ftruncateSync(fd, 10);
    const page = Buffer.alloc(PAGE_SIZE);
    expect(copyFrom(at(0), page)).toBe(0);
    expect(page.subarray(0, 12)).toEqual(Buffer.from("aaaaaaaaaa\0\0"));
    expect(copyFrom(at(PAGE_SIZE), page)).toBe(EFAULT);
    expect(copyTo(at(PAGE_SIZE), page)).toBe(EFAULT);
    // Begins where there is a page, ends where there is none.
    expect(copyFrom(at(PAGE_SIZE - 1), Buffer.alloc(2))).toBe(EFAULT);
    expect(copyTo(at(PAGE_SIZE - 1), Buffer.from("bb"))).toBe(EFAULT);
  });

  it("respect protections: PROT_NONE, a read-only mapping, nothing mapped at all", () => {
    const prot = (bits: number): bigint =>
      mmap({
        address,
        lengthBytes: PAGE_SIZE,
        prot: bits,
        flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
      });
    prot(PROT_READ);
    expect([copyFrom(at(0), Buffer.alloc(1)), copyTo(at(0), Buffer.alloc(1))]).toEqual([0, EFAULT]);
    prot(PROT_NONE);
    expect([copyFrom(at(0), Buffer.alloc(1)), copyTo(at(0), Buffer.alloc(1))]).toEqual([EFAULT, EFAULT]);
    expect(copyFrom(0n, Buffer.alloc(1))).toBe(EFAULT);
  });
});
