/** What counts as a difference between two runs. */
import { describe, expect, it } from "vitest";
import { Comparison, optionsOf, outcomesOf } from "../check-flakes.ts";

type Changes = {
  readonly hung?: boolean;
  readonly rate?: number;
  readonly ms?: number;
  readonly verdict?: string;
  readonly reason?: string;
  readonly expected?: string;
};

function lines({
  hung = true,
  rate = 1000,
  ms = 1,
  verdict = "pass",
  reason = "why",
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
    { type: "case", ...id, verdict: { kind: verdict, reason }, expectation, observations, durationMs: ms },
    { type: "summary" },
  ]
    .map((record) => `${JSON.stringify(record)}\n`)
    .join("");
}

/** What the last of these runs has otherwise. */
function differences(...runs: readonly ReturnType<typeof outcomesOf>[]): readonly string[] {
  const comparison = new Comparison(false);
  return runs.map((run) => comparison.add(run)).at(-1) ?? [];
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

describe("Comparison", () => {
  const busy = { verdict: "inconclusive", reason: "the machine was busy" } as const;
  const compared = (isBusy: boolean, ...runs: readonly Changes[]) => {
    const comparison = new Comparison(isBusy);
    const said = runs.flatMap((changes) => comparison.add(outcomesOf(lines(changes))));
    const { differences: differing, inconclusive, verdicts, isBad } = comparison;
    return { differing, inconclusive, verdicts, isBad, said };
  };
  const many = (changes: Changes) => Array.from({ length: 999 }, () => changes);

  it.each([
    ["the same every time", true, [{}, {}], { differing: 0, inconclusive: 0, verdicts: 2, isBad: false }],
    ["a fail among passes", true, [{}, { verdict: "fail" }], { differing: 1, inconclusive: 0, isBad: true }],
    ["one in two inconclusive", true, [{}, busy], { differing: 0, inconclusive: 1, isBad: true }],
    ["one in a thousand inconclusive", true, [...many({}), busy], { inconclusive: 1, isBad: false }],
    ["two in a thousand", true, [...many({}), busy, busy], { inconclusive: 2, verdicts: 1001, isBad: true }],
    [
      "the first one inconclusive",
      true,
      [busy, ...many({})],
      { differing: 0, inconclusive: 1, isBad: false },
    ],
    [
      "the first two, then a fail",
      true,
      [busy, busy, {}, { verdict: "fail" }],
      { differing: 1, inconclusive: 2 },
    ],
    ["always inconclusive", true, [busy, busy], { differing: 0, inconclusive: 0, isBad: false }],
    ["inconclusive on an idle machine", false, [{}, busy], { differing: 1, inconclusive: 0, isBad: true }],
    ["skipped alone", true, [{ verdict: "skip" }, { verdict: "skip" }], { verdicts: 0, isBad: true }],
  ] as const)("%s", (_, isBusy, runs, expected) => {
    expect(compared(isBusy, ...runs)).toMatchObject(expected);
  });

  it("says why a verdict is inconclusive", () => {
    expect(compared(true, {}, busy).said).toEqual(["  load x apf-loop (kvm)", "    ? the machine was busy"]);
  });
});

describe("optionsOf", () => {
  it.each([
    [[], { runs: 20, busy: 0 }],
    [["5"], { runs: 5, busy: 0 }],
    [["20", "--busy", "6"], { runs: 20, busy: 6 }],
    [["--busy=6"], { runs: 20, busy: 6 }],
    [["1"], null],
    [["2", "3"], null],
    [["--busy", "x"], null],
    [["--busy", "65"], null],
    [["--idle"], null],
  ])("%j", (args, expected) => {
    expect(optionsOf(args)).toEqual(expected);
  });
});
