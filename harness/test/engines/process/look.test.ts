/** A task runs on while it is looked at: wherever it is overtaken, nothing of one that has ended is left untaken. */
import { expect, it } from "vitest";
import { guestActors } from "../../../../language/src/index.ts";
import { scenarioWith } from "../../../../language/test/support/cases.ts";
import { caseLayout, LinuxCase, channelLayout as layout } from "../../../../vmm/src/index.ts";
import { StepsTask } from "../../../src/engines/process/steps.ts";
import { SeenAccesses } from "../../../src/engines/seen.ts";
import { fakeHostSetup } from "../../support/fake-host-setup.ts";

const DONE_RESULT = 2;
const DONE_STATE = 3;

/** The memory of a case whose one task waits behind its first load; `finish` does all that is left of it. */
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
  return { linux: new LinuxCase(memory), finish };
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
