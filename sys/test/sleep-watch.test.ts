import { describe, expect, it } from "vitest";
import { threadId } from "../src/signals.ts";
import { parseThreadStat, readThread, SleepWatch } from "../src/sleep-watch.ts";

describe("a thread's state", () => {
  it("is read behind its name, whatever that is", () => {
    const text = "42 (CPU 0) D (x) D 1 42 42 0 -1 4194560 10 0 0 0 7 5 0 0 20 0 1 0 100 0 0";
    expect(parseThreadStat(text, 3)).toEqual({ atMs: 3, state: "D", cpuTicks: 12 });
    expect(parseThreadStat("", 0)).toBeNull();
  });

  it("is that of a live thread, and none of one that is gone", () => {
    expect(readThread(threadId(), 1)).toMatchObject({ atMs: 1, state: "R" });
    expect(readThread(2 ** 22 + 1, 1)).toBeNull();
  });
});

describe("SleepWatch", () => {
  const of = (atMs: number, state: string, cpuTicks = 10) => ({ atMs, state, cpuTicks });

  it("wants an uninterruptible sleep for longer than any I/O takes", () => {
    const watch = new SleepWatch(2000);
    expect([0, 1000, 2000, 2100].map((atMs) => watch.sample(of(atMs, "D")))).toEqual([
      null,
      null,
      null,
      2100,
    ]);
  });

  it.each([
    ["another state between", of(1000, "S")],
    ["CPU time between", of(1000, "D", 11)],
    ["a thread that is gone between", null],
  ])("begins anew after %s", (_what, between) => {
    const watch = new SleepWatch(2000);
    const later = of(2500, "D", between?.cpuTicks ?? 10);
    expect([of(0, "D"), between, later].map((sample) => watch.sample(sample))).toEqual([null, null, null]);
  });

  it("takes a sleep that can be interrupted for none", () => {
    const watch = new SleepWatch(10);
    expect([0, 100, 200].map((atMs) => watch.sample(of(atMs, "S")))).toEqual([null, null, null]);
  });
});
