import { describe, expect, it } from "vitest";
import { scenarioWith } from "../../../language/test/support/cases.ts";
import { busyReason, delaysMs, ioPatienceMs, patienceDoubt } from "../../src/engines/patience.ts";

describe("delaysMs", () => {
  it("is what the accesses may wait for one behind the other, and nothing without a mount", () => {
    expect(delaysMs(scenarioWith({}))).toBe(0);
    const delay = {
      operation: "read",
      at: null,
      after: 0,
      times: null,
      action: { kind: "delay", ms: 200 },
    } as const;
    const backing = { ...scenarioWith({}).backing, mount: { faults: [delay] } };
    // Two loads.
    expect(delaysMs(scenarioWith({ backing }))).toBe(400);
  });
});

describe("patienceDoubt", () => {
  it.each([
    [0, false],
    [999, false],
    [1000, true],
    [5000, true],
  ])("of a patience of 2 s: the server waited for a processor for %i ms", (heldUpMs, isDoubtful) => {
    const doubt = patienceDoubt(heldUpMs, 2000);
    expect(doubt?.includes(`for ${heldUpMs} ms`) ?? false).toBe(isDoubtful);
  });
});

describe("busyReason", () => {
  const setup = { heldUp: async () => null, serverHeldUpMs: () => 1500 };
  const patienceMs = 2000;

  it("asks whether the server could answer only of what hangs by the clock", async () => {
    expect(await busyReason(setup, { isHungByTime: true, patienceMs })).toMatch(
      /waited for a processor for 1500 ms/u,
    );
    expect(await busyReason(setup, { isHungByTime: false, patienceMs })).toBeNull();
  });

  it("names a host actor that was held up, whatever hangs", async () => {
    const held = { ...setup, heldUp: async () => "host.truncate#1" };
    expect(await busyReason(held, { isHungByTime: false, patienceMs })).toBe("host.truncate#1");
  });
});

describe("ioPatienceMs", () => {
  it("is longer on a slow machine", () => {
    expect(ioPatienceMs(scenarioWith({}), 8)).toBe(8 * ioPatienceMs(scenarioWith({}), 1));
  });
});
