import { describe, expect, it } from "vitest";
import { vmmText } from "../../../../language/src/index.ts";
import { scenarioWith } from "../../../../language/test/support/cases.ts";
import { channelLayout } from "../../../../vmm/src/index.ts";
import { noShare } from "../../../src/engines/attendance.ts";
import type { VmReport } from "../../../src/engines/vm/messages.ts";
import {
  accessesSeen,
  bystandersWatched,
  guestKernelSeen,
  isHungByTime,
  unexpectedError,
  vmmSeen,
} from "../../../src/engines/vm/observe.ts";

const place = { rip: 0x41581n, cpl: 3, task: 0, step: 3, gva: 0x40001000n, gpa: 0x40001000n, hva: 0x7f00n };
const efault = { kind: "error", errno: "EFAULT", exitReason: 0 } as const;

function report(changes: Partial<VmReport>): VmReport {
  return {
    capabilities: {},
    history: [],
    end: { kind: "finished" },
    outOfTime: false,
    final: { counters: {}, asyncPageFaultMsr: 0n, clock: null },
    tasks: [
      {
        actor: "victim",
        state: "ready",
        currentStep: 3,
        count: 0n,
        countSinceTrouble: 0n,
        share: null,
        results: (["done", "not-reached", "not-reached", "started"] as const).map((status) => ({
          status,
          began: 0n,
          ended: 0n,
          number: 0,
        })),
      },
    ],
    apfNotPresentCount: 0,
    apfReadyCount: 0,
    nmiCount: 0,
    oopsCount: 0,
    heartbeat: 1,
    heartbeatSinceTrouble: 0,
    events: [],
    ...changes,
  };
}

const first = (_actor: string, step: number) => (step === 0 ? ({ kind: "value", value: 7n } as const) : null);
const accesses = (changes: Partial<VmReport>) => accessesSeen(scenarioWith({}), report(changes), first);

describe("accessesSeen", () => {
  it("calls an access killed when the VM stopped at it, hung when it loops, not reached before it began", () => {
    const stopped = { kind: "stopped", exit: efault, place } as const;
    const looping = { kind: "looping", proof: "faults", faultsPerSecond: 9, place } as const;
    expect(accesses({ history: [stopped] })).toEqual({
      victim: { "load#1": { kind: "value", value: 7n }, "load#2": { kind: "killed" } },
    });
    expect(accesses({ history: [looping] }).victim?.["load#2"]).toEqual({ kind: "hung" });
    const tasks = report({}).tasks.map((task) => ({ ...task, results: task.results.slice(0, 1) }));
    expect(accesses({ tasks }).victim?.["load#2"]).toEqual({ kind: "not-reached" });
  });

  it("tells SIGBUS and a system call's EFAULT apart", () => {
    const last = (status: "sigbus" | "efault", number: number) => {
      const tasks = report({}).tasks.map((task) => ({
        ...task,
        results: task.results.with(3, { status, number, began: 0n, ended: 0n }),
      }));
      return accesses({ tasks }).victim?.["load#2"];
    };
    expect(last("sigbus", channelLayout.SIGBUS_ADRERR)).toEqual({ kind: "sigbus", code: "BUS_ADRERR" });
    expect(last("efault", 0)).toEqual({ kind: "efault" });
  });

  it("calls it killed when its task was", () => {
    const tasks = report({}).tasks.map((task) => ({ ...task, state: "killed" as const }));
    expect(accesses({ tasks }).victim?.["load#2"]).toEqual({ kind: "killed" });
  });
});

describe("isHungByTime", () => {
  const loop = { kind: "looping", proof: "faults", faultsPerSecond: 9, place } as const;
  const [victim] = report({}).tasks;
  if (victim === undefined) throw new Error("no victim");

  it("holds of an access that has not come back, unless its own faults prove its loop", () => {
    expect(isHungByTime(report({ history: [] }))).toBe(true);
    expect(isHungByTime(report({ history: [{ kind: "waiting", place }] }))).toBe(true);
    expect(isHungByTime(report({ history: [loop] }))).toBe(false);
    expect(isHungByTime(report({ history: [{ ...loop, proof: "time" }] }))).toBe(true);
  });

  it("holds of one beside a loop, and where it is not known which access loops", () => {
    expect(isHungByTime(report({ history: [loop], tasks: [victim, { ...victim, actor: "other" }] }))).toBe(
      true,
    );
    expect(isHungByTime(report({ history: [{ ...loop, place: { ...place, step: 2 } }] }))).toBe(true);
    expect(isHungByTime(report({ history: [{ ...loop, place: null }] }))).toBe(true);
  });

  it("does not hold where nothing hangs", () => {
    const done = { ...victim, results: victim.results.slice(0, 1) };
    expect(isHungByTime(report({ tasks: [done] }))).toBe(false);
    expect(isHungByTime(report({ tasks: [{ ...victim, state: "killed" }] }))).toBe(false);
    expect(isHungByTime(report({ history: [{ kind: "stopped", exit: efault, place }] }))).toBe(false);
  });
});

describe("vmmSeen", () => {
  it("is running if nothing happened, and tells the exits apart", () => {
    expect(vmmSeen(report({})).map(vmmText)).toEqual(["running"]);
    const exits = [
      efault,
      { kind: "memory-fault", errno: "EFAULT", flags: 0n, gpa: 0n, sizeBytes: 4096n },
      { kind: "mmio", gpa: 0n, isWrite: false, lengthBytes: 8 },
      { kind: "shutdown" },
      { kind: "internal-error", suberror: 1 },
    ] as const;
    const history = exits.map((exit) => ({ kind: "stopped", exit, place: null }) as const);
    expect(vmmSeen(report({ history })).map(vmmText)).toEqual([
      "stopped(efault)",
      "stopped(memory-fault)",
      "stopped(mmio)",
      "stopped(triple-fault)",
      "stopped(internal-error)",
    ]);
  });
});

describe("what is no observation", () => {
  it("names an errno that nobody expected, and a thread that ended without a word", () => {
    const exit = { kind: "error", errno: "ENOMEM", exitReason: 0 } as const;
    expect(unexpectedError(report({ history: [{ kind: "stopped", exit, place }] }))).toMatch(/ENOMEM/u);
    expect(unexpectedError(report({ final: null }))).toMatch(/final state/u);
    expect(unexpectedError(report({ end: { kind: "defect", message: "doorbell 0x0" } }))).toBe(
      "doorbell 0x0",
    );
    expect(unexpectedError(report({}))).toBeNull();
  });
});

describe("bystanders and the guest kernel", () => {
  it("are watched from the trouble on, with what their vCPU got; a VM that has stopped runs nobody", () => {
    const actors = { counter: { in: "guest-task", steps: [{ verb: "count" }] } } as const;
    const share = { ...noShare, ranMs: 5 };
    const task = { actor: "counter", state: "ready", currentStep: 0, count: 9n, results: [], share } as const;
    const tasks = [{ ...task, countSinceTrouble: 3n }];
    const seen = (changes: Partial<VmReport>) =>
      bystandersWatched(scenarioWith({ actors }), report({ tasks, ...changes }));
    expect(seen({})).toEqual({ counter: { counted: 3n, share, isStopped: false } });
    const stopped = { kind: "stopped", exit: efault, place } as const;
    expect(seen({ history: [stopped] }).counter?.isStopped).toBe(true);
    expect(seen({ history: [stopped, { kind: "running" }] }).counter?.isStopped).toBe(false);
    expect(seen({ tasks: [] })).toEqual({ counter: { counted: 0n, share: null, isStopped: false } });
  });

  it("calls a panic a panic", () => {
    expect(guestKernelSeen(report({ end: { kind: "guest-panic", reason: "x" } }))).toBe("panic");
    expect(guestKernelSeen(report({}))).toBe("alive");
  });
});
