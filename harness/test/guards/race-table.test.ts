import { describe, expect, it } from "vitest";
import { linuxRaceTable, recordedLinuxRaces } from "../../src/guards/race-table.ts";
import { isBreach } from "../../src/guards/race-ways.ts";

describe("recorded races with Linux guests", () => {
  const races = recordedLinuxRaces();

  it("are some, with losses where nothing guards and none that a guard is to prevent", () => {
    const none = races.filter(({ guard }) => guard === "none");
    expect(none.some(({ lost }) => lost > 0)).toBe(true);
    for (const race of races) {
      const wrong = race.late + race.lost + race.staleLoads + race.dirtyAfterRegrow;
      const isGuarded = race.guard !== "none" && race.guard !== "notify";
      if (isGuarded) expect([race.guard, wrong, race.stuck]).toEqual([race.guard, 0, false]);
      expect(isBreach({ ...race, windowUs: [], hostUs: [], faults: [] })).toBe(false);
    }
  });

  it("have a row each in the table, of which every line is as wide as the next", () => {
    const lines = linuxRaceTable(races).split("\n");
    expect(lines.length).toBe(2 + races.length);
    expect(new Set(lines.map((line) => line.length)).size).toBe(1);
    expect(lines[2]).toMatch(/^\| (none|`[a-z-]+`) +\|/);
  });
});
