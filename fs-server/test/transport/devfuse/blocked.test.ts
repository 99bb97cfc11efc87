/** Calls of the source that block: each costs its own caller, and no other one. */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { releaseLease, takeWriteLease, threadId } from "../../../../sys/src/index.ts";
import { MAX_THREADS } from "../../../src/transport/devfuse/crew.ts";
import { temporaryDirectory } from "../../support/directories.ts";
import { noMountBecause, type Server, startServer } from "../../support/server.ts";

/** SIGCHLD: what a lease's break sends, and nothing happens. */
const IGNORED_SIGNAL = 17;
const BLOCKED_MS = 5000;
const REQUESTS = 2000;
const HELD_BYTE = 100_000;

const reason = noMountBecause("devfuse");
const servers: Server[] = [];
const children: ChildProcess[] = [];

afterEach(async () => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
  for (const server of servers.splice(0).reverse()) {
    expect((await server.stop()).stderr).not.toMatch(/defect/);
  }
});

async function serve(source: string, ...more: readonly string[]): Promise<string> {
  const mounted = join(temporaryDirectory(), "mount");
  mkdirSync(mounted);
  const caches = ["--entry-timeout", "0", "--attr-timeout", "0"];
  servers.push(await startServer(["--source", source, "--mountpoint", mounted, ...caches, ...more]));
  return mounted;
}

function sourceOf(...names: readonly string[]): string {
  const source = temporaryDirectory();
  for (const name of names) writeFileSync(join(source, name), "content\n");
  return source;
}

/** A process that reads a file, so that this one does not block. */
function reading(path: string): { readonly child: ChildProcess; readonly ended: Promise<string> } {
  const child = spawn("cat", [path], { stdio: ["ignore", "pipe", "ignore"] });
  children.push(child);
  let text = "";
  child.stdout?.on("data", (data: Buffer) => {
    text += data.toString();
  });
  return { child, ended: new Promise((done) => child.on("close", () => done(text))) };
}

function leased(path: string): () => void {
  const fd = openSync(path, "r+");
  takeWriteLease(fd, { threadId: threadId(), signal: IGNORED_SIGNAL });
  return () => {
    releaseLease(fd);
    closeSync(fd);
  };
}

const sleep = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));

/** Times of small requests, sorted, in ms. */
function requestTimes(mounted: string): readonly number[] {
  const times: number[] = [];
  for (let i = 0; i < REQUESTS; i += 1) {
    const started = performance.now();
    statSync(join(mounted, "other"));
    if (i % 10 === 0) readFileSync(join(mounted, "other"));
    times.push(performance.now() - started);
  }
  return times.toSorted((a, b) => a - b);
}

const p99 = (times: readonly number[]): number => times[Math.floor(times.length * 0.99)] ?? Number.NaN;

describe.skipIf(reason !== null)(`calls that block${reason === null ? "" : ` (${reason})`}`, () => {
  it("hold up nobody else: an open that waits for a lease of the host", async () => {
    const source = sourceOf("held", "other");
    const mounted = await serve(source);
    const quiet = Math.min(...[1, 2, 3].map(() => p99(requestTimes(mounted))));
    const release = leased(join(source, "held"));
    const started = performance.now();
    const { ended } = reading(join(mounted, "held"));
    await sleep(100);
    const rounds: number[] = [];
    while (performance.now() - started < BLOCKED_MS - 1000) rounds.push(p99(requestTimes(mounted)));
    expect(rounds.length).toBeGreaterThan(0);
    // Other programs run here, too: the best of several, and no worse than without a blocked call.
    expect(Math.min(...rounds)).toBeLessThan(Math.max(5, 2 * quiet));
    await sleep(started + BLOCKED_MS - performance.now());
    release();
    expect(await ended).toBe("content\n");
    expect(performance.now() - started).toBeGreaterThan(BLOCKED_MS - 100);
  });

  it("hold up nobody else: a FUSE mount underneath that never answers a read", async () => {
    const source = sourceOf("held", "other");
    const rules = join(temporaryDirectory(), "rules");
    // Only the large file has this byte.
    writeFileSync(join(source, "held"), Buffer.alloc(2 * HELD_BYTE));
    const never = { operation: "read", at: HELD_BYTE, after: 0, times: 1, action: { kind: "hang" } };
    writeFileSync(rules, JSON.stringify([never]));
    const lower = await serve(source, "--faults", rules);
    const mounted = await serve(lower);
    const quiet = p99(requestTimes(mounted));
    reading(join(mounted, "held"));
    await sleep(200);
    expect(p99(requestTimes(mounted))).toBeLessThan(Math.max(5, 3 * quiet));
    expect(readFileSync(join(mounted, "other"), "utf8")).toBe("content\n");
  });

  it("are served as many at once as there are threads; that there are no more is said", async () => {
    const names = Array.from({ length: MAX_THREADS }, (_, i) => `held-${i}`);
    const source = sourceOf("other", ...names);
    const mounted = await serve(source);
    const releases = names.map((name) => leased(join(source, name)));
    const some = names.slice(1).map((name) => reading(join(mounted, name)));
    // Threads take a while to start where the machine is busy; the last one serves meanwhile.
    await sleep(4000);
    expect(readFileSync(join(mounted, "other"), "utf8")).toBe("content\n");
    const last = reading(join(mounted, names[0] ?? ""));
    await sleep(4000);
    for (const release of releases) release();
    const texts = await Promise.all([...some, last].map(({ ended }) => ended));
    expect(texts).toEqual(names.map(() => "content\n"));
    expect(readFileSync(join(mounted, "other"), "utf8")).toBe("content\n");
    const [server] = servers.splice(0);
    expect((await server?.stop())?.stderr).toMatch(/all 10 threads wait/);
  }, 60_000);

  it("end when their caller is interrupted", async () => {
    const source = sourceOf("held", "other");
    const mounted = await serve(source);
    const release = leased(join(source, "held"));
    // More callers than threads: each thread comes back.
    for (let i = 0; i < MAX_THREADS + 4; i += 1) {
      const { child, ended } = reading(join(mounted, "held"));
      await sleep(100);
      child.kill("SIGKILL");
      await ended;
    }
    expect(readFileSync(join(mounted, "other"), "utf8")).toBe("content\n");
    release();
    const [server] = servers.splice(0);
    expect((await server?.stop())?.stderr).not.toMatch(/threads wait|defect/);
  }, 120_000);

  it("make files of each caller's own, several at once", async () => {
    const source = sourceOf("other");
    const mounted = await serve(source);
    const script = (mask: string, name: string) =>
      `umask ${mask}; i=0; while [ $i -lt 150 ]; do : > ${mounted}/${name}-$i; i=$((i+1)); done`;
    const makers = [
      ["077", "a"],
      ["022", "b"],
      ["027", "c"],
    ] as const;
    await Promise.all(
      makers.map(
        ([mask, name]) => new Promise((done) => spawn("sh", ["-c", script(mask, name)]).on("close", done)),
      ),
    );
    const modes = new Set(
      makers.flatMap(([, name]) =>
        Array.from(
          { length: 150 },
          (_, i) => `${name} ${statSync(join(source, `${name}-${i}`)).mode & 0o777}`,
        ),
      ),
    );
    expect([...modes].sort()).toEqual([`a ${0o600}`, `b ${0o644}`, `c ${0o640}`]);
  });
});
