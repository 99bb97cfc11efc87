/** What is given up because no answer comes, and what is not because the machine is busy. */
import { spawnSync } from "node:child_process";
import { pbkdf2 } from "node:crypto";
import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { ThisHost } from "../../src/diagnose/this-host.ts";
import { caseFolder, eventually } from "../support/folders.ts";

const LIMIT_BYTES = 2 ** 20;

describe("a read that waits", () => {
  it("is given up where it sleeps, and is over when the answer comes after all", async () => {
    const path = join(caseFolder(), "fifo");
    expect(spawnSync("mkfifo", [path]).status).toBe(0);
    const host = new ThisHost();
    const begin = performance.now();
    // open(2) waits for a writer.
    expect(await host.readOfMemory(path, LIMIT_BYTES)).toEqual({ kind: "failed", code: "ETIMEDOUT" });
    expect(performance.now() - begin).toBeLessThan(10_000);
    expect(host.stuck).toBe(1);
    closeSync(openSync(path, "w"));
    expect(await eventually(() => host.stuck === 0)).toBe(true);
  });

  it("is waited for where the threads have no time for it", async () => {
    // libuv's four threads, each for longer than a read that sleeps is given.
    const iterations = 100_000;
    const hash = promisify(pbkdf2);
    const oneMs = await timed(() => hash("a", "b", iterations, 64, "sha512"));
    const busy = Array.from({ length: 4 }, () =>
      hash("a", "b", Math.ceil((iterations * 1000) / oneMs), 64, "sha512"),
    );
    const host = new ThisHost();
    const waitedMs = await timed(async () => {
      expect(await host.readOfMemory("/proc/self/maps", LIMIT_BYTES)).toMatchObject({ kind: "ok" });
    });
    await Promise.all(busy);
    expect(waitedMs).toBeGreaterThan(500);
    expect(host.stuck).toBe(0);
  });
});

async function timed(work: () => Promise<unknown>): Promise<number> {
  const begin = performance.now();
  await work();
  return performance.now() - begin;
}
