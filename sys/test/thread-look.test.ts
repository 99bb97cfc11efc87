import { performance } from "node:perf_hooks";
import { Worker } from "node:worker_threads";
import { describe, expect, it } from "vitest";
import { threadId } from "../src/signals.ts";
import { delayedMsOf, lookAtThread, parseSchedstat } from "../src/thread-look.ts";

const nowMs = (): number => performance.now();

describe("parseSchedstat", () => {
  it("has milliseconds, and nothing where the kernel keeps no figures", () => {
    expect(parseSchedstat("3000000 2000000 5\n")).toEqual({ ranMs: 3, delayedMs: 2, slices: 5 });
    expect(parseSchedstat("0 0 0\n")).toBeNull();
    expect(parseSchedstat("")).toBeNull();
  });
});

describe("lookAtThread", () => {
  it("finds this thread running, and its time on a processor grows", () => {
    const first = lookAtThread(threadId(), nowMs);
    const untilMs = nowMs() + 50;
    while (nowMs() < untilMs);
    const second = lookAtThread(threadId(), nowMs);
    expect(first?.isAsleep).toBe(false);
    expect(second?.ranMs).toBeGreaterThan(first?.ranMs ?? Number.POSITIVE_INFINITY);
    expect(second?.beforeMs).toBeLessThanOrEqual(second?.afterMs ?? 0);
  });

  it("finds one asleep that waits, with complete figures", async () => {
    const source = `
      const { parentPort, workerData } = require("node:worker_threads");
      const { readlinkSync } = require("node:fs");
      parentPort.postMessage(Number(readlinkSync("/proc/thread-self").split("/").at(-1)));
      Atomics.wait(new Int32Array(workerData), 0, 0);`;
    const shared = new SharedArrayBuffer(4);
    const worker = new Worker(source, { eval: true, workerData: shared });
    const tid = await new Promise<number>((resolve) => worker.once("message", resolve));
    const asleep = async (): Promise<ReturnType<typeof lookAtThread>> => {
      for (;;) {
        const look = lookAtThread(tid, nowMs);
        if (look?.isAsleep === true) return look;
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    };
    const first = await asleep();
    await new Promise((resolve) => setTimeout(resolve, 30));
    const second = await asleep();
    expect(second).toMatchObject({ ranMs: first?.ranMs, delayedMs: first?.delayedMs });
    Atomics.store(new Int32Array(shared), 0, 1);
    Atomics.notify(new Int32Array(shared), 0);
    await worker.terminate();
    expect(lookAtThread(2 ** 22 + 1, nowMs)).toBeNull();
  });
});

describe("delayedMsOf", () => {
  it("adds threads up; of a process that is gone it is 0", () => {
    const own = lookAtThread(process.pid, nowMs)?.delayedMs ?? Number.POSITIVE_INFINITY;
    expect(delayedMsOf(process.pid)).toBeGreaterThanOrEqual(own);
    expect(delayedMsOf(2 ** 22 + 1)).toBe(0);
  });
});
