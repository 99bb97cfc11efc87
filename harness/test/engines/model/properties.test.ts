/**
 * A property means the same to `daxfault run`, which decides it by scenarios, and to `daxfault explore`, which decides it
 * by the model's own situations.
 */
import { describe, expect, it } from "vitest";
import { propertyNames, scorecardOf } from "../../../../kvm-model/src/index.ts";
import { presets, type ScoredCase, scoreCell } from "../../../../language/src/index.ts";
import { modelEngine } from "../../../src/engines/model/engine.ts";
import { loadScenarios } from "../../../src/fixtures.ts";
import { isAboutProposal } from "../../../src/run/plan.ts";

const scenarios = loadScenarios();

/** Where the two are asked different questions. */
const besideAnother =
  "the requested exit finds another task running; the scenarios that name this have one task";
const different: Readonly<Record<string, string>> = {
  "exit-request precise-load": besideAnother,
  "exit-request precise-store": besideAnother,
  "exit-request host-truncation": besideAnother,
  "exit-request any-backing": besideAnother,
  "remap-zero right-victim":
    "situations ask that nobody is told by mistake, scenarios that the victim is told",
  "remap-zero kernel-access": "situations ask that the kernel lives, scenarios that its caller gets an error",
  "remap-zero reversible":
    "zeros of the file that has grown again and zeros put in its place look alike to a guest",
};

async function scored(proposal: (typeof presets)[number]): Promise<ScoredCase[]> {
  const cases: ScoredCase[] = [];
  for (const scenario of scenarios) {
    if (!isAboutProposal(scenario, proposal) || modelEngine.supports(scenario, proposal).kind === "no")
      continue;
    const context = { directory: "", timeoutMs: 0, signal: new AbortController().signal, slowness: 1 };
    const result = await modelEngine.run(scenario, proposal, context);
    if (result.kind !== "evidence") throw new Error(`${scenario.id} x ${proposal.id}: ${result.message}`);
    cases.push({
      scenario,
      proposal: proposal.id,
      engine: "model",
      nature: { isReal: false, runsKvm: false },
      verdict: "pass",
      evidence: result.evidence,
    });
  }
  return cases;
}

describe("scenarios and situations", () => {
  it.each(presets.map((preset) => [preset.id, preset] as const))("agree on %s", async (id, preset) => {
    const row = preset.variantOf ?? id;
    const cases = await scored(preset);
    const situations = new Map(scorecardOf(preset).map(({ property, holds }) => [property, holds]));
    const disagreements = propertyNames.flatMap((property) => {
      const byScenarios = scoreCell(id, property, cases, []).holds;
      const bySituations = situations.get(property);
      const decided = [byScenarios, bySituations].every((holds) => holds === "yes" || holds === "no");
      const differs = decided && byScenarios !== bySituations;
      if (differs === `${row} ${property}` in different) return [];
      return [`${property}: scenarios ${byScenarios}, situations ${bySituations}`];
    });
    expect(disagreements).toEqual([]);
  });

  it("lists no difference of a proposal or a property that is gone", () => {
    for (const [key, reason] of Object.entries(different)) {
      const [proposal, property] = key.split(" ");
      expect(presets.map(({ id }) => id)).toContain(proposal);
      expect(propertyNames).toContain(property);
      expect(reason).not.toBe("");
    }
  });
});
