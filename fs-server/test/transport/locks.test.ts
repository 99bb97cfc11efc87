/**
 * Locks that are forwarded: the same calls of two processes in a folder and on a mount of another show the same. And what a
 * server alone can get wrong: callers that wait hold nobody up, however many they are.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { F_RDLCK, F_UNLCK, F_WRLCK, LOCK_EX } from "../../../sys/src/index.ts";
import { temporaryDirectory } from "../../../sys/test/support/directories.ts";
import { isLong } from "../../../sys/test/support/long.ts";
import { LockClient, soon } from "../support/lock-client.ts";
import { lockCases } from "../support/semantics/locks.ts";
import { noMountBecause, type Server, startServer } from "../support/server.ts";

const reason = noMountBecause("devfuse");
const undo: (() => unknown)[] = [];

const modes = [
  ["plain", []],
  ["--writeback", ["--writeback"]],
  ["--passthrough", ["--passthrough"]],
] as const;

describe.skipIf(reason !== null).each(modes.filter(([title]) => isLong || title === "plain"))(
  "a mount by --posix-lock --flock, %s, shows what the folder underneath does",
  (_title, extra) => {
    let [folder, source, mounted] = ["", "", ""];
    let server: Server;
    let clients: readonly [LockClient, LockClient];
    let count = 0;

    beforeAll(async () => {
      [folder, source, mounted] = [temporaryDirectory(), temporaryDirectory(), temporaryDirectory()];
      const args = ["--posix-lock", "--flock", ...extra];
      server = await startServer(["--source", source, "--mountpoint", mounted, ...args]);
      clients = [new LockClient(), new LockClient()];
    });

    afterAll(async () => {
      for (const client of clients) await client.end();
      expect((await server.stop()).code).toBe(0);
    });

    it.each(Object.entries(lockCases))("%s", async (_name, observe) => {
      count += 1;
      const [one, two] = clients;
      const seen = async (base: string, below: string): Promise<unknown> => {
        mkdirSync(join(base, String(count)));
        const at = (leaf: string) => join(base, String(count), leaf);
        const host = (leaf: string) => join(below, String(count), leaf);
        const result = await observe({ at, host, one, two });
        for (const client of clients) await client.does("closeAll");
        return result;
      };
      expect(await seen(mounted, source)).toEqual(await seen(folder, folder));
    });

    it("leaves no descriptor behind", async () => {
      const open = (): readonly string[] =>
        readdirSync(`/proc/${server.pid}/fd`)
          .map((fd) => {
            try {
              return readlinkSync(`/proc/${server.pid}/fd/${fd}`);
            } catch {
              return "";
            }
          })
          .filter((path) => path.endsWith("/file") && path.startsWith(source));
      // One by which each inode is known is left.
      const perFile = (): number => {
        const paths = open();
        return paths.length - new Set(paths).size;
      };
      await expect.poll(perFile, { timeout: 5000 }).toBe(0);
    });
  },
);

describe.skipIf(reason !== null)("callers that wait for locks", () => {
  let [source, mounted] = ["", ""];
  let server: Server;

  beforeAll(async () => {
    [source, mounted] = [temporaryDirectory(), temporaryDirectory()];
    for (const name of ["file", "other"]) writeFileSync(join(source, name), "content\n");
    const args = ["--attr-timeout", "0", "--entry-timeout", "0"];
    server = await startServer([
      "--source",
      source,
      "--mountpoint",
      mounted,
      "--posix-lock",
      "--flock",
      ...args,
    ]);
  });
  afterEach(async () => {
    for (const step of undo.splice(0).reverse()) await step();
  });
  afterAll(async () => {
    const { code, stderr } = await server.stop();
    expect([code, stderr]).toEqual([0, expect.not.stringMatching(/threads wait|defect/)]);
  });

  /** flock(1) of the file for a moment: a process that is made fast. */
  function waiter(): { readonly child: ChildProcess; readonly ended: Promise<number | null> } {
    const child = spawn("flock", [join(mounted, "file"), "true"]);
    return { child, ended: new Promise((resolve) => child.on("close", resolve)) };
  }

  async function held(): Promise<{ readonly client: LockClient; readonly fd: unknown }> {
    const client = new LockClient();
    undo.push(() => client.end());
    const fd = await client.open(join(mounted, "file"));
    expect(await client.does("flock", fd, LOCK_EX)).toBe(0);
    return { client, fd };
  }

  it("hold nobody up, more of them than there are threads, and all get their turn", async () => {
    const { client } = await held();
    const waiters = Array.from({ length: 40 }, waiter);
    await sleep(1500);
    const times = Array.from({ length: 200 }, () => {
      const start = performance.now();
      statSync(join(mounted, "other"));
      return performance.now() - start;
    }).sort((a, b) => a - b);
    expect(times[100]).toBeLessThan(5);
    expect(readFileSync(join(mounted, "other"), "utf8")).toBe("content\n");
    const start = performance.now();
    await client.does("closeAll");
    expect(await Promise.all(waiters.map(({ ended }) => ended))).toEqual(waiters.map(() => 0));
    // One after the other, each woken by the one before.
    expect(performance.now() - start).toBeLessThan(5000);
  }, 30_000);

  it("go when they are killed, all at once", async () => {
    const { client, fd } = await held();
    const waiters = Array.from({ length: 40 }, waiter);
    await sleep(1000);
    for (const { child } of waiters) child.kill("SIGKILL");
    const ended = Promise.all(waiters.map(({ ended: one }) => one));
    expect(await soon(ended, 5000)).toEqual(waiters.map(() => null));
    // The lock is free for who comes next: none of them has got it.
    await client.does("close", fd);
    expect(await waiter().ended).toBe(0);
  }, 30_000);

  it("see a lock that the host gives back", async () => {
    const host = new LockClient();
    const client = new LockClient();
    undo.push(
      () => host.end(),
      () => client.end(),
    );
    const [above, below] = [await client.open(join(mounted, "file")), await host.open(join(source, "file"))];
    await host.does("lock", below, F_WRLCK, 0, 0);
    const waiting = client.does("wait", above, F_RDLCK, 0, 0);
    expect(await soon(waiting, 1000)).toBe("waits");
    const start = performance.now();
    await host.does("lock", below, F_UNLCK, 0, 0);
    expect(await waiting).toBe(0);
    // An eighth of the time that it has waited.
    expect(performance.now() - start).toBeLessThan(500);
  });
});

describe.skipIf(reason !== null || process.geteuid?.() !== 0)(
  "a mount without --posix-lock and --flock",
  () => {
    it("keeps locks among its own processes", async () => {
      const [source, mounted] = [temporaryDirectory(), temporaryDirectory()];
      chmodSync(source, 0o755);
      writeFileSync(join(source, "file"), "");
      const server = await startServer(["--source", source, "--mountpoint", mounted]);
      const locked = (path: string): number | null =>
        spawnSync("flock", ["-n", join(path, "file"), "flock", "-n", join(mounted, "file"), "true"]).status;
      expect([locked(source), locked(mounted)]).toEqual([0, 1]);
      await server.stop();
    });
  },
);
