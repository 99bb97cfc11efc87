/** Locks of owners on the source's files. What several real processes see is transport/locks.test.ts. */
import { once } from "node:events";
import { closeSync, openSync, readdirSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  compiledEntry,
  F_RDLCK,
  F_UNLCK,
  F_WRLCK,
  files,
  LOCK_EOF,
  lockCommands,
  setRangeLock,
} from "../../../sys/src/index.ts";
import { temporaryDirectory } from "../../../sys/test/support/directories.ts";
import { failure } from "../../src/fs/errors.ts";
import {
  type FileHandle,
  type FileLock,
  type LockOwner,
  type NodeId,
  ROOT_NODE,
} from "../../src/fs/filesystem.ts";
import { componentName } from "../../src/fs/names.ts";
import { PassthroughFileSystem } from "../../src/passthrough/passthrough.ts";

let source: string;
let fs: PassthroughFileSystem;
let node: NodeId;

beforeEach(() => {
  source = temporaryDirectory();
  writeFileSync(join(source, "file"), "content");
  fs = new PassthroughFileSystem(source, { lockLimit: 4 });
  ({ node } = fs.lookup(ROOT_NODE, componentName("file")));
});
afterEach(() => fs.close());

const A = 2n ** 64n - 1n;
const B = 2n ** 32n;
const range = (owner: bigint, type: number, start: bigint, end: bigint): FileLock => {
  const pid = owner === A ? 11 : 22;
  return { kind: "posix", type, start, end, owner: owner as LockOwner, pid };
};
const whole = (type: number): FileLock => ({ ...range(A, type, 0n, 0n), kind: "flock" });
const openFiles = (): number =>
  readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith(join(source, "file"));
    } catch {
      return false;
    }
  }).length;

describe("locks of ranges", () => {
  let one: FileHandle;
  beforeEach(() => {
    one = fs.open(node, files.O_RDWR);
  });

  it("keep owners apart, also those of one handle, and not an owner from itself", () => {
    expect(fs.setLock(one, range(A, F_WRLCK, 0n, 9n))).toBe(true);
    expect(fs.setLock(one, range(A, F_RDLCK, 5n, LOCK_EOF))).toBe(true);
    expect(fs.setLock(one, range(B, F_RDLCK, 4n, 4n))).toBe(false);
    expect(fs.setLock(one, range(B, F_RDLCK, 5n, LOCK_EOF))).toBe(true);
    expect(fs.setLock(one, range(A, F_UNLCK, 0n, 4n))).toBe(true);
    expect(fs.setLock(one, range(B, F_WRLCK, 0n, 4n))).toBe(true);
  });

  it("are found with the pid of the client's process", () => {
    fs.setLock(one, range(A, F_WRLCK, 10n, 19n));
    fs.setLock(one, range(B, F_RDLCK, 100n, LOCK_EOF));
    expect(fs.getLock(one, range(B, F_RDLCK, 0n, 10n))).toMatchObject({ start: 10n, end: 19n, pid: 11 });
    expect(fs.getLock(one, range(A, F_WRLCK, 0n, LOCK_EOF))).toMatchObject({
      type: F_RDLCK,
      start: 100n,
      end: LOCK_EOF,
      pid: 22,
    });
    expect(fs.getLock(one, range(A, F_RDLCK, 0n, LOCK_EOF))).toBe(null);
  });

  it("of a description of the host's have no pid", () => {
    const fd = openSync(join(source, "file"), "r+");
    setRangeLock(fd, lockCommands.setOfd, { type: F_WRLCK, start: 0n, end: 0n });
    expect(fs.getLock(one, range(A, F_RDLCK, 0n, 0n))).toMatchObject({ type: F_WRLCK, pid: 0 });
    expect(fs.setLock(one, range(A, F_RDLCK, 0n, 0n))).toBe(false);
    closeSync(fd);
    expect(fs.setLock(one, range(A, F_RDLCK, 0n, 0n))).toBe(true);
  });

  it("go when their owner has closed a descriptor, and no others", () => {
    const before = openFiles();
    fs.setLock(one, range(A, F_WRLCK, 0n, 9n));
    fs.setLock(one, range(B, F_WRLCK, 10n, 19n));
    expect(fs.dropLocks(one, A as LockOwner)).toBe(true);
    expect(fs.dropLocks(one, A as LockOwner)).toBe(false);
    expect(fs.setLock(one, range(B, F_WRLCK, 0n, 19n))).toBe(true);
    expect(fs.dropLocks(one, B as LockOwner)).toBe(true);
    expect(openFiles()).toBe(before);
  });

  it("go with the handle that they were first set by", () => {
    const two = fs.open(node, files.O_RDWR);
    fs.setLock(two, range(A, F_WRLCK, 0n, 9n));
    fs.setLock(one, range(B, F_WRLCK, 10n, 19n));
    fs.release(two);
    expect(fs.setLock(one, range(B, F_WRLCK, 0n, 9n))).toBe(true);
    expect(fs.setLock(one, range(A, F_WRLCK, 10n, 19n))).toBe(false);
  });

  it("stay where a reader's description is exchanged for a writer's", () => {
    const reader = fs.open(node, files.O_RDONLY);
    fs.setLock(reader, range(A, F_RDLCK, 0n, 9n));
    fs.setLock(reader, range(A, F_RDLCK, 20n, LOCK_EOF));
    expect(() => fs.setLock(reader, range(A, F_WRLCK, 5n, 5n))).toThrow(failure("EBADF"));
    const before = openFiles();
    expect(fs.setLock(one, range(A, F_WRLCK, 5n, 5n))).toBe(true);
    expect(openFiles()).toBe(before);
    const free = [0n, 5n, 9n, 10n, 19n, 20n].filter((at) => fs.setLock(one, range(B, F_WRLCK, at, at)));
    expect(free).toEqual([10n, 19n]);
    expect(fs.setLock(one, range(B, F_RDLCK, 6n, 9n))).toBe(true);
  });

  it("of a reader do not open the file for writing", () => {
    const reader = fs.open(node, files.O_RDONLY);
    fs.release(one);
    fs.setLock(reader, range(A, F_RDLCK, 0n, 9n));
    // A program that is open for writing does not run; a lease for reading is granted to files that nobody writes.
    const modes = readdirSync("/proc/self/fd").flatMap((fd) => {
      try {
        const isOurs = readlinkSync(`/proc/self/fd/${fd}`) === join(source, "file");
        return isOurs ? [files.statusFlags(Number(fd)) & files.O_ACCMODE] : [];
      } catch {
        return [];
      }
    });
    expect(modes.length).toBeGreaterThanOrEqual(2);
    expect(new Set(modes)).toEqual(new Set([files.O_RDONLY]));
  });

  it("are ENOLCK beyond the limit of owners, and clearing needs none", () => {
    for (let owner = 1n; owner <= 4n; owner += 1n) fs.setLock(one, range(owner, F_RDLCK, 0n, 0n));
    expect(() => fs.setLock(one, range(5n, F_RDLCK, 0n, 0n))).toThrow(failure("ENOLCK"));
    expect(fs.setLock(one, range(5n, F_UNLCK, 0n, LOCK_EOF))).toBe(true);
    fs.dropLocks(one, 3n as LockOwner);
    expect(fs.setLock(one, range(5n, F_RDLCK, 0n, 0n))).toBe(true);
  });

  it.each([
    [10n, 9n],
    [0n, 2n ** 63n],
    [2n ** 64n - 1n, 2n ** 64n - 1n],
  ])("from %d to %d are EINVAL", (start, end) => {
    expect(() => fs.setLock(one, range(A, F_RDLCK, start, end))).toThrow(failure("EINVAL"));
    expect(() => fs.getLock(one, range(A, F_RDLCK, start, end))).toThrow(failure("EINVAL"));
  });

  it("are seen by all threads that serve the source", () => {
    const other = new PassthroughFileSystem(source, {}, fs.tables);
    fs.setLock(one, range(A, F_WRLCK, 0n, 9n));
    expect(other.setLock(one, range(B, F_WRLCK, 0n, 9n))).toBe(false);
    expect(other.getLock(one, range(B, F_WRLCK, 0n, 9n))).toMatchObject({ pid: 11 });
    expect(other.setLock(one, range(A, F_UNLCK, 0n, 9n))).toBe(true);
    expect(fs.setLock(one, range(B, F_WRLCK, 0n, 9n))).toBe(true);
    expect(other.dropLocks(one, B as LockOwner)).toBe(true);
    other.letGo();
  });

  it("go with everything at the end", () => {
    fs.setLock(one, range(A, F_WRLCK, 0n, 9n));
    fs.reset();
    const fd = openSync(join(source, "file"), "r+");
    expect(setRangeLock(fd, lockCommands.setOfd, { type: F_WRLCK, start: 0n, end: 9n })).toBe(0);
    closeSync(fd);
  });
});

describe("locks of flock(2)", () => {
  it("belong to the handle", () => {
    const [one, two] = [fs.open(node, files.O_RDONLY), fs.open(node, files.O_RDONLY)];
    expect(fs.setLock(one, whole(F_WRLCK))).toBe(true);
    expect(fs.setLock(two, whole(F_RDLCK))).toBe(false);
    expect(fs.setLock(one, whole(F_RDLCK))).toBe(true);
    expect(fs.setLock(two, whole(F_RDLCK))).toBe(true);
    fs.release(one);
    expect(fs.setLock(two, whole(F_WRLCK))).toBe(true);
    expect(() => fs.setLock(two, whole(7))).toThrow(failure("EINVAL"));
  });
});

describe("threads over one table", () => {
  it("find the locks of a closed file gone, also while another one looks whose they are", async () => {
    const module = compiledEntry(import.meta.url, "../../src/passthrough/passthrough.ts").href;
    // How often the other thread has met a lock, and whether it is to stop.
    const words = new Int32Array(new SharedArrayBuffer(8));
    const asked = range(2n, F_WRLCK, 0n, 9n);
    const code = `
      const { workerData, parentPort } = require("node:worker_threads");
      (async () => {
        const { module, source, tables, node, words, asked } = workerData;
        const { PassthroughFileSystem } = await import(module);
        const fs = new PassthroughFileSystem(source, {}, tables);
        const handle = fs.open(node, ${files.O_RDWR});
        while (Atomics.load(words, 1) === 0) {
          if (fs.getLock(handle, asked) !== null) Atomics.add(words, 0, 1);
          fs.letGo();
        }
        fs.release(handle);
        parentPort.postMessage("over");
      })();`;
    const workerData = { module, source, tables: fs.tables, node, words, asked };
    const worker = new Worker(code, { eval: true, trackUnmanagedFds: false, workerData });
    const over = once(worker, "message");
    const one = fs.open(node, files.O_RDWR);
    const until = performance.now() + 20_000;
    let held = 0;
    for (let i = 0; i < 3000 || (Atomics.load(words, 0) < 500 && performance.now() < until); i += 1) {
      const owner = i % 2 === 0 ? A : B;
      if (!fs.setLock(one, range(owner, F_WRLCK, 0n, 9n))) held += 1;
      fs.dropLocks(one, owner as LockOwner);
      fs.letGo();
    }
    Atomics.store(words, 1, 1);
    await over;
    expect(Atomics.load(words, 0)).toBeGreaterThanOrEqual(500);
    expect(held).toBe(0);
  });
});
