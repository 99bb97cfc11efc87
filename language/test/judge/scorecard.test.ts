import { describe, expect, it } from "vitest";
import type { EndFacts, EngineNature, Evidence } from "../../src/evidence.ts";
import { endingsOf } from "../../src/judge/ending.ts";
import { properties } from "../../src/judge/properties.ts";
import { type ScoreCell, type ScoredCase, scoreCell, scorecard } from "../../src/judge/scorecard.ts";
import { presets } from "../../src/presets.ts";
import type { Proposal } from "../../src/proposal.ts";
import { parseScenarios } from "../../src/scenario/parse.ts";
import type { Scenario } from "../../src/scenario/scenario.ts";
import { proposalOf, scenarioWith } from "../support/cases.ts";
import { type Changes, evidenceWith, natures, place } from "../support/evidence.ts";

type On = {
  readonly scenario?: Scenario;
  readonly nature?: EngineNature;
  readonly proposal?: Partial<Proposal>;
};

/** By the first ending. */
function decide(property: string, evidence: Evidence, on: On = {}): string {
  const { scenario = scenarioWith({}), nature = natures.kvm } = on;
  const proposal = { ...proposalOf("efault-exit"), ...on.proposal };
  const [ending] = endingsOf(evidence, nature);
  if (ending === undefined) throw new Error("no ending");
  return properties.find(({ id }) => id === property)?.decide?.({ scenario, proposal, ending }) ?? "unknown";
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
const sigsegv = native({ kind: "sigsegv", code: "SEGV_ACCERR" }, { bystanders: { counter: "progress" } });
const running = seen({ kind: "zero" }, { vmm: [{ kind: "running" }] });

describe("properties", () => {
  it.each([
    ["terminates", "a loop", looping, "no"],
    ["terminates", "an exit", evidenceWith(), "yes"],
    ["terminates", "a hang without a VM", native({ kind: "hung" }), "no"],
    ["contained", "a VM that stopped", evidenceWith(), "no"],
    ["contained", "a loop: its core is lost", looping, "no"],
    [
      "contained",
      "a loop beside a bystander that gets on",
      seen({ kind: "hung" }, { ...looping.observations, bystanders: { counter: "progress" } }),
      "no",
    ],
    [
      "contained",
      "a loop that was ended",
      seen(
        { kind: "killed" },
        {
          vmm: [{ kind: "looping", faultsPerSecond: 9, at: place }, { kind: "running" }],
          bystanders: { counter: "progress" },
        },
      ),
      "yes",
    ],
    [
      "contained",
      "a guest kernel that panicked",
      native(value, { guestKernel: "panic", bystanders: { counter: "progress" } }),
      "no",
    ],
    ["contained", "a starved bystander", native(value, { bystanders: { counter: "starved" } }), "no"],
    ["contained", "a bystander that got on", native(value, { bystanders: { counter: "progress" } }), "yes"],
    ["precise-load", "SIGBUS", sigbus, "yes"],
    ["precise-load", "SIGSEGV: not what a lost page is promised to raise", sigsegv, "no"],
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
    ["no-silent-data", "SIGSEGV", sigsegv, "yes"],
    ["terminates", "SIGSEGV", sigsegv, "yes"],
    ["contained", "SIGSEGV of one task", sigsegv, "yes"],
    ["host-unharmed", "a loop burns a core", looping, "no"],
    ["host-unharmed", "an exit", evidenceWith(), "yes"],
    [
      "host-unharmed",
      "a truncation held up",
      native(value, { host: { host: { "truncate#1": { kind: "delayed", ms: 1900 } } } }),
      "no",
    ],
    ["reversible", "zeros of the file", running, "yes"],
    ["reversible", "a VM that stopped", evidenceWith(), "no"],
    ["reversible", "the file's bytes", seen(value, { vmm: [{ kind: "running" }] }), "yes"],
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
    const other = seen({ kind: "errno", errno: "EIO" }, { vmm: [{ kind: "running" }] });
    expect(decide("kernel-access", other, { scenario })).toBe("yes");
    expect(decide("kernel-access", sigsegv, { scenario })).toBe("no");
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
    const misled = saw({
      victim: { "load#1": { kind: "sigsegv", code: "SEGV_MAPERR" } },
      innocent: { "load#1": value },
    });
    expect(decide("right-victim", misled, { scenario })).toBe("no");
  });

  it("zeros in place of a page that the server cannot read stand in for data", () => {
    const mount = { faults: ["read at 0x300000 fail EIO"] };
    const scenario = written({ mount }, ["load 0x1000 8", "load 0x300000 8"]);
    const zeros = saw({ victim: { "load#1": value, "load#2": { kind: "zero" } } });
    expect(decide("no-silent-data", zeros, { scenario })).toBe("no");
    const elsewhere = saw({ victim: { "load#1": { kind: "zero" }, "load#2": sigbus } });
    expect(decide("no-silent-data", elsewhere, { scenario })).toBe("yes");
  });

  it("a task that asks for the size and syncs is judged by its accesses to bytes", () => {
    const innocent = { innocent: { in: "guest-task", steps: ["load 0x1000 8"] } };
    const scenario = written(
      { kind: "tmpfs-full" },
      ["file-size", "file-read 0x300000 8", "fsync"],
      innocent,
    );
    const told = (read: object): Evidence =>
      saw({
        victim: {
          "file-size#1": { kind: "stale", value: 0n },
          "file-read#1": read,
          "fsync#1": { kind: "done" },
        },
        innocent: { "load#1": value },
      });
    const short = told({ kind: "short", bytes: 0 });
    expect(decide("right-victim", short, { scenario })).toBe("yes");
    expect(decide("kernel-access", short, { scenario })).toBe("unknown");
    expect(decide("no-silent-data", short, { scenario })).toBe("yes");
    const failed = told({ kind: "errno", errno: "EIO" });
    expect(decide("kernel-access", failed, { scenario })).toBe("yes");
    expect(decide("right-victim", told(value), { scenario })).toBe("no");
    expect(decide("terminates", told({ kind: "hung" }), { scenario })).toBe("no");
  });

  it("a sync that hangs is no end, though it is about no bytes", () => {
    const scenario = written({}, ["load 0x1000 8", "fsync"]);
    const hung = saw({ victim: { "load#1": value, "fsync#1": { kind: "hung" } } });
    expect(decide("terminates", hung, { scenario })).toBe("no");
  });

  it("zeros behind the last end that the host has set are no damage for sure where the guest writes to the file", () => {
    const host = { host: { in: "host-process", steps: ["truncate 0"] } };
    const zeros = (last: string): Evidence => saw({ victim: { [last]: value, "load#1": { kind: "zero" } } });
    const stored = written({}, ["store 0x1000 8 1", "load 0x2000 8"], host);
    expect(decide("no-silent-data", zeros("store#1"), { scenario: stored })).toBe("no");
    const wrote = written({}, ["file-write 0x1000 8 1", "load 0x2000 8"], host);
    expect(decide("no-silent-data", zeros("file-write#1"), { scenario: wrote })).toBe("unknown");
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

/** Scenarios in which the event is what matters. */
describe("only where the event happens", () => {
  const regrown = (cut: string[]): Scenario => {
    const host = { in: "host-process", steps: ["await touched", ...cut, "signal cut"] };
    const steps = ["load 0x1000 8", "signal touched", "await cut", "load 0x1000 8"];
    const [scenario] = parseScenarios(
      JSON.stringify({
        id: "regrown",
        purpose: "x",
        backing: { size: "4MiB" },
        actors: { victim: { in: "guest-task", steps }, host },
        witness: [],
        properties: ["reversible"],
      }),
      "own.json",
    );
    if (scenario === undefined) throw new Error("no scenario");
    return scenario;
  };

  it("reversible: zeros are not the file's where the host has stored other bytes", () => {
    const scenario = regrown(["truncate 0", "truncate 4MiB", "map-store 0x1000 0x5a"]);
    expect(decide("reversible", running, { scenario })).toBe("no");
    expect(decide("reversible", seen(value, { vmm: [{ kind: "running" }] }), { scenario })).toBe("yes");
    const zeros = { scenario: regrown(["truncate 0", "truncate 4MiB"]) };
    expect(decide("reversible", running, { ...zeros, proposal: { vmm: "remap-zero" } })).toBe("unknown");
  });

  it("nmi-safe: undecided where no NMI came, no where the kernel panics of it", () => {
    const scenario = scenarioWith({ nmi: "saved" });
    const told = seen({ kind: "sigbus", code: "BUS_ADRERR" }, { vmm: [{ kind: "running" }] });
    expect(decide("nmi-safe", told, { scenario })).toBe("unknown");
    const came = { ...told, counts: { nmi: 1 } };
    expect(decide("nmi-safe", came, { scenario })).toBe("yes");
    const panicked = { ...came, observations: { ...came.observations, guestKernel: "panic" } } as const;
    expect(decide("nmi-safe", panicked, { scenario })).toBe("no");
  });

  const truncated = regrown(["truncate 0"]);
  const told = seen({ kind: "sigbus", code: "BUS_ADRERR" }, { vmm: [{ kind: "running" }] });
  const recalled: Evidence = {
    ...told,
    trace: [{ kind: "lease-release", actor: "guard", atMs: 1, gpa: null, detail: "acknowledged" }],
  };

  it.each([
    ["nothing stands in the way: the access meets the page", "none", told, "no"],
    ["the same, and the guest's kernel explains it in its own way", "none", sigsegv, "no"],
    ["a lease is recalled first", "kernel-lease", recalled, "yes"],
    ["a lease that saw nothing", "kernel-lease", looping, "no"],
    ["a notification in time once proves nothing", "notify", recalled, "unknown"],
    ["a notification too late", "notify", looping, "no"],
    [
      "the truncation is refused",
      "sealed",
      seen(value, {
        vmm: [{ kind: "running" }],
        host: { host: { "truncate#1": { kind: "denied", errno: "EPERM" } } },
      }),
      "yes",
    ],
  ] as const)("prevented: %s", (_what, server, evidence, finding) => {
    expect(decide("prevented", evidence, { scenario: truncated, proposal: { server } })).toBe(finding);
  });

  it("prevented: undecided where no page is lost", () => {
    expect(decide("prevented", told, { scenario: regrown(["unlink"]) })).toBe("unknown");
  });
});

describe("scoreCell", () => {
  const [proposal] = presets;
  if (proposal === undefined) throw new Error("no preset");
  const p = proposal.id;
  const scored = (evidence: Evidence, changes: Partial<ScoredCase> = {}): ScoredCase => ({
    scenario: scenarioWith({ properties: ["terminates"] }),
    proposal,
    place: "kvm",
    nature: natures.kvm,
    verdict: "pass",
    endings: endingsOf(evidence, changes.nature ?? natures.kvm),
    exhaustiveness: evidence.exhaustiveness,
    ...changes,
  });
  const noFacts: EndFacts = { exitElsewhere: false, metLostPage: true, nmi: false };
  /** A case of the model that can end in these ways. */
  const modelled = (...ends: Evidence[]): ScoredCase =>
    scored(
      {
        ...evidenceWith(),
        exhaustiveness: { kind: "exhaustive", states: 9 },
        ends: ends.map(({ observations }, index) => ({
          observations,
          facts: noFacts,
          token: `way ${index}`,
        })),
      },
      { nature: natures.model, place: "model" },
    );
  const cell = (...cases: ScoredCase[]): ScoreCell => scoreCell(p, "terminates", { cases, documented: [] });
  const exit = evidenceWith();

  it("says yes, no, or partly if cases differ", () => {
    expect(cell(scored(exit))).toMatchObject({
      holds: "yes",
      by: "real",
      real: { holds: "yes", cases: 1, places: ["kvm"] },
      model: null,
    });
    expect(cell(scored(looping)).holds).toBe("no");
    expect(cell(scored(looping), scored(exit))).toMatchObject({ holds: "partly", real: { cases: 2 } });
  });

  it("takes one end of the model without the property for no, and has the way to it", () => {
    expect(cell(modelled(exit, looping))).toMatchObject({ holds: "no", by: "model", real: null });
    expect(cell(modelled(exit, exit))).toMatchObject({ holds: "yes", model: { exhaustive: true } });
  });

  it("says when the model's cases change the word of the real ones", () => {
    const other = {
      ...modelled(looping),
      scenario: scenarioWith({ id: "other", properties: ["terminates"] }),
    };
    expect(cell(scored(exit), other)).toMatchObject({ holds: "partly", by: "both", contradictions: [] });
    expect(cell(scored(exit), modelled(exit))).toMatchObject({ holds: "yes", by: "real" });
  });

  it("has a contradiction where a real run shows what every end of the model excludes", () => {
    expect(cell(scored(looping), modelled(exit)).contradictions).toEqual([
      { scenario: scenarioWith({}).id, place: "kvm", real: "no", model: "yes" },
    ]);
    expect(cell(scored(exit), modelled(looping)).contradictions).toHaveLength(1);
    // One of several ways to end: the model allows it.
    expect(cell(scored(exit), modelled(exit, looping)).contradictions).toEqual([]);
  });

  it("has none where the search was cut off, or the real run proves nothing", () => {
    const exhaustiveness = { kind: "bounded", by: "states", states: 9 } as const;
    const cutOff: ScoredCase = { ...modelled(exit), exhaustiveness };
    expect(cell(scored(looping), cutOff).contradictions).toEqual([]);
    expect(cell(cutOff)).toMatchObject({ holds: "unknown", by: null });
    expect(cell(scored(looping, { verdict: "xfail" }), modelled(exit)).contradictions).toEqual([]);
  });

  it("is decided by failures too: a property can be false as well as unexpected", () => {
    expect(cell(scored(looping, { verdict: "fail" })).holds).toBe("no");
  });

  it("is not decided by what proves nothing, is known to be peculiar, or does not name the property", () => {
    expect(cell(scored(looping, { verdict: "inconclusive" })).holds).toBe("unknown");
    expect(cell(scored(looping, { verdict: "xfail" })).holds).toBe("unknown");
    expect(cell(scored(looping, { scenario: scenarioWith({ properties: [] }) })).holds).toBe("unknown");
    expect(cell(scored(looping, { proposal: { ...proposal, id: "q" } })).holds).toBe("unknown");
  });

  it("falls back to a document, with its source, only where nothing decides", () => {
    const documented = [{ proposal: p, property: "terminates", says: "yes", source: "a book" } as const];
    expect(scoreCell(p, "terminates", { cases: [], documented })).toMatchObject({
      holds: "yes",
      by: "document",
      source: "a book",
      real: null,
      model: null,
    });
    expect(scoreCell(p, "terminates", { cases: [scored(looping)], documented })).toMatchObject({
      holds: "no",
      by: "real",
      source: null,
    });
  });

  it("host-unharmed: has the longest call of a process of the host", () => {
    const scenario = scenarioWith({ properties: ["host-unharmed"] });
    const trace = [3.5, 0.25].map(
      (tookMs) => ({ kind: "truncate", actor: "host", atMs: 9, gpa: null, detail: "to 0", tookMs }) as const,
    );
    const cases = [scored({ ...exit, trace }, { scenario })];
    expect(scoreCell(p, "host-unharmed", { cases, documented: [] })).toMatchObject({
      holds: "yes",
      figure: "3.5 ms",
    });
  });

  it("prevented: a race that was lost once is no, and contradicts a model that never loses", () => {
    const lost = { proposal: p, rounds: 10_000, lost: 7 };
    const raced = scoreCell(p, "prevented", { cases: [], documented: [], races: [lost] });
    expect(raced).toMatchObject({
      holds: "no",
      by: "real",
      figure: "7 of 10000 rounds lost",
      contradictions: [],
    });
    const won = scoreCell(p, "prevented", { cases: [], documented: [], races: [{ ...lost, lost: 0 }] });
    expect(won).toMatchObject({ holds: "yes", by: "real" });
    const never = modelled(exit);
    const endings = never.endings.map((ending) => ({ ...ending, metLostPage: false }));
    const cases = [{ ...never, scenario: scenarioWith({ properties: ["prevented"] }), endings }];
    const both = scoreCell(p, "prevented", { cases, documented: [], races: [lost] });
    expect(both).toMatchObject({
      holds: "partly",
      contradictions: [{ scenario: "race", real: "no", model: "yes" }],
    });
  });

  it("has a cell for every property", () => {
    expect(scorecard(["p", "q"], { cases: [], documented: [] })).toHaveLength(2 * properties.length);
  });
});
