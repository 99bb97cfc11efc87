import { spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it, onTestFinished } from "vitest";
import { parseProcessState, processState, threadId, threadRunMs } from "../src/index.ts";

const line = (state: string, flags: number): string => `17 (a) R (b) ${state} 1 17 17 0 -1 ${flags} 12 0 0 0`;

describe("the state of a process", () => {
  it.each([
    ["R", 0, "running"],
    ["S", 0x400000, "running"],
    ["D", 0, "running"],
    ["T", 0, "stopped"],
    ["t", 0, "stopped"],
    ["Z", 0, "ending"],
    ["X", 0, "ending"],
    // It still runs, but on its way out.
    ["R", 0x400004, "ending"],
  ] as const)("%s with flags %i is %s, whatever its name is", (state, flags, expected) => {
    expect(parseProcessState(line(state, flags))).toBe(expected);
  });

  it("is what the kernel says", async () => {
    const child = spawn("sleep", ["60"], { stdio: "ignore" });
    onTestFinished(() => void child.kill("SIGKILL"));
    const pid = child.pid ?? 0;
    expect(processState(pid)).toBe("running");
    child.kill("SIGSTOP");
    while (processState(pid) !== "stopped") await sleep(1);
    const ended = once(child, "exit");
    child.kill("SIGKILL");
    await ended;
    expect(processState(pid)).toBe("ending");
  });
});

describe("how long a thread has run", () => {
  it("grows while it works, by no more than passes", () => {
    const [before, started] = [threadRunMs(threadId()) ?? 0, performance.now()];
    while (performance.now() - started < 20);
    const ran = (threadRunMs(threadId()) ?? 0) - before;
    expect(ran).toBeGreaterThan(0);
    // What has run since the scheduler's last tick is added when it is asked for, or with the next one.
    expect(ran).toBeLessThan(performance.now() - started + 10);
  });

  it("of no thread is not known", () => {
    expect(threadRunMs(0)).toBe(null);
  });
});
