/**
 * Races with a Linux guest inside a kernel's VM: a guard holds every round, and without one the same rounds are lost. Minutes
 * under emulation: only with `npm run test:long`.
 */
import { describe, expect, it } from "vitest";
import { runKernelRaces } from "../../src/guards/kernel-races.ts";
import type { RaceResult } from "../../src/guards/race.ts";
import { isBreach, waysOf } from "../../src/guards/race-ways.ts";
import { parseKernelSpec, usualGuest } from "../../src/kernel/spec.ts";
import { openRunDirectory } from "../../src/run/directory.ts";
import { noVm, VM_KERNEL } from "../support/vm.ts";

const ROUNDS = 14;
const BOUND_MS = 900_000;

async function raced(guards: readonly RaceResult["guard"][]): Promise<readonly RaceResult[]> {
  const spec = parseKernelSpec(VM_KERNEL);
  if (spec.kind === "problem") throw new Error(spec.message);
  const directory = openRunDirectory();
  const results: RaceResult[] = [];
  try {
    await runKernelRaces({
      spec,
      guest: usualGuest,
      races: guards.map((guard) => ({ guard, guest: "linux", rounds: ROUNDS, ways: waysOf(guard) })),
      directory,
      signal: new AbortController().signal,
      onMessage: (message) => {
        if (message.type === "no-result") throw new Error(message.message);
        results.push(message.result);
      },
    });
    return results;
  } finally {
    expect(await directory.close()).toEqual([]);
  }
}

describe.skipIf(noVm !== null)(`a race with a Linux guest (${noVm ?? VM_KERNEL})`, () => {
  it(
    "is lost without a guard, and held by a kernel lease in every way that it sees",
    async () => {
      const [none, lease] = await raced(["none", "kernel-lease"]);
      expect(none).toMatchObject({ done: ROUNDS, late: ROUNDS, staleLoads: 0, stuck: false });
      expect(none?.lost).toBeGreaterThan(0);
      expect(lease).toMatchObject({ refusal: null, done: ROUNDS, late: 0, lost: 0, stuck: false });
      expect(lease && isBreach(lease)).toBe(false);
      expect(lease?.ways.map(({ way }) => way)).toEqual(waysOf("kernel-lease"));
      // One boot serves both.
      expect(lease?.linux).toMatchObject({ boots: 0, oopses: 0 });
    },
    BOUND_MS,
  );
});
