/** `daxfault protect` ended in every way at any moment, while others use the file: nobody waits for it afterwards. */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { isLong } from "../../../sys/test/support/long.ts";
import { startCli } from "../support/cli.ts";
import { caseFolder, eventually } from "../support/folders.ts";
import { startMapping } from "../support/mapping.ts";
import { noPermissionEvents } from "../support/permission-events.ts";
import { Truncating } from "../support/truncating.ts";

const BYTES = 64 * 4096;
/** The listener's own, and what a busy machine needs besides. */
const HELD_UP_MS = 12_000;

/** Listeners of `daxfault protect` whose parent is `pid`, or has been. */
function listeners(): readonly number[] {
  return readdirSync("/proc")
    .filter((name) => /^[0-9]+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("protect/listener-main.js");
      } catch {
        return false;
      }
    });
}

function childrenOf(pid: number): readonly number[] {
  return listeners().filter((one) => {
    try {
      const stat = readFileSync(`/proc/${one}/stat`, "utf8");
      return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]) === pid;
    } catch {
      return false;
    }
  });
}

/** What is sent to whom; `all`: to both at once. */
const ends: readonly { readonly to: "command" | "listener" | "all"; readonly signal: NodeJS.Signals }[] = [
  { to: "command", signal: "SIGKILL" },
  { to: "command", signal: "SIGTERM" },
  { to: "listener", signal: "SIGKILL" },
  { to: "all", signal: "SIGKILL" },
  { to: "all", signal: "SIGSTOP" },
  { to: "listener", signal: "SIGSTOP" },
  { to: "command", signal: "SIGSTOP" },
];

const noEvents = noPermissionEvents();
const rounds = isLong ? 105 : 2;
// An odd number of ends: each comes early and late.
describe.skipIf(noEvents !== null)(`protect, ended${noEvents === null ? "" : ` (${noEvents})`}`, () => {
  it(`holds nobody up: ${rounds} times`, { timeout: 1_500_000 }, async () => {
    const path = join(caseFolder(), "guest ram");
    writeFileSync(path, Buffer.alloc(BYTES, 1));
    const truncating = await Truncating.start(path);
    const mapping = await startMapping([path]);
    let longestMs = 0;
    for (let round = 0; round < rounds; round += 1) {
      const running = startCli(["protect", "--pid", String(mapping.pid)]);
      let isReady = false;
      running.stdout.on("data", (bytes: Buffer) => {
        isReady ||= bytes.toString().includes("ready:");
      });
      // Every other one while it starts, and the others once it is at work.
      const isLate = round % 2 === 1;
      if (isLate) expect(await eventually(() => isReady, HELD_UP_MS)).toBe(true);
      const untilMs = performance.now() + Math.random() * (isLate ? 300 : 1500);
      const use = async (): Promise<void> => {
        const begin = performance.now();
        expect((await truncating.try("read")).errnos).toEqual({ done: 1 });
        longestMs = Math.max(longestMs, performance.now() - begin);
      };
      while (performance.now() < untilMs) await use();
      const end = ends[round % ends.length];
      const own = childrenOf(running.pid);
      const sent = [...(end?.to === "listener" ? [] : [running.pid]), ...(end?.to === "command" ? [] : own)];
      for (const pid of sent) process.kill(pid, end?.signal);
      for (let count = 0; count < 20; count += 1) await use();
      running.kill("SIGKILL");
      await running.ended;
      expect(await eventually(() => own.every((pid) => !listeners().includes(pid)), HELD_UP_MS)).toBe(true);
      for (let count = 0; count < 5; count += 1) await use();
      expect(longestMs, JSON.stringify(end)).toBeLessThan(HELD_UP_MS);
    }
    console.log(`${rounds} ends; the longest read took ${longestMs.toFixed(0)} ms`);
    // Nothing is refused any more.
    expect(await truncating.try("truncate")).toEqual({ errnos: { done: 1 }, sizeBytes: 0 });
  });
});
