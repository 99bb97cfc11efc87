import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { proposalOf } from "../../../language/test/support/cases.ts";
import { natures } from "../../../language/test/support/evidence.ts";
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

// As seen: `daxfault run '*' --engine linux --vmm qemu --proposal native`, guest 6.12.
describe("what a guest in QEMU's TCG shows under native", () => {
  const catalogue = loadCatalogue();
  const outcomeOf = (id: string) => {
    const found = catalogue.scenarios.find(({ scenario }) => scenario.id === id);
    if (found === undefined) throw new Error(`there is no scenario ${id}`);
    const asked = {
      scenario: found.scenario,
      proposal: proposalOf("native"),
      nature: natures["linux-qemu-tcg"],
    };
    return catalogue.expectationOf(asked)?.outcome;
  };

  it.each([
    [
      "two-vcpus-spin",
      "killed(SIGBUS)",
      { "first.last": "killed|not-reached", "second.last": "killed|not-reached" },
    ],
    ["file-size-after-truncate", "running", { "victim.last": "stale" }],
    ["file-read-across-end-after-truncate", "running", { "victim.last": "value" }],
    ["exec-after-truncate", "killed(SIGBUS)", { "victim.last": "killed" }],
    ["file-read-fails", "killed(SIGBUS)", { "victim.last": "killed" }],
    ["load-after-server-killed", "running", { "victim.last": "sigbus(BUS_ADRERR)" }],
  ])(
    "is an exit's outcome, with the VMM killed, not that of a process of the host: %s",
    (id, vmm, accesses) => {
      expect(outcomeOf(id)).toMatchObject({ vmm: [vmm], accesses });
    },
  );
});

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
