/** The model against what real machines showed: fixtures/observed. A real observation that it forbids is a defect. */
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import type { Check } from "../../../../kvm-model/src/index.ts";
import {
  type Outcome,
  type OutcomeWords,
  parseOutcomeWords,
  presets,
  proposals,
  recordedProposal,
  type Scenario,
} from "../../../../language/src/index.ts";
import { parseScenarios } from "../../../../language/src/read.ts";
import { proposalOf } from "../../../../language/test/support/cases.ts";
import {
  type Allowed,
  allowedEnds,
  comparedText,
  comparedWords,
  isEnd,
} from "../../../src/engines/model/allowed.ts";
import { backendOf, hardware, translate } from "../../../src/engines/model/translate.ts";
import { loadScenarios } from "../../../src/fixtures.ts";
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

function scenarioOf(id: string): Scenario {
  const scenario = scenarios.get(id);
  if (scenario === undefined) throw new Error(`no scenario ${id}`);
  return scenario;
}

const folder = packagePath("fixtures/observed");
/** Only of scenarios that still are what was run. */
const observed: readonly Observed[] = readdirSync(folder)
  .flatMap((file) => (JSON.parse(readFileSync(`${folder}/${file}`, "utf8")) as { cases: Observed[] }).cases)
  .filter((one) => scenarios.get(one.scenario)?.hash === one.scenarioHash);

function outcomeOf(one: Observed): Outcome {
  const outcome = parseOutcomeWords(one.words, scenarioOf(one.scenario));
  if (outcome === null) throw new Error(`no outcome of ${one.scenario}: ${JSON.stringify(one.words)}`);
  return outcome;
}

/** Explored once for each case of the model, however many observations there are of it, on however many machines. */
const explored = new Map<string, Allowed>();

function allowedFor(one: Observed, without: readonly Check[] = []): Allowed {
  const proposal = recordedProposal(one.proposal);
  if (proposal === null) return { kind: "unsupported", reason: `no proposal ${one.proposal}` };
  const backend = backendOf(one.kvmBackend);
  const scenario = scenarioOf(one.scenario);
  const key = JSON.stringify(
    [translate(scenario, proposal, { backend, timer: true }), without],
    (_name, value) => (typeof value === "bigint" ? String(value) : value),
  );
  const known = explored.get(key);
  if (known !== undefined) return known;
  const allowed = allowedEnds(scenario, proposal, backend, { more: { without } });
  explored.set(key, allowed);
  return allowed;
}

/** null: not for the model. */
function isAllowed(one: Observed, without: readonly Check[] = []): boolean | null {
  const allowed = allowedFor(one, without);
  return allowed.kind === "ends" ? allowed.ends.some((end) => isEnd(end, outcomeOf(one))) : null;
}

describe("observed within allowed", () => {
  it("has something to compare", () => {
    expect(observed.length).toBeGreaterThan(50);
  });

  it("is recorded in words that are read back, and written again, as they are", () => {
    for (const one of observed) expect(comparedWords(outcomeOf(one))).toEqual(one.words);
  });

  it.each(observed.map((one) => [`${one.scenario} x ${one.proposal}`, one] as const))("%s", (_name, one) => {
    expect(isAllowed(one)).not.toBe(false);
  });

  it("is no empty promise: what was not seen is mostly not allowed", () => {
    let ends = 0;
    let cases = 0;
    for (const one of observed) {
      const allowed = allowedFor(one);
      if (allowed.kind !== "ends") continue;
      ends += allowed.ends.length;
      cases += 1;
    }
    // 1.24 of kvm_amd, whose runs have the guards and the swapped pages besides, less of kvm_pvm.
    expect(ends / cases).toBeLessThan(1.25);
  });
});

describe("a broken model is caught by what was observed", () => {
  /** Others are caught by the order of a kernel's tracepoints (order.test.ts); what no stock kernel does, by claims. */
  const caught: readonly (readonly [Check, string])[] = [
    ["apf-enabled-test", "apf-loop"],
    ["content-zeroed", "pf-injection"],
    ["fast-gup-cleared", "apf-loop"],
    ["i-size-test", "apf-loop"],
    ["interrupt-window-test", "pv-injection"],
    ["lapic-test", "efault-exit"],
    ["notified-afterwards", "pf-injection"],
    ["ready-kicks", "apf-guest"],
    ["seal-refuses", "sealed"],
    ["token-zeroed", "apf-guest"],
    ["worker-completes", "apf-guest"],
    ["zap-on-truncate", "apf-loop"],
  ];

  it.each(caught)("without %s, by a case of %s", (check, proposal) => {
    const cases = observed.filter((one) => one.proposal === proposal);
    expect(cases.some((one) => isAllowed(one) === true && isAllowed(one, [check]) !== true)).toBe(true);
  });
});

describe("translation", () => {
  it("says yes, or no with a reason, to every scenario under every proposal", () => {
    for (const scenario of scenarios.values()) {
      for (const proposal of [...proposals, ...presets.filter(({ server }) => server !== "none")]) {
        const translation = translate(scenario, proposal, { backend: hardware, timer: true });
        if (translation.kind === "no") expect(translation.reason).toMatch(/\w/);
        else expect(translation.case.pages.length).toBeGreaterThan(0);
      }
    }
  });

  it("a looping vCPU and the error in page-ready, in words", () => {
    const ends = (id: string): string[] => {
      const preset = presets.find((known) => known.id === id);
      if (preset === undefined) throw new Error(`no preset ${id}`);
      const allowed = allowedEnds(scenarioOf("load-after-truncate"), preset, hardware);
      return allowed.kind === "ends"
        ? allowed.ends.map(({ outcome }) => comparedText(outcome))
        : [allowed.reason];
    };
    expect(ends("apf-loop")).toMatchInlineSnapshot(`
      [
        "victim.load#1 value, victim.load#2 hung, host.truncate#1 done; VMM looping; guest alive",
      ]
    `);
    expect(ends("efault-exit")).toMatchInlineSnapshot(`
      [
        "victim.load#1 value, victim.load#2 killed, host.truncate#1 done; VMM stopped(efault); guest alive",
      ]
    `);
    expect(ends("sigbus-injection")).toMatchInlineSnapshot(`
      [
        "victim.load#1 value, victim.load#2 sigbus, host.truncate#1 done; VMM running; guest alive",
      ]
    `);
    expect(ends("mce-injection")).toMatchInlineSnapshot(`
      [
        "victim.load#1 value, victim.load#2 sigbus, host.truncate#1 done; VMM running; guest alive",
      ]
    `);
  });
});

describe("zeros in the model", () => {
  const ends = (steps: readonly string[]): readonly string[] => {
    const source = {
      id: "x",
      purpose: "x",
      backing: { size: "4MiB" },
      actors: {
        task: { in: "guest-task", steps },
        host: { in: "host-process", steps: ["await go", "punch 0x1000 0x1000", "signal done"] },
      },
      witness: [],
      properties: [],
    };
    const [scenario] = parseScenarios(JSON.stringify(source), "x");
    const allowed =
      scenario === undefined ? null : allowedEnds(scenario, proposalOf("efault-exit"), hardware);
    if (allowed?.kind !== "ends") throw new Error("no ends");
    return allowed.ends.map(({ outcome }) => outcome.accesses.task?.["load#1"]?.kind ?? "none");
  };

  it.each([
    ["of a hole stand in for data", ["signal go", "await done", "load 0x1000 8"], "zero"],
    ["of a store are its value", ["store 0x1000 8 0", "load 0x1000 8", "signal go", "await done"], "value"],
    ["are gone after a store", ["signal go", "await done", "store 0x1000 8 1", "load 0x1000 8"], "value"],
    [
      "of a store are its value in a hole, too",
      ["signal go", "await done", "store 0x1000 8 0", "load 0x1000 8"],
      "value",
    ],
    ["that the content has are a value", ["signal go", "await done", "load 0x1000 1"], "value"],
    ["are lost with the page", ["store 0x1000 8 0", "signal go", "await done", "load 0x1000 8"], "zero"],
  ])("%s", (_what, steps, expected) => {
    expect(new Set(ends(steps))).toEqual(new Set([expected]));
  });
});
