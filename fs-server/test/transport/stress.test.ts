/** Many clients, random operations: nothing that the underlying file system would not do. */
import { execFile } from "node:child_process";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { temporaryDirectory } from "../../../sys/test/support/directories.ts";
import { isLong } from "../../../sys/test/support/long.ts";
import { fsx } from "../../src/stress/fsx.ts";
import { noMountBecause, type Server, startServer } from "../support/server.ts";

const CLIENT_MAIN = resolve("dist/fs-server/src/stress/client-main.js");
const CLIENTS = isLong ? 24 : 8;
const OPERATIONS = 100;
/**
 * Of a server with one serving thread, whatever its clients do; and of each thread more that calls of the source took. Measured
 * by `node dist/fs-server/src/stress/threads-main.js`, four runs: 11 to 12.2 MiB a thread (an isolate of V8, and the code that
 * it compiles for itself), 70 to 92 MiB without any. Half as much again is a leak.
 */
const MOST_MEMORY_KIB = 150 * 1024;
const MEMORY_OF_THREAD_KIB = 18 * 1024;
/** Serving threads carry this name (prctl(2), PR_SET_NAME). */
const THREAD_NAME = /^daxfault-serve/;
/** Errors that concurrent renames and removals cause on any file system; ENOTDIR and EISDIR cannot come up here. */
const ORDINARY = ["ENOENT", "EEXIST", "ENOTEMPTY", "done"];

describe("random operations on the underlying folder itself", () => {
  it("agree with the model: the tester is right", () => {
    expect(fsx(join(temporaryDirectory(), "file"), 1, 1500)).toMatchObject({ wrong: null });
  });
});

describe.skipIf(noMountBecause("libfuse") !== null)("a libfuse mount", () => {
  it("has the right bytes after random operations", async () => {
    const mounted = temporaryDirectory();
    const at = ["--source", temporaryDirectory(), "--mountpoint", mounted, "--transport", "libfuse"];
    const server = await startServer(at);
    expect(fsx(join(mounted, "file"), 2, 1000).wrong).toBe(null);
    await server.stop();
  });
});

describe.skipIf(noMountBecause("devfuse") !== null).each([
  ["plain", []],
  ["writeback", ["--writeback"]],
  ["uncached", ["--entry-timeout", "0", "--attr-timeout", "0"]],
])("a devfuse mount, %s", (variant, extra) => {
  let mounted: string;
  let server: Server;
  const peakKiB = (): number =>
    Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${server.pid}/status`, "utf8"))?.[1]);
  const servingThreads = (): number => {
    const tasks = `/proc/${server.pid}/task`;
    const names = readdirSync(tasks).map((tid) => readFileSync(join(tasks, tid, "comm"), "utf8"));
    return names.filter((name) => THREAD_NAME.test(name)).length;
  };
  const descriptors = (): number => readdirSync(`/proc/${server.pid}/fd`).length;

  beforeAll(async () => {
    mounted = temporaryDirectory();
    server = await startServer(["--source", temporaryDirectory(), "--mountpoint", mounted, ...extra]);
  });

  afterAll(async () => {
    expect((await server.stop()).code).toBe(0);
  });

  it("has the right bytes after random operations", () => {
    expect(fsx(join(mounted, "file"), 3, 2000)).toEqual({ operations: 2000, unsupported: 0, wrong: null });
    rmSync(join(mounted, "file"));
  });

  // Starting the clients takes longer than what they do: once is enough unless asked for more.
  const all = variant === "plain" || isLong;
  it.skipIf(!all)(
    `serves ${CLIENTS} clients at once with ordinary errors only, and forgets everything afterwards`,
    async () => {
      const base = descriptors();
      const clients = Array.from({ length: CLIENTS }, (_ignored, i) =>
        promisify(execFile)(process.execPath, [CLIENT_MAIN, mounted, String(i + 1), String(OPERATIONS)]),
      );
      const counts = (await Promise.all(clients)).map(({ stdout }) => JSON.parse(stdout) as object);
      const seen = new Set(counts.flatMap((count) => Object.keys(count)));
      expect([...seen].filter((errno) => !ORDINARY.includes(errno))).toEqual([]);
      for (const name of readdirSync(mounted)) rmSync(join(mounted, name), { recursive: true });
      // FORGETs are sent as the kernel drops its inodes, not within the removal.
      await expect.poll(descriptors, { timeout: 10_000 }).toBeLessThanOrEqual(base);
      expect(peakKiB()).toBeLessThan(MOST_MEMORY_KIB + (servingThreads() - 1) * MEMORY_OF_THREAD_KIB);
    },
  );
});
