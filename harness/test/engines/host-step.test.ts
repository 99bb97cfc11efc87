/** From the time of a host step to its word. */
import { describe, expect, it } from "vitest";
import { heldUpText, hostResultOf, type StepTime } from "../../src/engines/host-step.ts";

const BOUND_MS = 1000;
const time = (changes: Partial<StepTime>): StepTime => ({ ms: 1, heldUpMs: 0, errno: null, ...changes });

describe("hostResultOf", () => {
  it.each<[string, Partial<StepTime>, ReturnType<typeof hostResultOf>]>([
    ["it failed", { errno: "EPERM", ms: 5000 }, { kind: "denied", errno: "EPERM" }],
    ["it was quick", {}, { kind: "done" }],
    ["it was quick, for all its waits", { ms: 1000, heldUpMs: 999 }, { kind: "done" }],
    ["something held it up", { ms: 1001 }, { kind: "delayed", ms: 1001 }],
    [
      "something held it up, and the machine too",
      { ms: 2001, heldUpMs: 1000 },
      { kind: "delayed", ms: 2001 },
    ],
    ["the machine may have held it up", { ms: 2000, heldUpMs: 1000 }, null],
  ])("%s", (_, changes, expected) => {
    expect(hostResultOf(time(changes), BOUND_MS)).toEqual(expected);
  });

  it("says how long it took, and how long of it the machine was busy", () => {
    expect(heldUpText("host.truncate#1", time({ ms: 1203.4, heldUpMs: 900 }))).toBe(
      "the machine was busy: host.truncate#1 took 1203 ms, of which it or the file server waited for a processor for 900 ms",
    );
  });
});
