import { describe, expect, it } from "vitest";
import type { Evidence } from "../../../language/src/index.ts";
import { proposalOf, scenarioWith } from "../../../language/test/support/cases.ts";
import { type Changes, evidenceResult, evidenceWith } from "../../../language/test/support/evidence.ts";
import { breachesOf, checkedEngine } from "../../src/engines/checked.ts";
import { scriptedEngine } from "../support/engine.ts";

const context = { directory: "/nowhere", timeoutMs: 1000, signal: new AbortController().signal, slowness: 1 };
const breaches = (changes: Changes) => breachesOf(scenarioWith({}), evidenceWith(changes));
const loaded = { kind: "value", value: 1n } as const;

describe("breachesOf", () => {
  it("finds nothing in complete evidence", () => {
    expect(breaches({})).toEqual([]);
  });

  it.each([
    [
      "a missing access",
      { observations: { accesses: { victim: { "load#1": loaded } } } },
      "accesses.victim has no load#2",
    ],
    ["a missing actor", { observations: { accesses: {} } }, "accesses has no victim"],
    [
      "an access of no step",
      { observations: { accesses: { victim: { "load#1": loaded, "load#2": loaded, "load#3": loaded } } } },
      "has load#3, which the scenario has not",
    ],
    ["a missing host step", { observations: { host: { host: {} } } }, "host.host has no truncate#1"],
    ["an unknown bystander", { observations: { bystanders: { x: "progress" } } }, "bystanders has x"],
    ["an empty history", { observations: { vmm: [] } }, "the VMM's history is empty"],
    ["a VMM without a guest", { observations: { guestKernel: null } }, "a VMM without a guest kernel"],
    ["a negative duration", { durationMs: -1 }, "durationMs is -1"],
    ["a duration that is none", { durationMs: Number.NaN }, "durationMs is NaN"],
    ["a negative count", { counts: { fault: -1 } }, "counts.fault is -1"],
    [
      "no runs at all",
      { exhaustiveness: { kind: "sampled", runs: 0, seed: null } },
      "exhaustiveness counts 0",
    ],
    [
      "an event out of time",
      { trace: [{ kind: "fault", actor: "kvm", atMs: -1, gpa: null, detail: "" }] },
      "trace[0].atMs is -1",
    ],
  ] as const)("reports %s", (_what, changes, message) => {
    expect(breaches(changes as Changes).join("\n")).toContain(message);
  });

  it("lists all breaches at once", () => {
    expect(breaches({ durationMs: -1, observations: { vmm: [], host: {} } })).toHaveLength(3);
  });
});

describe("checkedEngine", () => {
  const run = (engine: Parameters<typeof checkedEngine>[0]) =>
    checkedEngine(engine).run(scenarioWith({}), proposalOf("efault-exit"), context);

  it("passes good evidence and other results on", async () => {
    expect(await run(scriptedEngine(async () => evidenceResult()))).toMatchObject({ kind: "evidence" });
    const timeout = { kind: "timeout", message: "m" } as const;
    expect(await run(scriptedEngine(async () => timeout))).toEqual(timeout);
  });

  it("turns a breach into an engine error", async () => {
    const evidence: Evidence = evidenceWith({ durationMs: -1 });
    expect(await run(scriptedEngine(async () => ({ kind: "evidence", evidence })))).toEqual({
      kind: "engine-error",
      message: "kvm breaks its contract: durationMs is -1",
    });
  });

  it("turns an exception into an engine error", async () => {
    const engine = scriptedEngine(() => Promise.reject(new Error("broken")));
    expect(await run(engine)).toEqual({ kind: "engine-error", message: "kvm threw: broken" });
  });
});
