/** What is written is read back as it was: the report of a recorded run is the report of the run. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type Access,
  eventKinds,
  type FaultPlace,
  type HostResult,
  inconclusiveCauses,
  type Scenario,
  scenarioSource,
  type TraceEvent,
  type Verdict,
  type Vmm,
} from "../../../language/src/index.ts";
import { parseScenarios } from "../../../language/src/read.ts";
import { evidenceWith, expectationWith } from "../../../language/test/support/evidence.ts";
import { loadScenarios } from "../../src/fixtures.ts";
import { decodeGuards, decodeRuns } from "../../src/report/decode.ts";
import { executionOf, linesOf, recordedWith, resultWith } from "../support/results.ts";

const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const access: fc.Arbitrary<Access> = fc.oneof(
  fc.record({ kind: fc.constantFrom("value" as const, "stale" as const), value: u64 }),
  fc.record({
    kind: fc.constant("sigbus" as const),
    code: fc.constantFrom("BUS_ADRERR" as const, "BUS_MCEERR_AR" as const, "unobserved" as const),
  }),
  fc.record({ kind: fc.constantFrom("zero", "efault", "killed", "hung", "not-reached") }),
) as fc.Arbitrary<Access>;
const hostStep: fc.Arbitrary<HostResult> = fc.oneof(
  fc.constant({ kind: "done" as const }),
  fc.integer({ min: 0, max: 100_000 }).map((tenths) => ({ kind: "delayed" as const, ms: tenths / 10 })),
  fc.constantFrom("ETXTBSY", "EPERM").map((errno) => ({ kind: "denied" as const, errno })),
);
const place: fc.Arbitrary<FaultPlace | null> = fc.option(
  fc.record({
    rip: u64,
    cpl: fc.constantFrom(0, 3),
    gva: u64,
    gpa: fc.option(u64),
    hva: fc.option(u64),
  }),
);
const vmm: fc.Arbitrary<Vmm> = fc.oneof(
  fc.constant({ kind: "running" as const }),
  fc.record({
    kind: fc.constant("stopped" as const),
    reason: fc.constantFrom("efault" as const, "memory-fault" as const, "mmio" as const),
    at: place,
  }),
  fc.constant({ kind: "killed" as const, signal: "SIGBUS" }),
  fc.record({
    kind: fc.constant("looping" as const),
    faultsPerSecond: fc
      .double({ min: 0, max: 1e6, noNaN: true, noDefaultInfinity: true })
      .map((rate) => rate + 0),
    at: place,
  }),
);
const trace: fc.Arbitrary<readonly TraceEvent[]> = fc.array(
  fc.record({
    kind: fc.constantFrom(...eventKinds),
    actor: fc.string(),
    atMs: fc.integer({ min: 0 }),
    gpa: fc.option(u64),
    detail: fc.string(),
  }),
);
const verdict: fc.Arbitrary<Verdict> = fc.oneof(
  fc.record({ kind: fc.constantFrom("pass", "fail", "xfail", "xpass"), reason: fc.string() }),
  fc.record({
    kind: fc.constant("inconclusive"),
    cause: fc.constantFrom(...inconclusiveCauses),
    reason: fc.string(),
  }),
) as fc.Arbitrary<Verdict>;

const scenario = loadScenarios()[0] as Scenario;

describe("decodeRuns", () => {
  it("gives back every result as it was recorded", () => {
    const results = fc
      .record({
        verdict,
        first: access,
        step: hostStep,
        vmm: fc.option(fc.array(vmm, { minLength: 1 })),
        trace,
        counter: u64,
        outcome: fc.string(),
        count: fc.integer({ min: 1 }),
      })
      .map((one) => ({
        ...resultWith({
          scenario,
          verdict: one.verdict,
          expectation: expectationWith({ defect: { id: "d", text: "t", source: "s" } }),
          evidence: evidenceWith({
            observations: {
              accesses: { victim: { "load#1": one.first, "load#2": { kind: "hung" } } },
              host: { host: { "truncate#1": one.step } },
              vmm: one.vmm,
            },
            trace: one.trace,
            counters: { pf_taken: one.counter },
          }),
        }),
        outcomes: [{ text: one.outcome, verdict: one.verdict.kind, count: one.count }],
      }));
    fc.assert(
      fc.property(results, (result) => {
        const run = recordedWith([result]);
        const [decoded] = decodeRuns(linesOf(run), "test");
        expect(decoded?.results).toEqual([result]);
        expect(decoded?.info).toEqual(run.info);
        expect(decoded?.end).toBeNull();
      }),
    );
  });

  it.each([
    ["a skipped case", resultWith({ scenario, verdict: { kind: "skip", reason: "no KVM" } })],
    [
      "a case without evidence",
      resultWith({
        scenario,
        evidence: null,
        expectation: null,
        verdict: { kind: "inconclusive", cause: "timeout", reason: "too long" },
      }),
    ],
  ])("gives back %s", (_what, result) => {
    const planned = { ...result.planned, support: result.planned.support };
    const expected = result.verdict.kind === "skip" ? { ...result, planned } : result;
    expect(decodeRuns(linesOf(recordedWith([result])), "test")[0]?.results).toEqual([expected]);
  });

  it("knows an erratum that was not seen, also where the record has it in the reason only", () => {
    const verdictOf = (one: Verdict): Verdict | undefined =>
      decodeRuns(linesOf(recordedWith([resultWith({ scenario, verdict: one })])), "test")[0]?.results[0]
        ?.verdict;
    const reason = "erratum pvm is in force here but is not seen: remove it";
    const typed: Verdict = { kind: "xpass", reason, erratum: "pvm" };
    expect(verdictOf(typed)).toEqual(typed);
    expect(verdictOf({ kind: "xpass", reason })).toEqual(typed);
    expect(
      verdictOf({ kind: "xpass", reason: "better than r expects: erratum pvm is in force here" }),
    ).toEqual({
      kind: "xpass",
      reason: "better than r expects: erratum pvm is in force here",
    });
  });

  it("names the line of what it cannot read", () => {
    const lines = linesOf(recordedWith([resultWith({ scenario })]));
    const [run, proposal, definition, one] = lines as Record<string, unknown>[];
    expect(() => decodeRuns([run, { type: "case" }], "f")).toThrow("f:2: not a line of daxfault run --json");
    expect(() => decodeRuns([proposal], "f")).toThrow("f:1: proposal before the line of type run");
    expect(() => decodeRuns([run, proposal, one], "f")).toThrow("f:3: a case of scenario");
    expect(() => decodeRuns([run, proposal, { ...definition, hash: "000000000000" }], "f")).toThrow(
      "f:3: the recorded text of",
    );
    const strange = {
      ...one,
      observations: { ...(one?.observations as object), host: { h: { "truncate#1": "gone" } } },
    };
    expect(() => decodeRuns([run, proposal, definition, strange], "f")).toThrow('f:4: "gone" is no word');
  });
});

describe("decodeGuards", () => {
  const quantiles = { p50: 1, p99: 2, max: 3 };
  const price = {
    type: "guard-price",
    rounds: 1,
    rows: [{ guard: "none", operation: "truncate the file", ...quantiles }],
    refused: {},
    sealedCopyMs: null,
  };

  it("reads the lines of bench guards, which may stand among those of a run, and names the one it cannot read", () => {
    const lines = linesOf(recordedWith([resultWith({ scenario })]));
    expect(decodeGuards([price, ...lines], "f")).toEqual([price]);
    expect(decodeRuns([price, ...lines], "f")).toEqual(decodeRuns(lines, "f"));
    expect(() => decodeGuards([price, { ...price, rounds: -1 }], "f")).toThrow(
      "f:2: not a line of daxfault bench guards --json: rounds",
    );
  });
});

describe("scenarioSource", () => {
  it.each(loadScenarios().map((one) => [one.id, one] as const))("%s reads back as itself", (_id, one) => {
    expect(parseScenarios(JSON.stringify(scenarioSource(one)), "x")).toEqual([one]);
  });
});

describe("engine and machine of a case", () => {
  const kernel = "kernel:debian:6.1";
  const places = [
    ["model", "efault-exit", executionOf("model")],
    ["process", "native", executionOf("process")],
    ["kvm", "efault-exit", executionOf("kvm")],
    [kernel, "native", { ...executionOf("process"), machine: kernel }],
    [kernel, "efault-exit", { ...executionOf("kvm"), machine: kernel }],
  ] as const;

  it.each(places)("are both in the line, beside %s (%s)", (name, proposal, execution) => {
    const { planned, ...result } = resultWith({ scenario, proposal });
    const lines = linesOf(recordedWith([{ ...result, planned: { ...planned, ...execution } }]));
    const { engine: executor, machine } = execution;
    expect(lines.at(-1)).toMatchObject({ engine: name, executor, machine });
    expect(decodeRuns(lines, "x")[0]?.results[0]?.planned).toMatchObject(execution);
  });

  it.each(places)(
    "are read out of a line that has only %s (%s), as earlier versions wrote it",
    (name, proposal, execution) => {
      const { planned, ...result } = resultWith({ scenario, proposal });
      const lines = linesOf(recordedWith([{ ...result, planned: { ...planned, ...execution } }]));
      const { machine: _machine, executor: _executor, ...old } = lines.at(-1) as Record<string, unknown>;
      expect(old.engine).toBe(name);
      const [run] = decodeRuns([...lines.slice(0, -1), old], "x");
      expect(run?.results[0]?.planned).toMatchObject(execution);
    },
  );

  it("are refused where no such engine is known", () => {
    const lines = linesOf(recordedWith([resultWith({ scenario })]));
    const odd = { ...(lines.at(-1) as object), executor: "abacus" };
    expect(() => decodeRuns([...lines.slice(0, -1), odd], "x")).toThrow(/executor: Invalid option/);
  });
});

describe("a proposal of an earlier version", () => {
  it.each([
    ["fence", "pv-error", { exits: "fence", vmm: "inject-pf" }],
    ["fence", "mce-safe-loads", { exits: "fence", vmm: "inject-mce" }],
    ["no-hlt-exits", "unaware", { exits: "hlt-in-guest", vmm: "stop" }],
    ["inject-pf", "pv-error", { exits: "kvm", vmm: "inject-pf" }],
    ["none", "none", { exits: "none", vmm: "none" }],
  ])("that has vmm %s and guest %s alone says what makes the exit", (vmm, guest, axes) => {
    const lines = linesOf(recordedWith([resultWith({ scenario, proposal: "apf-loop" })]));
    const old = lines.map((line) => {
      if ((line as { type?: string }).type !== "proposal") return line;
      const { exits: _exits, ...rest } = line as Record<string, unknown>;
      return { ...rest, vmm, guest };
    });
    expect(decodeRuns(old, "x")[0]?.results[0]?.planned.proposal).toMatchObject(axes);
  });
});
