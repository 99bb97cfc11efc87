import { describe, expect, it } from "vitest";
import type { EngineNature, Evidence } from "../../src/evidence.ts";
import { properties } from "../../src/judge/properties.ts";
import { type ScoredCase, scoreCell, scorecard } from "../../src/judge/scorecard.ts";
import { parseScenarios } from "../../src/scenario/parse.ts";
import type { Scenario } from "../../src/scenario/scenario.ts";
import { scenarioWith } from "../support/cases.ts";
import { type Changes, evidenceWith, natures, place } from "../support/evidence.ts";

type On = { readonly scenario?: Scenario; readonly nature?: EngineNature };

function decide(property: string, evidence: Evidence, on: On = {}): string {
  const { scenario = scenarioWith({}), nature = natures.kvm } = on;
  return properties.find(({ id }) => id === property)?.decide?.(scenario, evidence, nature) ?? "unknown";
}

const value = { kind: "value", value: 1n } as const;
const seen = (last: object, rest: Changes["observations"] = {}): Evidence =>
  evidenceWith({
    observations: { accesses: { victim: { "load#1": value, "load#2": last } }, ...rest },
  } as Changes);

const looping = seen({ kind: "hung" }, { vmm: [{ kind: "looping", faultsPerSecond: 9, at: place }] });
const native = (last: object, rest: Changes["observations"] = {}): Evidence =>
  seen(last, { vmm: null, guestKernel: null, ...rest });
const sigbus = native({ kind: "sigbus", code: "unobserved" });
const running = seen({ kind: "zero" }, { vmm: [{ kind: "running" }] });

describe("properties", () => {
  it.each([
    ["terminates", "a loop", looping, "no"],
    ["terminates", "an exit", evidenceWith(), "yes"],
    ["terminates", "a hang without a VM", native({ kind: "hung" }), "no"],
    ["contained", "a VM that stopped", evidenceWith(), "no"],
    ["contained", "a loop, nobody watching", looping, "unknown"],
    ["contained", "a starved bystander", native(value, { bystanders: { counter: "starved" } }), "no"],
    ["contained", "a bystander that got on", native(value, { bystanders: { counter: "progress" } }), "yes"],
    ["precise-load", "SIGBUS", sigbus, "yes"],
    ["precise-load", "EFAULT with a place", evidenceWith(), "yes"],
    [
      "precise-load",
      "EFAULT without one",
      seen({ kind: "killed" }, { vmm: [{ kind: "stopped", reason: "efault", at: null }] }),
      "no",
    ],
    [
      "precise-load",
      "an MMIO exit",
      seen({ kind: "killed" }, { vmm: [{ kind: "stopped", reason: "mmio", at: place }] }),
      "no",
    ],
    ["precise-load", "a loop", looping, "no"],
    ["precise-load", "zeros: nothing failed", running, "unknown"],
    ["precise-store", "a load only", sigbus, "unknown"],
    ["no-silent-data", "zeros", running, "no"],
    ["no-silent-data", "stale bytes", native({ kind: "stale", value: 5n }), "no"],
    ["no-silent-data", "SIGBUS", sigbus, "yes"],
    ["host-unharmed", "a loop burns a core", looping, "no"],
    ["host-unharmed", "an exit", evidenceWith(), "yes"],
    [
      "host-unharmed",
      "a truncation held up",
      native(value, { host: { host: { "truncate#1": { kind: "delayed", ms: 1900 } } } }),
      "no",
    ],
    ["reversible", "zeros after growing again", running, "yes"],
    ["reversible", "still hung", looping, "no"],
    ["kernel-access", "no kernel actor", evidenceWith(), "unknown"],
    ["nmi-safe", "anything", evidenceWith(), "unknown"],
  ] as const)("%s: %s", (property, _what, evidence, finding) => {
    expect(decide(property, evidence)).toBe(finding);
  });

  it("precise-load: the model stops at the access, without an address", () => {
    const stopped = seen({ kind: "killed" }, { vmm: [{ kind: "stopped", reason: "efault", at: null }] });
    expect(decide("precise-load", stopped, { nature: natures.model })).toBe("yes");
    expect(decide("precise-load", stopped)).toBe("no");
  });

  it("kernel-access: an error that the kernel survives", () => {
    const { victim } = scenarioWith({}).actors;
    if (victim?.in !== "guest-task") throw new Error("no such actor");
    const scenario = scenarioWith({ actors: { victim: { ...victim, in: "guest-kernel" } } });
    expect(decide("kernel-access", evidenceWith(), { scenario })).toBe("no");
    const survived = seen({ kind: "efault" }, { vmm: [{ kind: "running" }] });
    expect(decide("kernel-access", survived, { scenario })).toBe("yes");
    const panicked = {
      ...survived,
      observations: { ...survived.observations, guestKernel: "panic" },
    } as const;
    expect(decide("kernel-access", panicked, { scenario })).toBe("no");
  });
});

/** Scenarios that users wrote, and that were decided wrongly. */
describe("a loss is judged by what is lost", () => {
  const written = (backing: object, victim: string[], more: object = {}): Scenario => {
    const text = JSON.stringify({
      id: "own",
      purpose: "x",
      backing: { size: "4MiB", ...backing },
      actors: { victim: { in: "guest-task", steps: victim }, ...more },
      witness: [],
      properties: [],
    });
    const [scenario] = parseScenarios(text, "own.json");
    if (scenario === undefined) throw new Error("no scenario");
    return scenario;
  };
  const saw = (accesses: object): Evidence =>
    evidenceWith({
      observations: { accesses, host: {}, bystanders: {}, vmm: [{ kind: "running" }] },
    } as Changes);
  const sigbus = { kind: "sigbus", code: "BUS_ADRERR" };

  it("a hole of a full tmpfs: the task that met it is told, the other is not", () => {
    const innocent = { innocent: { in: "guest-task", steps: ["load 0x1000 8"] } };
    const scenario = written({ kind: "tmpfs-full" }, ["load 0x300000 8"], innocent);
    const told = saw({ victim: { "load#1": sigbus }, innocent: { "load#1": value } });
    expect(decide("right-victim", told, { scenario })).toBe("yes");
    const both = saw({ victim: { "load#1": sigbus }, innocent: { "load#1": sigbus } });
    expect(decide("right-victim", both, { scenario })).toBe("no");
  });

  it("zeros in place of a page that the server cannot read stand in for data", () => {
    const mount = { faults: ["read at 0x300000 fail EIO"] };
    const scenario = written({ mount }, ["load 0x1000 8", "load 0x300000 8"]);
    const zeros = saw({ victim: { "load#1": value, "load#2": { kind: "zero" } } });
    expect(decide("no-silent-data", zeros, { scenario })).toBe("no");
    const elsewhere = saw({ victim: { "load#1": { kind: "zero" }, "load#2": sigbus } });
    expect(decide("no-silent-data", elsewhere, { scenario })).toBe("yes");
  });

  it("a copy by the kernel that succeeded decides nothing of one that fails", () => {
    const mount = { faults: ["read at 0x200000 delay 100"] };
    const scenario = written({ mount }, ["kernel-read 0x200000 8"]);
    expect(decide("kernel-access", saw({ victim: { "kernel-read#1": value } }), { scenario })).toBe(
      "unknown",
    );
    const zeros = saw({ victim: { "kernel-read#1": { kind: "zero" } } });
    expect(decide("kernel-access", zeros, { scenario })).toBe("no");
  });
});

describe("scoreCell", () => {
  const scored = (evidence: Evidence, changes: Partial<ScoredCase> = {}): ScoredCase => ({
    scenario: scenarioWith({ properties: ["terminates"] }),
    proposal: "p",
    engine: "kvm",
    nature: natures.kvm,
    verdict: "pass",
    evidence,
    ...changes,
  });
  const cell = (...cases: ScoredCase[]) => scoreCell("p", "terminates", cases, []);

  it("says yes, no, or partly if cases differ", () => {
    expect(cell(scored(evidenceWith()))).toMatchObject({ holds: "yes", cases: 1, engines: ["kvm"] });
    expect(cell(scored(looping)).holds).toBe("no");
    expect(cell(scored(looping), scored(evidenceWith()))).toMatchObject({ holds: "partly", cases: 2 });
  });

  it("is decided by failures too: a property can be false as well as unexpected", () => {
    expect(cell(scored(looping, { verdict: "fail" })).holds).toBe("no");
  });

  it("is not decided by what proves nothing, is known to be peculiar, or does not name the property", () => {
    expect(cell(scored(looping, { verdict: "inconclusive" })).holds).toBe("unknown");
    expect(cell(scored(looping, { verdict: "xfail" })).holds).toBe("unknown");
    expect(cell(scored(looping, { scenario: scenarioWith({ properties: [] }) })).holds).toBe("unknown");
    expect(cell(scored(looping, { proposal: "q" })).holds).toBe("unknown");
  });

  it("falls back to a document, with its source, only where nothing decides", () => {
    const documented = [{ proposal: "p", property: "terminates", says: "yes", source: "a book" } as const];
    expect(scoreCell("p", "terminates", [], documented)).toMatchObject({
      holds: "documented",
      says: "yes",
      source: "a book",
      cases: 0,
    });
    expect(scoreCell("p", "terminates", [scored(looping)], documented)).toMatchObject({
      holds: "no",
      source: null,
    });
  });

  it("is exhaustive only if all its cases are", () => {
    const exhaustive = { ...evidenceWith(), exhaustiveness: { kind: "exhaustive", states: 9 } } as const;
    expect(cell(scored(exhaustive)).exhaustive).toBe(true);
    expect(cell(scored(exhaustive), scored(evidenceWith())).exhaustive).toBe(false);
    expect(cell().exhaustive).toBe(false);
  });

  it("has a cell for every property", () => {
    expect(scorecard(["p", "q"], [], [])).toHaveLength(2 * properties.length);
  });
});
