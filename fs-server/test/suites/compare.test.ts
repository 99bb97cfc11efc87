/** What counts as a difference between a mount and the folder underneath, and which known ones are allowed. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { compare, type Erratum, unmatched } from "../../src/suites/compare.ts";
import { suites } from "../../src/suites/suites.ts";

const about = { suite: "rsync", transport: "libfuse" };
const known: Erratum = {
  id: "times",
  transport: "libfuse",
  suite: "rsync",
  complaint: "there: .*times",
  reason: "a reason",
  link: "https://example.invalid/",
};

describe("a complaint about a mount", () => {
  it("is a difference only if the folder underneath does not bring it, too", () => {
    const { differences } = compare(about, ["both"], ["both", "mount alone"], []);
    expect(differences).toEqual(["mount alone"]);
  });

  it("is known by an entry for its suite and transport that matches all of it", () => {
    const seen = ["there: other times", "there: times and more"];
    expect(compare(about, [], seen, [known])).toMatchObject({
      known: [{ complaint: "there: other times", erratum: "times" }],
      differences: ["there: times and more"],
    });
    const elsewhere = compare({ ...about, transport: "devfuse" }, [], ["there: times"], [known]);
    expect(elsewhere.differences).toEqual(["there: times"]);
  });
});

describe("an entry", () => {
  it("must go when what ran does not show it any more, and stays when that did not run", () => {
    expect(unmatched([compare(about, [], [], [known])], [known])).toEqual(["times"]);
    expect(unmatched([compare(about, [], ["there: times"], [known])], [known])).toEqual([]);
    expect(unmatched([compare({ ...about, suite: "git" }, [], [], [known])], [known])).toEqual([]);
  });

  it("of the fixture is about a suite that there is, with a reason and a link", () => {
    const { errata } = JSON.parse(readFileSync("fixtures/fs-errata.json", "utf8")) as {
      errata: readonly Erratum[];
    };
    const names = suites("pjdfstest, wherever it is").map(({ name }) => name);
    for (const { id, suite, complaint, reason, link } of errata) {
      expect(names, id).toContain(suite);
      expect(() => new RegExp(complaint)).not.toThrow();
      expect(reason.length).toBeGreaterThan(20);
      expect(link).toMatch(/^https:/);
    }
  });
});
