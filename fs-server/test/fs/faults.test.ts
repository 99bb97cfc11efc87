/** Rules for the server: which calls they apply to, and what they do. */
import { describe, expect, it } from "vitest";
import type { FaultAction, FaultRule } from "../../../language/src/words.ts";
import { FaultyFileSystem } from "../../src/fs/faults.ts";
import type { FileHandle, FileSystem } from "../../src/fs/filesystem.ts";
import { NULL_FILE_SYSTEM } from "../../src/fs/null.ts";

/** A file that is as long as a call wants it. */
const endlessFile: FileSystem = {
  ...NULL_FILE_SYSTEM,
  read: (_handle, _offset, into) => into.length,
  write: (_handle, _offset, data) => data.length,
};

const HANDLE = 1n as FileHandle;

function faulty(action: FaultAction, narrower: Partial<FaultRule> = {}): FaultyFileSystem {
  const rule: FaultRule = { operation: "read", at: null, after: 0, times: null, action, ...narrower };
  return new FaultyFileSystem(endlessFile, [rule]);
}

describe("a call that is cut short", () => {
  const short = (bytes: number): FaultAction => ({ kind: "short", bytes });

  // Where the READ begins and how long it is, what the rule says, how many bytes are read.
  it.each([
    [0, 65536, null, 4096, 4096],
    [0x10000, 65536, null, 4096, 4096],
    [0x10000, 65536, 0x18000, 0, 0x8000],
    [0x18000, 65536, 0x18000, 0, 0],
    [0x10000, 65536, 0x18000, 16, 0x8010],
    [0x10000, 65536, 0x18000, 1 << 20, 65536],
    [0x10000, 4096, 0x18000, 0, 4096],
  ])("READ %i+%i, at %j short %i: %i bytes", (offset, length, at, bytes, expected) => {
    const fs = faulty(short(bytes), { at });
    expect(fs.read(HANDLE, BigInt(offset), new Uint8Array(length))).toBe(expected);
  });

  it("counts a WRITE alike", () => {
    const fs = faulty(short(100), { operation: "write", at: 0x1800 });
    expect(fs.write(HANDLE, 0x1000n, new Uint8Array(4096))).toBe(0x864);
  });

  it("applies to the calls that the rule has", () => {
    const fs = faulty(short(1), { after: 1, times: 1 });
    const reads = [1, 2, 3].map(() => fs.read(HANDLE, 0n, new Uint8Array(8)));
    expect(reads).toEqual([8, 1, 8]);
  });
});

describe("a READ that is never answered", () => {
  it("is postponed for ever", () => {
    const read = () => faulty({ kind: "hang" }, { at: 0x1000 }).read(HANDLE, 0x1000n, new Uint8Array(8));
    expect(read).toThrow(expect.objectContaining({ delayMs: Number.POSITIVE_INFINITY }));
    expect(faulty({ kind: "hang" }, { at: 0x1000 }).read(HANDLE, 0n, new Uint8Array(8))).toBe(8);
  });
});
