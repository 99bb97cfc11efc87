/**
 * A property means the same in the model and on a real kernel: what any recorded real run says of it is among the answers
 * that the ends of the model have.
 */
import { describe, expect, it } from "vitest";
import {
  findingOf,
  parseOutcomeWords,
  presetOf,
  properties,
  scoreCell,
} from "../../../../language/src/index.ts";
import { loadObserved, type ObservedCase } from "../../../src/compare/observed.ts";
import { type ModelScoring, modelCaseOf, modelCases } from "../../../src/engines/model/scored.ts";
import { loadExpectations, loadScenarios } from "../../../src/fixtures.ts";

const scenarios = new Map(loadScenarios().map((scenario) => [scenario.id, scenario]));
const expectations = loadExpectations();
const scoring: ModelScoring = {
  scenarios: [...scenarios.values()],
  expectationOf: ({ scenario, proposal }) => expectations.find(scenario, proposal),
};

// Software KVM interprets CPL 0, which errata describe: it does not speak for a proposal.
const observed = [...loadObserved().values()]
  .flatMap(({ cases }) => cases)
  .filter(({ kvmBackend, verdict }) => kvmBackend !== "kvm_pvm" && verdict !== "xfail");

type Decided = { readonly what: string; readonly real: string; readonly possible: readonly string[] };

/** What the observation and the model say of each property that the scenario names and the observation decides. */
function decidedBy({
  scenario: id,
  scenarioHash,
  proposal: name,
  words,
  facts,
}: ObservedCase): readonly Decided[] {
  const scenario = scenarios.get(id);
  const proposal = presetOf(name);
  if (scenario?.hash !== scenarioHash || proposal === null) return [];
  const model = modelCaseOf(scenario, proposal, scoring);
  if (model === null || facts === undefined) return [];
  const { history, ...rest } = facts;
  const outcome = parseOutcomeWords({ ...words, vmm: history }, scenario);
  if (outcome === null) throw new Error(`no outcome of ${id}: ${JSON.stringify(words)}`);
  const ending = { outcome, ...rest, metLostPage: null, token: null };
  return properties
    .filter((property) => scenario.properties.includes(property.id))
    .flatMap((property) => {
      const asked = { scenario, proposal };
      const real = findingOf(property, { ...asked, endings: [ending] }).finding;
      if (real === "unknown") return [];
      const { possible } = findingOf(property, { ...asked, endings: model.endings });
      return [{ what: `${property.id} of ${proposal.id}, ${id}`, real, possible: [...possible] }];
    });
}

describe("what a real run says of a property", () => {
  const decided = observed.flatMap(decidedBy);

  it("is decided in hundreds of cases", () => {
    expect(decided.length).toBeGreaterThan(300);
  });

  it("is among the answers of the model's ends", () => {
    expect(decided.filter(({ real, possible }) => !possible.includes(real))).toEqual([]);
  });
});

describe("the model's cases of the scorecard", () => {
  it("decide nothing where a bound cut the search off before it found anything", () => {
    const proposal = presetOf("apf-guest");
    if (proposal === null) throw new Error("no such preset");
    const none = modelCases(proposal, { ...scoring, maxStates: 10 });
    expect(none.unended.length).toBeGreaterThan(10);
    const whole = modelCases(proposal, scoring).cases;
    let bounded = 0;
    for (const maxStates of [20, 60, 180, 540]) {
      const partial = modelCases(proposal, { ...scoring, maxStates });
      bounded += partial.cases.filter(({ exhaustiveness }) => exhaustiveness.kind === "bounded").length;
      for (const { id } of properties) {
        const { holds } = scoreCell(proposal.id, id, { ...partial, documented: [] });
        const full = scoreCell(proposal.id, id, { cases: whole, documented: [] }).holds;
        // Less may be decided, and a counterexample may stand alone; nothing is yes that is not.
        if (holds !== full) expect(["unknown", "no"]).toContain(holds);
        if (holds === "no") expect(["no", "partly"]).toContain(full);
      }
    }
    expect(bounded).toBeGreaterThan(0);
  });
});
