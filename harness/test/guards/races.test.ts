import { describe, expect, it } from "vitest";
import { histogram } from "../../src/guards/histogram.ts";
import { quantiles, type RaceResult } from "../../src/guards/race.ts";
import { microWays } from "../../src/guards/race-ways.ts";
import { quantilesText, raceText, runRace } from "../../src/guards/races.ts";
import { supportOf, thisMachine } from "../../src/machine.ts";
import { openRunDirectory } from "../../src/run/directory.ts";

describe("the figures of a race", () => {
  it("are quantiles and a histogram that loses nothing", () => {
    const values = Array.from({ length: 100 }, (_, index) => index + 1);
    expect(quantiles(values)).toEqual({ p50: 50, p99: 99, max: 100 });
    expect(quantiles([])).toBeNull();
    expect(quantilesText(null)).toBe("none");
    const wild = [-5, 50, 51, 1e6];
    expect(histogram(wild).reduce((sum, { count }) => sum + count, 0)).toBe(wild.length);
    expect(histogram(wild)[0]).toEqual({ upToUs: 50, count: 2 });
    expect(histogram(wild).at(-1)).toEqual({ upToUs: null, count: 1 });
  });
});

const support = supportOf(thisMachine(), ["kvm", "micro-guest", "root"]);
const note = support.kind === "no" ? ` (skipped: ${support.reason})` : "";
const ROUNDS = 15;

async function raced(guard: RaceResult["guard"], guest: RaceResult["guest"]): Promise<RaceResult> {
  const directory = openRunDirectory();
  try {
    return await runRace(
      { guard, guest, rounds: ROUNDS, ways: microWays(guard) },
      directory,
      new AbortController().signal,
    );
  } finally {
    expect(await directory.close()).toEqual([]);
  }
}

describe.skipIf(support.kind === "no")(
  `a guest that never stops touching, against a truncater${note}`,
  () => {
    for (const guard of ["kernel-lease", "pre-content"] as const) {
      it(`loses nothing under ${guard}, on two vCPUs`, async () => {
        const race = await raced(guard, "two-vcpus");
        // What the file system or the kernel does not offer is said, and nothing is claimed of it.
        if (race.refusal !== null) return expect(race.refusal).toMatch(/pre-content|lease/);
        expect(race).toMatchObject({ done: ROUNDS, stuck: false, lost: 0, staleLoads: 0 });
        expect([race.changedAfterAcknowledgement, race.dirtyAfterRegrow]).toEqual([0, 0]);
        expect(race.loads * race.stores).toBeGreaterThan(0);
        expect(raceText(race)).toContain(`${ROUNDS} of ${ROUNDS} rounds`);
      });
    }

    it("cannot be lost with a sealed copy: every truncation is refused", async () => {
      const race = await raced("sealed", "two-vcpus");
      expect(race).toMatchObject({ done: ROUNDS, denied: ROUNDS, lost: 0, staleLoads: 0, stuck: false });
      expect(race.loads * race.stores).toBeGreaterThan(0);
    });

    it("is lost now and then where nobody tells anybody", async () => {
      const race = await raced("none", "one-vcpu");
      expect(race.done).toBe(ROUNDS);
      expect(race.lost).toBeGreaterThan(0);
    });
  },
);
