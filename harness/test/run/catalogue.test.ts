import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { loadCatalogue, noSources } from "../../src/run/catalogue.ts";
import { caseFolder } from "../support/folders.ts";

function scenario(id: string): string {
  return JSON.stringify({
    id,
    purpose: "x",
    backing: { size: "1MiB" },
    actors: { victim: { in: "guest-task", steps: ["load 0 8"] } },
    witness: [],
    properties: [],
  });
}

/** A folder with two scenarios, and this row in its kinds. */
function folderWith(row: Readonly<Record<string, unknown>>): string {
  const folder = caseFolder();
  mkdirSync(join(folder, "kinds"));
  writeFileSync(join(folder, "mine.json"), scenario("mine"));
  writeFileSync(join(folder, "other.json"), scenario("other"));
  writeFileSync(join(folder, "kinds", "a.json"), JSON.stringify({ about: "x", rows: row }));
  return folder;
}

describe("the names in a user's rows", () => {
  it.each([
    ["a scenario of the folder", { other: { "*": "victim.last value" } }],
    ["patterns", { "min*": { "*-user-apic": "victim.last value" } }],
  ])("may be %s, whether the folder or one file of it is given", (_what, row) => {
    const folder = folderWith(row);
    for (const sources of [{ scenarios: [folder] }, { files: [join(folder, "mine.json")] }]) {
      expect(() => loadCatalogue({ ...noSources, ...sources })).not.toThrow();
    }
  });

  it.each([
    [
      "scenario",
      { mnie: { "*": "victim.last hung" } },
      /a\.json:1: there is no scenario "mnie"; nearest: mine/,
    ],
    [
      "proposal",
      { mine: { "apf-lop": "victim.last hung" } },
      /there is no proposal "apf-lop"; nearest: apf-loop/,
    ],
    ["pattern", { mine: { "*-usr-apic": "victim.last hung" } }, /there is no proposal "\*-usr-apic"/],
  ])("are refused where there is no such %s", (_what, row, message) => {
    const folder = folderWith(row);
    for (const sources of [{ scenarios: [folder] }, { files: [join(folder, "mine.json")] }]) {
      expect(() => loadCatalogue({ ...noSources, ...sources })).toThrow(message);
    }
  });
});
