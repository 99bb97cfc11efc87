/**
 * FUSE over io_uring on a real mount: agreed, used, right; refused with a word where the kernel has it off. What blocks is in
 * blocked.test.ts.
 */
import { spawn, spawnSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import { temporaryDirectory } from "../../../../sys/test/support/directories.ts";
import { fsx } from "../../../src/stress/fsx.ts";
import { FIRST_THREADS, MAX_RING_THREADS, queueCount } from "../../../src/transport/devfuse/ring-crew.ts";
import { noUringBecause } from "../../../src/transport/devfuse/rings.ts";
import { type Server, serveExpectingEnd, startServer } from "../../support/server.ts";
import { keepUringOnFor, noUringTestBecause, withUringOff } from "../../support/uring.ts";

const isUsable = noUringTestBecause() === null;
const places = () => ["--source", temporaryDirectory(), "--mountpoint", temporaryDirectory()];

describe.skipIf(!isUsable)("FUSE over io_uring that is switched off", () => {
  it("is refused, with what to do", { timeout: 300_000 }, async () => {
    await withUringOff(async () => {
      expect(noUringBecause()).toMatch(/switched off/);
      const { code, stderr } = await serveExpectingEnd([...places(), "--io-uring"]);
      expect(code).toBe(1);
      expect(stderr).toMatch(/echo Y > \/sys\/module\/fuse\/parameters\/enable_uring/);
    });
  });
});

describe.skipIf(!isUsable)("FUSE over io_uring", () => {
  keepUringOnFor(["--io-uring"]);

  it("serves by threads on each CPU, with the right bytes", async () => {
    const [source, mounted] = [temporaryDirectory(), temporaryDirectory()];
    const caches = ["--entry-timeout", "0", "--attr-timeout", "0"];
    const server = await startServer(["--source", source, "--mountpoint", mounted, "--io-uring", ...caches]);
    try {
      expect(server.ready.protocol).toMatchObject({ flags: expect.arrayContaining(["OVER_IO_URING"]) });
      const tasks = `/proc/${server.pid}/task`;
      const rings = readdirSync(tasks).filter((tid) =>
        readFileSync(join(tasks, tid, "comm"), "utf8").startsWith("daxfault-ring"),
      );
      expect(rings.length).toBe(FIRST_THREADS * queueCount());
      // A wake-up a request: the requests came this way.
      const wakeUps = (): number =>
        rings.reduce(
          (sum, tid) =>
            sum +
            Number(
              /^voluntary_ctxt_switches:\s+(\d+)/m.exec(
                readFileSync(join(tasks, tid, "status"), "utf8"),
              )?.[1],
            ),
          0,
        );
      writeFileSync(join(mounted, "file"), "content");
      const earlier = wakeUps();
      for (let i = 0; i < 1000; i += 1) expect(statSync(join(mounted, "file")).size).toBe(7);
      expect(wakeUps() - earlier).toBeGreaterThan(1000);
      expect(readFileSync(join(source, "file"), "utf8")).toBe("content");
      expect(fsx(join(mounted, "random"), 5, 1500)).toEqual({
        operations: 1500,
        unsupported: 0,
        wrong: null,
      });
      for (let i = 0; i < 300; i += 1) writeFileSync(join(mounted, `f${i}`), String(i));
      expect(readdirSync(mounted).length).toBe(302);
      for (const name of readdirSync(mounted)) rmSync(join(mounted, name));
      expect(readdirSync(source)).toEqual([]);
    } finally {
      expect((await server.stop()).code).toBe(0);
    }
  });

  describe("with faults by rule", () => {
    const served: Server[] = [];
    afterEach(async () => {
      for (const server of served.splice(0)) expect((await server.stop()).stderr).not.toMatch(/defect/);
    });

    async function faulty(...rules: readonly object[]): Promise<string> {
      const [source, mounted, beside] = [temporaryDirectory(), temporaryDirectory(), temporaryDirectory()];
      writeFileSync(join(source, "file"), "content");
      writeFileSync(join(beside, "rules"), JSON.stringify(rules));
      const cache = ["--cache", "never", "--faults", join(beside, "rules")];
      served.push(await startServer(["--source", source, "--mountpoint", mounted, "--io-uring", ...cache]));
      return join(mounted, "file");
    }

    it("counts the calls of all threads together", async () => {
      const path = await faulty({
        operation: "read",
        after: 3,
        times: 2,
        action: { kind: "fail", errno: "EIO" },
      });
      // One read each, on one CPU after the other.
      const read = (cpu: number): number | null =>
        spawnSync("taskset", ["-c", String(cpu), "head", "-c", "7", path]).status;
      const cpus = Array.from({ length: 8 }, (_, i) => i % availableParallelism());
      expect(cpus.map(read)).toEqual([0, 0, 0, 1, 1, 0, 0, 0]);
    });

    it("delays a call, and no other one", async () => {
      const path = await faulty({
        operation: "read",
        after: 0,
        times: 1,
        action: { kind: "delay", ms: 3000 },
      });
      const started = performance.now();
      const timed = async (): Promise<number> => {
        expect(await readFile(path, "utf8")).toBe("content");
        return performance.now() - started;
      };
      // Whichever comes first is delayed.
      const [fast = Number.NaN, slow] = (await Promise.all([timed(), timed()])).toSorted((a, b) => a - b);
      expect(fast).toBeLessThan(2900);
      expect(slow).toBeGreaterThanOrEqual(2990);
    });

    it("ends a call that hangs when its caller is interrupted, as often as it likes", async () => {
      const path = await faulty({ operation: "read", at: 10_000, after: 0, action: { kind: "hang" } });
      const other = join(dirname(path), "other");
      writeFileSync(other, "content");
      truncateSync(path, 20_000);
      for (let i = 0; i < 2 * MAX_RING_THREADS + 4; i += 1) {
        const child = spawn("taskset", ["-c", "0", "cat", path], { stdio: "ignore" });
        const ended = new Promise((done) => child.once("close", (_code, signal) => done(signal)));
        await sleep(100);
        child.kill("SIGKILL");
        expect(await ended).toBe("SIGKILL");
      }
      expect(readFileSync(other, "utf8")).toBe("content");
    }, 60_000);
  });
});
