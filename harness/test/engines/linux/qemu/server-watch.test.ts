import { spawn } from "node:child_process";
import { once } from "node:events";
import { describe, expect, it } from "vitest";
import { type CallLook, CallWatch, lookAtServer } from "../../../../src/engines/linux/qemu/server-watch.ts";

const PATIENCE_MS = 1000;
const OPENAT2 = "437 0xffffff9c 0x7ffc 0x7ffd 0x18 0x0 0x0 0x7ffe 0x7fff";

const look = (atMs: number, rest: Partial<CallLook> = {}): CallLook => ({
  tid: 7,
  atMs,
  state: "D",
  cpuTicks: 5,
  call: OPENAT2,
  ...rest,
});

/** What the last of these looks proves. */
function proven(...looks: readonly CallLook[]): ReturnType<CallWatch["sample"]> {
  const watch = new CallWatch(PATIENCE_MS);
  return looks.map((one) => watch.sample([one])).at(-1) ?? null;
}

describe("a thread that serves sleeps for ever", () => {
  it("in one call of the source, without CPU time, for longer than the patience", () => {
    expect(proven(look(0), look(500), look(1001))).toEqual({ tid: 7, overMs: 1001 });
    expect(proven(look(0, { state: "S" }), look(1001, { state: "S" }))).not.toBeNull();
  });

  it.each<[string, readonly CallLook[]]>([
    ["shorter", [look(0), look(1000)]],
    ["with CPU time meanwhile", [look(0), look(500), look(1001, { cpuTicks: 6 })]],
    ["in another call", [look(0), look(1001, { call: OPENAT2.replace("0x7ffc", "0x8ffc") })]],
    ["awake in between", [look(0), look(500, { state: "R", call: "running" }), look(1001)]],
    ["for requests", [look(0, { call: "232 0x12 0x0" }), look(1001, { call: "232 0x12 0x0" })]],
    ["on a futex", [look(0, { call: "202 0x1 0x0" }), look(1001, { call: "202 0x1 0x0" })]],
    ["in user space", [look(0, { call: "-1 0x1 0x2" }), look(1001, { call: "-1 0x1 0x2" })]],
    ["stopped by a debugger", [look(0, { state: "t" }), look(1001, { state: "t" })]],
  ])("but not %s", (_how, looks) => expect(proven(...looks)).toBeNull());

  it("each by itself, and the longest is named", () => {
    const watch = new CallWatch(PATIENCE_MS);
    watch.sample([look(0)]);
    watch.sample([look(400), look(400, { tid: 8 })]);
    expect(watch.sample([look(1500), look(1500, { tid: 8 })])).toEqual({ tid: 7, overMs: 1500 });
    // The first has gone on.
    expect(watch.sample([look(1600, { cpuTicks: 6 }), look(1600, { tid: 8 })])).toEqual({
      tid: 8,
      overMs: 1200,
    });
  });
});

it("looks at threads by their names alone, and at none of a process that is gone", async () => {
  const child = spawn("sh", ["-c", "echo daxfault-serve3 > /proc/$$/comm; echo ready; read line"]);
  await once(child.stdout, "data");
  const { pid = 0 } = child;
  expect(lookAtServer(pid)).toMatchObject([{ tid: pid, call: expect.stringMatching(/^(running|0 0x)/) }]);
  expect(lookAtServer(process.pid)).toEqual([]);
  child.stdin.end();
  await once(child, "exit");
  expect(lookAtServer(pid)).toEqual([]);
});
