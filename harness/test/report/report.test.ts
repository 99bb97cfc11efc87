/** Merging runs: what belongs together, what contradicts itself, and what is missing. */
import { describe, expect, it } from "vitest";
import { evidenceWith } from "../../../language/test/support/evidence.ts";
import { engineNamer, makeReport } from "../../src/report/report.ts";
import type { CaseResult } from "../../src/run/result.ts";
import { recordedWith, resultWith } from "../support/results.ts";

const named = (id: string): CaseResult => resultWith({ scenario: { id } });

describe("makeReport", () => {
  it("puts shards together, and names those that are missing", () => {
    const shard = (index: number, id: string) =>
      recordedWith([named(id)], {}, { shard: { index, count: 3 } });
    const all = makeReport([shard(1, "a"), shard(2, "b"), shard(3, "c")], { documented: [] });
    expect(all.results.map(({ planned }) => planned.scenario.id)).toEqual(["a", "b", "c"]);
    expect([all.gaps, all.exitCode]).toEqual([[], 0]);
    const some = makeReport([shard(1, "a"), shard(3, "c")], { documented: [] });
    expect([some.gaps, some.exitCode]).toEqual([["shard 2 of 3 is missing"], 2]);
    // A job that runs one shard has done all that it was asked for.
    expect(makeReport([shard(2, "b")], { documented: [] }).exitCode).toBe(0);
  });

  it("counts the outcomes of a case that several runs have", () => {
    const first = named("a");
    const second: CaseResult = {
      ...first,
      outcomes: [{ text: "another", verdict: "pass", count: 2 }],
    };
    const { results, exitCode } = makeReport([recordedWith([first]), recordedWith([second])], {
      documented: [],
    });
    expect(results).toHaveLength(1);
    expect(results[0]?.outcomes.map(({ count }) => count)).toEqual([2, 1]);
    expect(results[0]?.verdict).toMatchObject({ kind: "inconclusive", cause: "unstable" });
    expect(exitCode).toBe(2);
  });

  it("holds the same case of two kernels apart", () => {
    const other = resultWith({ evidence: evidenceWith({ attestation: { kernel: "6.1.0" } }) });
    const { results } = makeReport([recordedWith([resultWith()]), recordedWith([other])], { documented: [] });
    expect(results).toHaveLength(2);
    expect(results.map(engineNamer(results))).toEqual(["kvm (kvm_amd 6.18.0)", "kvm (kvm_amd 6.1.0)"]);
    expect(results.slice(0, 1).map(engineNamer(results.slice(0, 1)))).toEqual(["kvm"]);
  });

  it("refuses two texts of one scenario, and two meanings of one proposal", () => {
    const other = resultWith({ scenario: { hash: "ffffffffffff" } });
    expect(() =>
      makeReport([recordedWith([resultWith()]), recordedWith([other])], { documented: [] }),
    ).toThrow("two texts of scenario load-after-truncate");
    const planned = { ...other.planned, scenario: resultWith().planned.scenario };
    const moved = {
      ...other,
      planned: { ...planned, proposal: { ...planned.proposal, vmm: "nmi" as const } },
    };
    expect(() =>
      makeReport([recordedWith([resultWith()]), recordedWith([moved])], { documented: [] }),
    ).toThrow("two things by proposal efault-exit");
  });

  it("says what an interruption has left out, and never calls it green", () => {
    const broken = makeReport([{ ...recordedWith([named("a")], {}, { cases: 5 }), end: null }], {
      documented: [],
    });
    expect(broken.gaps[0]).toContain("4 of 5 cases");
    expect(broken.exitCode).toBe(2);
    const stopped = recordedWith([named("a")], { interruptedBy: "SIGTERM" }, { cases: 5 });
    expect(makeReport([stopped], { documented: [] }).exitCode).toBe(143);
    const repeated: CaseResult = { ...named("a"), outcomes: [{ text: "one", verdict: "pass", count: 7 }] };
    const cut = recordedWith([repeated], { interruptedBy: "SIGINT" }, { cases: 1, repeat: 20 });
    expect(makeReport([cut], { documented: [] }).gaps).toEqual([
      expect.stringMatching(/^0 of 1 cases .* did not end: interrupted by SIGINT$/),
      "a x efault-exit x kvm: 7 of 20 runs",
    ]);
    const whole = recordedWith([repeated], {}, { cases: 1, repeat: 7 });
    expect(makeReport([whole], { documented: [] }).gaps).toEqual([]);
    expect(makeReport([recordedWith([named("a")], { defects: ["d"] })], { documented: [] }).exitCode).toBe(
      70,
    );
  });
});
