/** A task runs on while it is looked at: wherever it is overtaken, nothing of one that has ended is left untaken. */
import { expect, it } from "vitest";
import { guestActors } from "../../../../language/src/index.ts";
import { scenarioWith } from "../../../../language/test/support/cases.ts";
import { SleepWatch } from "../../../../sys/src/index.ts";
import { caseLayout, LinuxCase, channelLayout as layout } from "../../../../vmm/src/index.ts";
import { StepsTask } from "../../../src/engines/process/steps.ts";
import { SeenAccesses } from "../../../src/engines/seen.ts";
import { fakeHostSetup } from "../../support/fake-host-setup.ts";

const STARTED_RESULT = 1;
const DONE_RESULT = 2;
const DONE_STATE = 3;

/** The memory of a case whose one task waits behind its first load; `start` begins the second, `finish` ends it. */
function waitingTask() {
  const memory = new Uint8Array(caseLayout.sizeofLinuxCase);
  const view = new DataView(memory.buffer);
  const report = layout.offsetofReports;
  const finishLoad = (step: number): void =>
    view.setUint32(report + layout.offsetofReportResults + step * layout.sizeofResult, DONE_RESULT, true);
  view.setUint32(report, 1, true);
  finishLoad(0);
  view.setUint32(report + layout.offsetofReportCurrentStep, 2, true);
  const finish = (): void => {
    finishLoad(3);
    view.setUint32(report + layout.offsetofReportCurrentStep, 4, true);
    view.setUint32(report, DONE_STATE, true);
  };
  const start = (): void => {
    view.setUint32(report + layout.offsetofReportResults + 3 * layout.sizeofResult, STARTED_RESULT, true);
    view.setUint32(report + layout.offsetofReportCurrentStep, 3, true);
  };
  return { linux: new LinuxCase(memory), finish, start };
}

/** @param overMs for how long the sleep has lasted that it has proven */
function watchThatSays(overMs: number | null): SleepWatch {
  const watch = new SleepWatch(0);
  watch.sample = () => overMs;
  return watch;
}

/** Calls `finish` before the call of that number, from 0. */
function overtaken<T extends object>(channel: T, call: number, finish: () => void): T {
  let calls = 0;
  return new Proxy(channel, {
    get(target, name) {
      const found: unknown = Reflect.get(target, name, target);
      if (typeof found !== "function") return found;
      return (...values: readonly unknown[]): unknown => {
        if (calls++ === call) finish();
        return Reflect.apply(found, target, values);
      };
    },
  });
}

it.each([0, 1, 2, 3, 4, 5, 6])("overtaken before call %i of a look", async (call) => {
  const scenario = scenarioWith({});
  const [victim] = guestActors(scenario);
  if (victim === undefined) throw new Error("no guest task");
  const { linux, finish } = waitingTask();
  const setup = fakeHostSetup({});
  const task = new StepsTask(0, victim, {
    linux: { channel: overtaken(linux.channel, call, finish), task: () => ({ pid: null, killedBy: null }) },
    seen: new SeenAccesses(scenario, setup),
    nowMs: () => setup.nowMs(),
    killSteps: [],
  });
  let looks = 0;
  let hasEnded = false;
  void task.ended.then(() => {
    hasEnded = true;
  });
  while (!hasEnded && looks++ < 10) {
    task.take();
    await Promise.resolve();
  }
  expect(hasEnded).toBe(true);
  expect(task.accesses()["load#2"]).toEqual({ kind: "zero" });
});

it("an access that was proven to wait for ever hangs, however seldom its process was looked at", () => {
  const scenario = scenarioWith({});
  const [victim] = guestActors(scenario);
  if (victim === undefined) throw new Error("no guest task");
  const { linux, start } = waitingTask();
  const setup = fakeHostSetup({});
  const task = new StepsTask(0, victim, {
    linux: { channel: linux.channel, task: () => ({ pid: process.pid, killedBy: null }) },
    seen: new SeenAccesses(scenario, setup),
    nowMs: () => setup.nowMs(),
    killSteps: [],
  });
  start();
  task.take();
  expect(task.isDone(watchThatSays(null))).toBe(false);
  expect(task.giveUp()).toBe(false);
  expect(task.isDone(watchThatSays(1000))).toBe(true);
  expect(task.giveUp()).toBe(true);
  expect(task.accesses()["load#2"]).toEqual({ kind: "hung" });
});
