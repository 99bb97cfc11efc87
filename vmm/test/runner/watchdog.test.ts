import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { defaultWatchdogOptions, type Sample, Watchdog } from "../../src/runner/watchdog.ts";

const tick = (n: number, faults: number, pending: [number, number][]): Sample => ({
  atMs: n * 50,
  pageFaults: BigInt(faults),
  pending: new Map(pending),
});

function lastVerdict(samples: Sample[]) {
  const watchdog = new Watchdog();
  return samples.map((sample) => watchdog.sample(sample)).at(-1) ?? null;
}

describe("Watchdog", () => {
  it("proves a loop when one access stays pending through five steep samples", () => {
    const samples = [0, 1, 2, 3, 4].map((n) => tick(n, n * 1000, [[0, 3]]));
    expect(lastVerdict(samples)).toEqual({ task: 0, step: 3, faultsPerSecond: 20_000, overMs: 200 });
    expect(lastVerdict(samples.slice(0, 4))).toBeNull();
  });

  it("does not mistake a slow access for a loop: no faults, no proof, however long", () => {
    expect(lastVerdict(Array.from({ length: 1000 }, (_, n) => tick(n, 7, [[0, 3]])))).toBeNull();
  });

  it("does not mistake a busy guest for a loop: many faults at changing steps", () => {
    expect(lastVerdict(Array.from({ length: 100 }, (_, n) => tick(n, n * 1000, [[0, n]])))).toBeNull();
  });

  it("wants every interval steep, not the average", () => {
    const faults = [0, 4000, 8000, 8001, 16_000];
    expect(lastVerdict(faults.map((f, n) => tick(n, f, [[0, 3]])))).toBeNull();
  });

  it("starts again after a reset", () => {
    const watchdog = new Watchdog();
    for (let n = 0; n < 4; n++) watchdog.sample(tick(n, n * 1000, [[0, 3]]));
    watchdog.reset();
    expect(watchdog.sample(tick(4, 4000, [[0, 3]]))).toBeNull();
  });

  it("never proves a loop below the slope that it names", () => {
    const perTick = (defaultWatchdogOptions.minFaultsPerSecond * 50) / 1000;
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: perTick - 1 }), { minLength: 5, maxLength: 50 }),
        (deltas) => {
          const watchdog = new Watchdog();
          let faults = 0;
          return deltas.every((delta, n) => {
            faults += delta;
            return watchdog.sample(tick(n, faults, [[0, 0]])) === null;
          });
        },
      ),
    );
  });
});
