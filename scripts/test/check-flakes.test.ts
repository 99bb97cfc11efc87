/** What counts as a difference between two runs. */
import { describe, expect, it } from "vitest";
import { differences, outcomesOf } from "../check-flakes.ts";

type Changes = {
  readonly hung?: boolean;
  readonly rate?: number;
  readonly ms?: number;
  readonly verdict?: string;
  readonly expected?: string;
};

function lines({
  hung = true,
  rate = 1000,
  ms = 1,
  verdict = "pass",
  expected = "hung",
}: Changes = {}): string {
  const observations = {
    accesses: { victim: { "load#1": hung ? "hung" : "value(0x1)" } },
    host: { host: { "truncate#1": `delayed(${ms})` } },
    vmm: [{ state: "looping", faultsPerSecond: rate, at: null }],
    guestKernel: "alive",
    bystanders: {},
  };
  const expectation = { outcome: { accesses: { "victim.last": expected } } };
  const id = { scenario: "load", proposal: "apf-loop", engine: "kvm" };
  return [
    { type: "run", cases: 1 },
    { type: "case", ...id, verdict: { kind: verdict }, expectation, observations, durationMs: ms },
    { type: "summary" },
  ]
    .map((record) => `${JSON.stringify(record)}\n`)
    .join("");
}

describe("differences", () => {
  it("leaves out times and rates", () => {
    expect(differences(outcomesOf(lines()), outcomesOf(lines({ rate: 7, ms: 99 })))).toEqual([]);
  });

  it("shows what an access saw otherwise, before and after", () => {
    const found = differences(outcomesOf(lines()), outcomesOf(lines({ hung: false })));
    expect(found).toHaveLength(3);
    expect(found[0]).toBe("  load x apf-loop (kvm)");
    expect(found[1]).toContain('"load#1":"hung"');
    expect(found[2]).toContain('"load#1":"value(0x1)"');
  });

  it("leaves out what a rule expects to differ, unless it is no pass", () => {
    const raced = (changes: Changes) => outcomesOf(lines({ expected: "hung|value", ...changes }));
    expect(differences(raced({}), raced({ hung: false }))).toEqual([]);
    expect(differences(raced({}), raced({ hung: false, verdict: "fail" }))).toHaveLength(3);
  });

  it("counts a case that only one run has", () => {
    expect(differences(outcomesOf(lines()), new Map())[2]).toBe("    + not run");
    expect(differences(new Map(), outcomesOf(lines()))[1]).toBe("    - not run");
  });
});
