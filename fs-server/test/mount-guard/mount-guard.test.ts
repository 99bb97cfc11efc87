/** What the kernel behind a mount has cached and mapped, when somebody changes the source behind the server's back. */

import {
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { temporaryDirectory } from "../../../sys/test/support/directories.ts";
import { isLong } from "../../../sys/test/support/long.ts";
import { PreContentGuard } from "../../src/guard/pre-content.ts";
import { GuardRefused } from "../../src/guard/truncation-guard.ts";
import { hostDoes, onHost } from "../support/host.ts";
import { noMountBecause, type Server, serveExpectingEnd, startServer } from "../support/server.ts";

const PAGES = 8;
const BYTES = PAGES * 4096;
const DAY_MS = "86400000";
const reason = noMountBecause("devfuse");
let server: Server | null = null;
afterEach(async () => {
  expect((await server?.stop())?.stderr ?? "").not.toMatch(/defect|not guarded/);
  server = null;
});

async function serve(...options: readonly string[]) {
  const folder = temporaryDirectory();
  const [source, mounted] = [join(folder, "source"), join(folder, "mount")];
  for (const path of [source, mounted]) mkdirSync(path);
  writeFileSync(join(source, "file"), Buffer.alloc(BYTES, 1));
  const caches = ["--entry-timeout", DAY_MS, "--attr-timeout", DAY_MS];
  server = await startServer(["--source", source, "--mountpoint", mounted, ...caches, ...options]);
  return { source: join(source, "file"), mounted: join(mounted, "file"), pid: server.pid };
}

/** In a host process: the mount's file is mapped, its page 5 was loaded. */
const MAP = `
  const fd = fs.openSync(path, "r+"); const prot = sys.PROT_READ | sys.PROT_WRITE;
  const at = sys.mmap({ lengthBytes: ${BYTES}, prot, flags: sys.MAP_SHARED, fd });
  const bytes = sys.viewOf(at, ${BYTES}); const page = at + BigInt(5 * 4096);
  const until = (isSo) => { for (const end = Date.now() + 5000; !isSo(); ) if (Date.now() > end) return false; return true; };
  if (bytes[5 * 4096] !== 1) throw new Error("not the file's content")`;

async function hasPreContent(): Promise<string | null> {
  try {
    await (await PreContentGuard.open({ boundMs: 1000 })).close();
    return null;
  } catch (error) {
    if (error instanceof GuardRefused) return error.message;
    throw error;
  }
}
const guards = (await hasPreContent()) === null ? ["notify", "pre-content"] : ["notify"];

describe.skipIf(reason !== null)(`a mapping of the mount${reason === null ? "" : ` (${reason})`}`, () => {
  it("goes on showing what is gone where nobody tells its kernel", async () => {
    const { source, mounted } = await serve();
    const touch = await onHost(mounted, 'if (!sys.isPageThere(page, "read")) throw new Error("gone")', MAP);
    truncateSync(source, 4096);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect((await touch().done).errno).toBeNull();
  });

  describe.each(guards)("of a server with --guard %s", (guard) => {
    it("is SIGBUS behind the new end", async () => {
      const { source, mounted } = await serve("--guard", guard);
      const look = 'if (!until(() => !sys.isPageThere(page, "read"))) throw new Error("stale")';
      const touch = await onHost(mounted, `${look}; bytes[5 * 4096] += 1`, MAP);
      truncateSync(source, 4096);
      await expect(touch().done).rejects.toThrow("SIGBUS");
      expect(statSync(source).size).toBe(4096);
      expect(statSync(mounted).size).toBe(4096);
    });

    it("shows what the file holds once it has grown again", async () => {
      const { source, mounted } = await serve("--guard", guard);
      const look = `
        if (!until(() => { fs.fstatSync(fd); return bytes[4096] === 7; })) throw new Error(String(bytes[4096]))`;
      const touch = await onHost(mounted, look, MAP);
      await hostDoes(source, `fs.writeFileSync(path, Buffer.alloc(${BYTES}, 7))`);
      expect((await touch().done).errno).toBeNull();
    });

    it("does not bring back by its dirty pages what was truncated", async () => {
      const { source, mounted } = await serve("--guard", guard);
      // Once a change behind the server has been seen the file is guarded, and nothing is under way.
      const armed = `const behind = fs.openSync(path.replace("/mount/", "/source/"), "r+");
        if (!until(() => (fs.writeSync(behind, Buffer.of(5), 0, 1, 8000), fs.ftruncateSync(behind, ${BYTES - 1}),
          fs.fstatSync(fd), bytes[8000] === 5))) throw new Error("not guarded")`;
      const look = 'if (!until(() => !sys.isPageThere(page, "read"))) throw new Error("stale")';
      const touch = await onHost(mounted, look, `${MAP}; ${armed}; bytes[5 * 4096] = 9; bytes[1] = 9`);
      const startMs = performance.now();
      truncateSync(source, 100);
      // Nobody was cut off: the bound is 2 s.
      expect(performance.now() - startMs).toBeLessThan(1900);
      const done = await touch().done;
      expect([done.errno, statSync(source).size]).toEqual([null, 100]);
    });

    it.runIf(isLong)(
      "and truncations by the mount, stores and changes behind it, all at once, keep nobody waiting",
      async () => {
        const { source, mounted, pid } = await serve("--guard", guard);
        const stores =
          'until(() => (sys.isPageThere(at, "write"), sys.isPageThere(page, "write"), performance.now() > start + 2000))';
        const storing = (await onHost(mounted, stores, `${MAP}`))();
        const cuts = `for (let i = 0; i < 150; i += 1) {
        fs.truncateSync(path, i % 3 === 0 ? 0 : ${BYTES}); fs.appendFileSync(path, "x"); }`;
        const [cutting, changing] = await Promise.all([onHost(mounted, cuts), onHost(source, cuts)]);
        const [byMount, behind] = await Promise.all([cutting().done, changing().done]);
        expect([byMount.errno, behind.errno]).toEqual([null, null]);
        expect(Math.max(byMount.ms, behind.ms)).toBeLessThan(30_000);
        expect((await storing.done).errno).toBeNull();
        writeFileSync(mounted, "still there");
        expect(readFileSync(source, "utf8")).toBe("still there");
        // Descriptors of the file itself: a thread that the server starts meanwhile has its own of other kinds.
        const folder = `/proc/${pid}/fd`;
        const linkOf = (fd: string): string | null => {
          try {
            return readlinkSync(`${folder}/${fd}`);
          } catch {
            // Closed meanwhile.
            return null;
          }
        };
        const open = () => readdirSync(folder).filter((fd) => linkOf(fd) === source).length;
        const before = open();
        for (let i = 0; i < 20; i += 1) readFileSync(mounted);
        await expect.poll(open, { timeout: 3000 }).toBeLessThanOrEqual(before);
      },
    );
  });

  it("is refused where it cannot be guarded, by name", async () => {
    const folders = ["--source", "/tmp", "--mountpoint", "/tmp"];
    for (const [args, says] of [
      [["--guard", "kernel-lease"], "is for whoever maps a file alone"],
      [["--guard", "notify", "--writeback"], "the kernel owns the sizes"],
      [["--guard", "notify", "--lease-socket", "/x"], "goes with --guard fuse-lease only"],
      [["--guard", "pre-content", "--transport", "libfuse"], "needs --transport devfuse"],
    ] as const) {
      const ended = await serveExpectingEnd([...folders, ...args]);
      expect([ended.code, ended.stderr]).toEqual([64, expect.stringContaining(says)]);
    }
  });
});
