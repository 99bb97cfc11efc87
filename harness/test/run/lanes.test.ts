import { describe, expect, it } from "vitest";
import { proposalOf, scenarioWith } from "../../../language/test/support/cases.ts";
import { evidenceResult } from "../../../language/test/support/evidence.ts";
import { checkedEngine } from "../../src/engines/checked.ts";
import { jobsOf, lanesOf } from "../../src/run/lanes.ts";
import type { EngineState, PlannedCase } from "../../src/run/plan.ts";
import { scriptedEngine } from "../support/engine.ts";

const own = checkedEngine(scriptedEngine(async () => evidenceResult()));
const booted = checkedEngine(
  scriptedEngine(async () => evidenceResult(), { name: "kernel:x", isAlone: true }),
);
const states = [booted, own].map((engine): EngineState => ({ engine, available: { kind: "yes" } }));

const caseOn = (engine: PlannedCase["engine"], support: PlannedCase["support"]): PlannedCase => ({
  scenario: scenarioWith({}),
  proposal: proposalOf("apf-loop"),
  engine,
  support,
  argument: "x",
});
const yes = { kind: "yes" } as const;

describe("lanes", () => {
  it("are the machine's own engines first, then one for each kernel", () => {
    const lanes = lanesOf([caseOn("kernel:x", yes), caseOn("kvm", yes)], states);
    expect(lanes.map(({ engines }) => engines.map(({ name }) => name))).toEqual([["kvm"], ["kernel:x"]]);
  });

  it("open no engine that has nothing to run", () => {
    const no = { kind: "no", reason: "it cannot", fix: null } as const;
    const [lane] = lanesOf([caseOn("kernel:x", no)], states);
    expect(lane?.engines).toEqual([]);
    expect(lane?.cases).toHaveLength(1);
  });

  it("run one case at a time where a case has the machine to itself", () => {
    const [shared, alone] = lanesOf([caseOn("kernel:x", yes), caseOn("kvm", yes)], states);
    expect([shared, alone].map((lane) => lane && jobsOf(lane, 4))).toEqual([4, 1]);
  });
});
