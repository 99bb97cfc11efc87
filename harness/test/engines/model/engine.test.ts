import { describe, expect, it } from "vitest";
import { judge, proposals } from "../../../../language/src/index.ts";
import { natures } from "../../../../language/test/support/evidence.ts";
import { breachesOf } from "../../../src/engines/checked.ts";
import { modelEngine } from "../../../src/engines/model/engine.ts";
import { loadExpectations, loadScenarios } from "../../../src/fixtures.ts";
import { isAboutProposal } from "../../../src/run/plan.ts";

const context = {
  directory: "/nonexistent",
  timeoutMs: 1000,
  signal: new AbortController().signal,
  slowness: 1,
};
const expectations = loadExpectations();

const cases = loadScenarios().flatMap((scenario) =>
  proposals
    .filter((proposal) => isAboutProposal(scenario, proposal))
    .map((proposal) => ({ scenario, proposal, support: modelEngine.supports(scenario, proposal) })),
);

describe("the engine model", () => {
  it("runs most cases, and says why not the others", () => {
    const supported = cases.filter(({ support }) => support.kind === "yes");
    expect(supported.length).toBeGreaterThan(cases.length * 0.75);
    for (const { support } of cases) if (support.kind === "no") expect(support.reason).toMatch(/\w/);
  });

  it("keeps the contract, exhaustively, and behaves as is expected of KVM on hardware", async () => {
    for (const { scenario, proposal, support } of cases) {
      if (support.kind === "no") continue;
      const result = await modelEngine.run(scenario, proposal, context);
      if (result.kind !== "evidence") throw new Error(`${scenario.id} x ${proposal.id}: ${result.message}`);
      expect(breachesOf(scenario, result.evidence)).toEqual([]);
      expect(result.evidence.exhaustiveness.kind).toBe("exhaustive");
      const expectation = expectations.find(scenario, proposal);
      const place = { engine: "model", nature: natures.model, machine: "here" } as const;
      const verdict = judge({ scenario, proposal, ...place, expectation, errata: [], result });
      expect(`${scenario.id} x ${proposal.id}: ${verdict.kind} ${verdict.reason}`).toMatch(/: pass /);
    }
  });
});
