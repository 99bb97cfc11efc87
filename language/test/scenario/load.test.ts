import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { canonicalJson, scenarioHash } from "../../src/scenario/hash.ts";
import { accessesOf, actionsOf, guestActors, hostActors } from "../../src/scenario/labels.ts";
import { loadScenarioFile, loadScenarioFolder } from "../../src/scenario/load.ts";
import { fileOffsetAt } from "../../src/scenario/window.ts";
import { scenarioWith } from "../support/cases.ts";
import { loadScenarios } from "../support/fixtures.ts";

const folder = mkdtempSync(join(tmpdir(), "daxfault-test-"));
afterAll(() => rmSync(folder, { recursive: true }));

describe("the scenarios of the project", () => {
  const scenarios = loadScenarios();

  it("all parse, with ids and hashes of their own", () => {
    expect(scenarios.length).toBeGreaterThan(40);
    expect(new Set(scenarios.map(({ id }) => id)).size).toBe(scenarios.length);
    expect(new Set(scenarios.map(({ hash }) => hash)).size).toBe(scenarios.length);
    for (const { hash } of scenarios) expect(hash).toMatch(/^[0-9a-f]{12}$/);
  });

  it("have a witness each: a run that shows nothing must not pass", () => {
    for (const { id, witness } of scenarios) expect(witness.length, id).toBeGreaterThan(0);
  });

  it("say what they are about in a sentence", () => {
    for (const { id, purpose } of scenarios) expect(purpose, id).toMatch(/^[A-Z].*[.?]$/s);
  });
});

describe("loadScenarioFolder", () => {
  it("refuses an id that two files have", () => {
    const text = JSON.stringify({
      id: "twice",
      purpose: "x",
      backing: { size: 4096 },
      actors: { victim: { in: "guest-task", steps: ["load 0 8"] } },
      witness: [],
      properties: [],
    });
    writeFileSync(join(folder, "a.json"), text);
    writeFileSync(join(folder, "b.json"), text);
    expect(() => loadScenarioFolder(folder)).toThrow('b.json: id: "twice" is also in a.json');
    expect(loadScenarioFile(join(folder, "a.json"))).toHaveLength(1);
  });
});

describe("scenarioHash", () => {
  it("depends on what is done, not on what is said about it, nor on the order of members", () => {
    const one = scenarioWith({});
    const said = { purpose: "another", witness: [], properties: ["nested"], proposals: ["native"] };
    expect(scenarioHash({ ...one, ...said })).toBe(scenarioHash(one));
    expect(scenarioHash(scenarioWith({ layout: "nvdimm" }))).not.toBe(scenarioHash(one));
    expect(canonicalJson({ b: 1n, a: [null, "x"] })).toBe('{"a":[null,"x"],"b":"0x1"}');
  });

  it("depends on the order of the actors, in which the guest starts them", () => {
    const { victim, host } = scenarioWith({}).actors;
    if (victim === undefined || host === undefined) throw new Error("no such actors");
    const swapped = scenarioWith({ actors: { host, victim } });
    expect(scenarioHash(swapped)).not.toBe(scenarioHash(scenarioWith({})));
  });
});

describe("labels", () => {
  it("count the steps of each verb from 1", () => {
    const scenario = scenarioWith({});
    const [victim] = guestActors(scenario);
    const [host] = hostActors(scenario);
    expect(victim && accessesOf(victim[1]).map(({ label, index }) => [label, index])).toEqual([
      ["load#1", 0],
      ["load#2", 3],
    ]);
    expect(host && actionsOf(host[1]).map(({ label }) => label)).toEqual(["truncate#1"]);
  });
});

describe("fileOffsetAt", () => {
  it("follows the window's mappings", () => {
    const scenario = scenarioWith({
      window: [
        { fileOffset: 0x100000n, at: 0n, length: 0x1000n },
        { fileOffset: 0n, at: 0x1000n, length: 0x1000n },
      ],
    });
    expect(fileOffsetAt(scenario, 0x10n)).toBe(0x100010n);
    expect(fileOffsetAt(scenario, 0x1010n)).toBe(0x10n);
    expect(() => fileOffsetAt(scenario, 0x2000n)).toThrow("0x2000 is not mapped");
  });
});
