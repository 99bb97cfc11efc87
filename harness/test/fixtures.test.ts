/** The expectations of the project: complete, unambiguous, nothing dead. */
import { describe, expect, it } from "vitest";
import {
  accessesOf,
  type EngineName,
  guestActors,
  isAbout,
  Kinds,
  KindsError,
  matchesGlob,
  propertyIds,
  proposals,
} from "../../language/src/index.ts";
import { expectationWith } from "../../language/test/support/evidence.ts";
import { supportsPair, supportsProposal } from "../src/engines/kvm/plan.ts";
import { loadDocumented, loadErrata, loadKinds, loadScenarios } from "../src/fixtures.ts";
import { isAboutProposal } from "../src/run/plan.ts";

const scenarios = loadScenarios();
const kinds = loadKinds();

/** Every case that an engine of some machine can run, decided by data alone. */
const cases = scenarios.flatMap((scenario) =>
  proposals
    .filter((proposal) => isAboutProposal(scenario, proposal))
    .flatMap((proposal) => {
      const isNative = proposal.kvm === "none";
      const steps = guestActors(scenario).flatMap(([, actor]) => actor.steps);
      const actors = Object.values(scenario.actors).map((actor) => actor.in);
      const nativeCan =
        !steps.some(({ verb }) => verb === "fetch") &&
        !actors.includes("vmm") &&
        !actors.includes("guest-kernel");
      if (isNative && !nativeCan) return [];
      // What a KVM would do that has the proposal: said of the model today, of a kernel once there is one.
      const canKvm = [
        supportsProposal(isNative ? proposal : { ...proposal, kvm: "today" }),
        supportsPair(scenario, proposal),
      ];
      const isNested = guestActors(scenario).some(([, actor]) => actor.in === "guest-task" && actor.nested);
      if (!isNative && !isNested && canKvm.some(({ kind }) => kind === "no")) return [];
      const engine: EngineName = isNative ? "process" : isNested ? "model" : "kvm";
      return [{ scenario, name: { scenario: scenario.id, proposal: proposal.id, engine } }];
    }),
);

describe("fixtures/kinds", () => {
  /** Looked up once: each look-up asks every rule. Throws where two rules match equally well. */
  const expected = cases.map(({ scenario, name }) => ({ scenario, name, expectation: kinds.find(name) }));

  it("expects something of every case that can run, unambiguously", () => {
    for (const { name, expectation } of expected) {
      expect(expectation, `${name.scenario} x ${name.proposal}`).not.toBeNull();
    }
  });

  it("has no rule, and no pattern in a rule, that no case matches", () => {
    for (const rule of kinds.rules) {
      for (const pattern of rule.scenarios) {
        const used = expected.some(
          ({ name, expectation }) =>
            expectation === rule.expectation &&
            matchesGlob(pattern, name.scenario) &&
            name.engine === rule.engine,
        );
        expect(used, `${rule.expectation.rule}: ${pattern}`).toBe(true);
      }
      for (const proposal of rule.proposals.filter((id) => id !== "*")) {
        const used = expected.some(
          ({ name, expectation }) => expectation === rule.expectation && name.proposal === proposal,
        );
        expect(used, `${rule.expectation.rule}: ${proposal}`).toBe(true);
      }
    }
  });

  it("expects a VMM of the engine with a VMM only", () => {
    for (const { engine, expectation } of kinds.rules) {
      expect(expectation.outcome.vmm !== undefined, expectation.rule).toBe(engine !== "process");
    }
  });

  it("names only actors and steps that the scenarios have", () => {
    for (const { scenario, expectation } of expected) {
      const outcome = expectation?.outcome;
      for (const key of Object.keys(outcome?.accesses ?? {})) {
        const [actorName, label] = key.split(".");
        const actor = guestActors(scenario).find(([id]) => matchesGlob(actorName ?? "", id))?.[1];
        const labels = actor === undefined ? [] : accessesOf(actor).map((access) => access.label);
        expect(["last", ...labels], `${scenario.id}: ${key}`).toContain(label);
        expect(labels.length, `${scenario.id}: ${key}`).toBeGreaterThan(0);
      }
      for (const key of Object.keys(outcome?.bystanders ?? {})) expect(scenario.actors).toHaveProperty(key);
    }
  });

  it("expects nothing of what it does not know", () => {
    expect(kinds.find({ scenario: "nothing", proposal: "native", engine: "process" })).toBeNull();
  });
});

describe("Kinds", () => {
  const rule = (name: string, scenario: string, proposal: string) => ({
    scenarios: [scenario],
    proposals: [proposal],
    engine: "kvm" as const,
    expectation: expectationWith({ rule: name }),
  });
  const find = (...rules: ReturnType<typeof rule>[]) =>
    new Kinds(rules).find({ scenario: "load-a", proposal: "p", engine: "kvm" })?.rule;

  it("takes the narrowest scenario pattern, then the narrowest proposal pattern", () => {
    expect(find(rule("any", "*", "*"), rule("load", "load-*", "*"))).toBe("load");
    expect(find(rule("exact", "load-a", "*"), rule("load", "load-*", "p"))).toBe("exact");
    expect(find(rule("any", "load-*", "*"), rule("p", "load-*", "p"))).toBe("p");
  });

  it("refuses two that are equally narrow", () => {
    expect(() => find(rule("one", "load-*", "p"), rule("two", "load-*", "p"))).toThrow(KindsError);
    expect(() => find(rule("one", "load-a", "p"), rule("two", "load-a", "p"))).toThrow("match equally well");
  });
});

describe("fixtures/errata.json", () => {
  it("has an owner, a link and a case for every entry", () => {
    for (const erratum of loadErrata()) {
      expect(erratum.owner, erratum.id).not.toBe("");
      expect(erratum.link, erratum.id).toMatch(/^https:/);
      expect(
        cases.some(({ name }) => isAbout(erratum, name)),
        erratum.id,
      ).toBe(true);
    }
  });
});

describe("fixtures/documented.json", () => {
  it("is about cells of the scorecard, each with a source", () => {
    for (const { proposal, property, source } of loadDocumented()) {
      expect(proposals.map(({ id }) => id)).toContain(proposal);
      expect(propertyIds).toContain(property);
      expect(source).not.toBe("");
    }
  });
});
