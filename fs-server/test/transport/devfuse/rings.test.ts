/** FUSE over io_uring on a real mount: agreed, used, right; refused with a word where the kernel has it off. */
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { fsx } from "../../../src/stress/fsx.ts";
import { noUringBecause, queueCount } from "../../../src/transport/devfuse/rings.ts";
import { temporaryDirectory } from "../../support/directories.ts";
import { noMountBecause, serveExpectingEnd, startServer } from "../../support/server.ts";

const SWITCH = "/sys/module/fuse/parameters/enable_uring";

/** Before anything is switched; null: this kernel has no such switch. */
function switchedBefore(): string | null {
  try {
    return readFileSync(SWITCH, "utf8").trim();
  } catch {
    return null;
  }
}

const before = switchedBefore();
const isUsable = noMountBecause("devfuse") === null && process.geteuid?.() === 0 && before !== null;
const places = () => ["--source", temporaryDirectory(), "--mountpoint", temporaryDirectory()];

describe.skipIf(!isUsable)("FUSE over io_uring", () => {
  afterAll(() => writeFileSync(SWITCH, before ?? "N"));

  it("is refused where the kernel has it off, with what to do", async () => {
    writeFileSync(SWITCH, "N");
    expect(noUringBecause()).toMatch(/switched off/);
    const { code, stderr } = await serveExpectingEnd([...places(), "--io-uring"]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/echo Y > \/sys\/module\/fuse\/parameters\/enable_uring/);
  });

  it.each([
    ["--faults", "FILE"],
    ["--guard", "fuse-lease", "--lease-socket", "/tmp/s"],
  ])("goes with nothing that keeps requests for later: %s", async (...words) => {
    const { code } = await serveExpectingEnd([...places(), "--io-uring", ...words]);
    expect(code).toBe(64);
  });

  it("serves by a thread on each CPU, with the right bytes", async () => {
    writeFileSync(SWITCH, "Y");
    const [source, mounted] = [temporaryDirectory(), temporaryDirectory()];
    const caches = ["--entry-timeout", "0", "--attr-timeout", "0"];
    const server = await startServer(["--source", source, "--mountpoint", mounted, "--io-uring", ...caches]);
    try {
      expect(server.ready.protocol).toMatchObject({ flags: expect.arrayContaining(["OVER_IO_URING"]) });
      const tasks = `/proc/${server.pid}/task`;
      const rings = readdirSync(tasks).filter((tid) =>
        readFileSync(join(tasks, tid, "comm"), "utf8").startsWith("daxfault-ring"),
      );
      expect(rings.length).toBe(queueCount());
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
});
