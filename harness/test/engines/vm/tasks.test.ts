import { describe, expect, it } from "vitest";
import { isOnItsWay, type TaskView } from "../../../src/engines/vm/tasks.ts";

const load = { verb: "load", size: 8, address: 0n, value: 0n } as const;
const ready: TaskView = { state: "ready", step: load, status: "not-reached", count: 0n, countAtTrouble: 0n };
const counting = { ...ready, step: { ...load, verb: "count" } } as const;
const awaiting = { ...ready, step: { ...load, verb: "await", address: 3n } } as const;

describe("isOnItsWay", () => {
  it.each<[string, TaskView, boolean]>([
    ["its vCPU has not come up", { ...ready, state: "unused" }, true],
    ["it is before an access", ready, true],
    ["its access is under way", { ...ready, status: "started" }, false],
    ["it is behind its last step", { ...ready, step: undefined }, false],
    ["it sleeps", { ...ready, state: "sleeping" }, false],
    ["it is done", { ...ready, state: "done" }, false],
    ["it was killed", { ...ready, state: "killed" }, false],
    ["it has not counted since the trouble", { ...counting, count: 7n, countAtTrouble: 7n }, true],
    ["it has counted since the trouble", { ...counting, count: 8n, countAtTrouble: 7n }, false],
    ["it awaits a signal that was raised", awaiting, true],
    ["it awaits another signal", { ...awaiting, step: { ...awaiting.step, address: 4n } }, false],
  ])("%s", (_, task, expected) => {
    expect(isOnItsWay(task, (number) => number === 3)).toBe(expected);
  });
});
