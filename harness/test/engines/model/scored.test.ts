/**
 * A property means the same in the model and on a real kernel: what any recorded real run says of it is among the answers
 * that the ends of the model have.
 */
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import {
  type Evidence,
  findingOf,
  type OutcomeWords,
  parseOutcomeWords,
  presetOf,
  properties,
  scoreCell,
} from "../../../../language/src/index.ts";
import { evidenceWith, natures } from "../../../../language/test/support/evidence.ts";
import { modelRun, modelSupports } from "../../../src/engines/model/engine.ts";
import { modelCases } from "../../../src/engines/model/scored.ts";
import { loadExpectations, loadScenarios } from "../../../src/fixtures.ts";
import { packagePath } from "../../../src/paths.ts";

type Observed = {
  readonly scenario: string;
  readonly scenarioHash: string;
  readonly proposal: string;
  readonly engine: string;
  readonly kvmBackend: string | null;
  readonly words: OutcomeWords;
};

const scenarios = new Map(loadScenarios().map((scenario) => [scenario.id, scenario]));
const folder = packagePath("fixtures/observed");
const observed = readdirSync(folder).flatMap((file) => {
  const { cases } = JSON.parse(readFileSync(`${folder}/${file}`, "utf8")) as { cases: readonly Observed[] };
  // Software KVM interprets CPL 0, which errata describe: it does not speak for a proposal.
  return cases.filter(({ kvmBackend }) => kvmBackend === "kvm_amd");
});

/** The words of an observation as evidence: without figures, and placed where KVM_RUN gave up, as stock kernels are. */
function evidenceOf({ scenario: id, words }: Observed): Evidence | null {
  const scenario = scenarios.get(id);
  const outcome = scenario === undefined ? null : parseOutcomeWords(words, scenario);
  if (outcome === null) return null;
  const place = evidenceWith().observations.vmm?.[0];
  const at = place?.kind === "stopped" ? place.at : null;
  const { vmm, ...rest } = evidenceWith().observations;
  return evidenceWith({
    counts: { nmi: scenario?.nmi === undefined ? 0 : 1 },
    trace: [],
    observations: {
      ...rest,
      ...(outcome as Partial<Evidence["observations"]>),
      vmm: outcome.vmm?.map((state) => ({ ...state, at, faultsPerSecond: 1 })) as typeof vmm,
    },
  });
}

describe("what a real run says of a property", () => {
  const decided = observed.flatMap((one) => {
    const scenario = scenarios.get(one.scenario);
    const proposal = presetOf(one.proposal);
    const evidence = evidenceOf(one);
    if (
      scenario === undefined ||
      scenario.hash !== one.scenarioHash ||
      proposal === null ||
      evidence === null
    )
      return [];
    if (modelSupports(scenario, proposal).kind === "no") return [];
    const run = modelRun(scenario, proposal);
    if (run.kind !== "evidence") throw new Error(run.message);
    return properties
      .filter(({ id }) => scenario.properties.includes(id))
      .flatMap((property) => {
        const asked = { scenario, server: proposal.server };
        const real = findingOf(property, { ...asked, evidence, nature: natures.kvm }).finding;
        if (real === "unknown") return [];
        const { possible } = findingOf(property, { ...asked, evidence: run.evidence, nature: natures.model });
        return [{ what: `${property.id} of ${proposal.id}, ${scenario.id}`, real, possible: [...possible] }];
      });
  });

  it("is decided in hundreds of cases", () => {
    expect(decided.length).toBeGreaterThan(300);
  });

  it("is among the answers of the model's ends", () => {
    expect(decided.filter(({ real, possible }) => !possible.includes(real))).toEqual([]);
  });
});

describe("the model's cases of the scorecard", () => {
  const scoring = { scenarios: [...scenarios.values()], expectations: loadExpectations() };

  it("decide nothing where a bound cut the search off before it found anything", () => {
    const proposal = presetOf("apf-guest");
    if (proposal === null) throw new Error("no such preset");
    const none = modelCases(proposal, { ...scoring, maxStates: 10 });
    expect(none.cases).toEqual([]);
    expect(none.unended.length).toBeGreaterThan(10);
    const whole = modelCases(proposal, scoring).cases;
    let bounded = 0;
    for (const maxStates of [20, 60, 180, 540]) {
      const partial = modelCases(proposal, { ...scoring, maxStates });
      bounded += partial.cases.filter(({ evidence }) => evidence.exhaustiveness.kind === "bounded").length;
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
