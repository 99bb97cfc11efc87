import { describe, expect, it } from "vitest";
import { proposalOf, scenarioWith } from "../../../language/test/support/cases.ts";
import { distinct } from "../../src/cli/record-main.ts";
import type { Recorded } from "../../src/compare/recorded.ts";

const seen = (kind: "value" | "zero"): Recorded => ({
  scenario: "load-a",
  scenarioHash: "0123456789ab",
  proposal: "p",
  definition: { scenario: scenarioWith({}), proposal: proposalOf("apf-loop"), argument: "load-a" },
  isReal: true,
  isLinuxGuest: false,
  engine: "kvm",
  kvmBackend: "kvm_amd",
  outcome: {
    accesses: { victim: { "load#1": { kind } } },
    host: {},
    vmm: [{ kind: "running" }],
    guestKernel: "alive",
    bystanders: {},
  },
  verdict: "pass",
  facts: { history: "running", exitAt: null, wasRecalled: false, nmi: false, hostMs: null },
  kernel: { release: "6.12.1", kvmBackend: "kvm_amd", origin: null, accelerator: null },
  traced: null,
  goneErratum: null,
});

describe("what is kept of several runs", () => {
  it("has the longest of the host's calls", () => {
    const took = (hostMs: number): Recorded => ({
      ...seen("value"),
      facts: { ...seen("value").facts, hostMs },
    });
    expect(distinct([took(0.26), took(3.14), took(1)]).map(({ facts }) => facts?.hostMs)).toEqual([3.1]);
  });

  it("is each different observation once, in the order seen", () => {
    const kept = distinct([seen("value"), seen("zero"), seen("value")]);
    expect(kept.every((one) => !("goneErratum" in one))).toBe(true);
    expect(kept.map(({ words }) => words)).toEqual(
      ["value", "zero"].map((word) => ({
        steps: { "victim.load#1": word },
        bystanders: {},
        vmm: "running",
        guestKernel: "alive",
      })),
    );
  });

  it("stays beside what is recorded later, unless its scenario is another one now", () => {
    const [old] = distinct([seen("value")]);
    if (old === undefined) throw new Error("nothing is recorded");
    const others = [
      { ...old, scenario: "load-b" },
      { ...old, scenarioHash: "ba9876543210" },
    ];
    const kept = distinct([seen("value"), seen("zero")], [old, ...others]);
    expect(kept.map(({ scenario, words }) => [scenario, words.steps["victim.load#1"]])).toEqual([
      ["load-a", "value"],
      ["load-b", "value"],
      ["load-a", "zero"],
    ]);
  });
});
