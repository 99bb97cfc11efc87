import { describe, expect, it } from "vitest";
import { accessText, judge, proposals } from "../../../../language/src/index.ts";
import { parseScenarios } from "../../../../language/src/read.ts";
import { proposalOf } from "../../../../language/test/support/cases.ts";
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

/** What each of the victim's accesses sees in the model, on a host without a VM. */
async function seenBy(...steps: readonly string[]): Promise<readonly string[]> {
  const source = { id: "x", purpose: "x", backing: { size: "4MiB" }, witness: [], properties: [] };
  const actors = { victim: { in: "guest-task", steps } };
  const [scenario] = parseScenarios(JSON.stringify({ ...source, actors }), "x");
  if (scenario === undefined) throw new Error("no scenario");
  const result = await modelEngine.run(scenario, proposalOf("native"), context);
  if (result.kind !== "evidence") throw new Error(result.message);
  return Object.values(result.evidence.observations.accesses.victim ?? {}).map(accessText);
}

/** It computes for some 14 s where nothing else does. */
const COMPUTED_MS = 120_000;

describe("the engine model", () => {
  it("says of a load what the guest's own stores have left there", async () => {
    expect(await seenBy("store 0x1000 8 1", "load 0x1000 8", "store 0x1000 8 2", "load 0x1000 8")).toEqual([
      "value(0x1)",
      "value(0x1)",
      "value(0x2)",
      "value(0x2)",
    ]);
    expect(await seenBy("load 0x1000 8", "store 0x1000 4 0", "load 0x1000 8")).toEqual([
      "value(0xda0000001000)",
      "value(0x0)",
      "value(0xda0000000000)",
    ]);
  });

  it("runs most cases, and says why not the others", () => {
    const supported = cases.filter(({ support }) => support.kind === "yes");
    expect(supported.length).toBeGreaterThan(cases.length * 0.75);
    for (const { support } of cases) if (support.kind === "no") expect(support.reason).toMatch(/\w/);
  });

  it(
    "keeps the contract, exhaustively, and behaves as is expected of KVM on hardware",
    async () => {
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
    },
    COMPUTED_MS,
  );
});
