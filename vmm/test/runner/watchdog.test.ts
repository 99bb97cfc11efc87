import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { defaultWatchdogOptions, type Sample, Watchdog } from "../../src/runner/watchdog.ts";

/** `pending`: task and step; `began` tells one access of the step from the next. */
const tick = (n: number, faults: number, pending: [number, number][], began = 1): Sample => ({
  atMs: n * 50,
  pageFaults: BigInt(faults),
  notPresentEvents: 0,
  ticks: 0,
  begun: 0,
  pending: new Map(pending.map(([task, step]) => [task, { step, began: BigInt(began) }])),
});

function lastVerdict(samples: Sample[]) {
  const watchdog = new Watchdog();
  return samples.map((sample) => watchdog.sample(sample)).at(-1) ?? null;
}

describe("Watchdog", () => {
  it("proves a loop when one access stays pending through five steep samples", () => {
    const samples = [0, 1, 2, 3, 4].map((n) => tick(n, n * 1000, [[0, 3]]));
    expect(lastVerdict(samples)).toEqual({
      task: 0,
      step: 3,
      proof: "faults",
      faultsPerSecond: 20_000,
      overMs: 200,
    });
    expect(lastVerdict(samples.slice(0, 4))).toBeNull();
  });

  it("does not mistake a slow access for a loop: no faults, no proof, however long", () => {
    expect(lastVerdict(Array.from({ length: 1000 }, (_, n) => tick(n, 7, [[0, 3]])))).toBeNull();
  });

  it("does not mistake a busy guest for a loop: many faults at changing steps", () => {
    expect(lastVerdict(Array.from({ length: 100 }, (_, n) => tick(n, n * 1000, [[0, n]])))).toBeNull();
  });

  it("does not mistake one step's many accesses for one that loops", () => {
    expect(lastVerdict(Array.from({ length: 100 }, (_, n) => tick(n, n * 1000, [[0, 3]], n)))).toBeNull();
  });

  it("wants the faults to come throughout, not one burst", () => {
    const faults = [0, 4000, 8000, 8000, 16_000];
    expect(lastVerdict(faults.map((f, n) => tick(n, f, [[0, 3]])))).toBeNull();
  });

  it("starts again after a reset", () => {
    const watchdog = new Watchdog();
    for (let n = 0; n < 4; n++) watchdog.sample(tick(n, n * 1000, [[0, 3]]));
    watchdog.reset();
    expect(watchdog.sample(tick(4, 4000, [[0, 3]]))).toBeNull();
  });

  it("proves a loop of a starved machine, too: two hundred faults a second of which the guest is told each time", () => {
    const samples = [0, 1, 2, 3, 4].map((n) => ({ ...tick(n, n * 10, [[0, 3]]), notPresentEvents: n * 10 }));
    expect(lastVerdict(samples)).toMatchObject({ proof: "faults", faultsPerSecond: 200 });
  });

  it("does not mistake a page that needs I/O for a loop: a fault at each tick of the guest's timer", () => {
    const watchdog = new Watchdog();
    const verdicts = Array.from({ length: 100 }, (_, n) =>
      watchdog.sample({ ...tick(n, Math.floor(12.5 * n), [[0, 3]]), notPresentEvents: 1 }),
    );
    expect(verdicts.filter((verdict) => verdict !== null)).toEqual([]);
    const steeper = Array.from({ length: 100 }, (_, n) => tick(n, 50 * n, [[0, 3]]));
    expect(lastVerdict(steeper)).toMatchObject({ faultsPerSecond: 1000 });
  });

  it("does not mistake a crowd for a loop, each of which waits for a page of its own, told or not", () => {
    const crowd = Array.from({ length: 100 }, (_, task): [number, number] => [task, 1]);
    // Fifteen new waiters a sample, three faults each, one not-present event each.
    const arriving = [25, 40, 55, 70, 85, 100].map((count, n) => ({
      ...tick(n, 3 * count, crowd.slice(0, count)),
      begun: count,
    }));
    expect(lastVerdict(arriving)).toBeNull();
    expect(lastVerdict(arriving.map((sample) => ({ ...sample, notPresentEvents: sample.begun })))).toBeNull();
    const looping = arriving.map((sample, n) => ({ ...sample, pageFaults: BigInt(3 * 100 + 1000 * n) }));
    expect(lastVerdict(looping)).toMatchObject({ task: 0, step: 1 });
  });

  it("does not mistake it for one where each of them is told of twice, as a page is that is locked for a moment", () => {
    const crowd = Array.from({ length: 100 }, (_, task): [number, number] => [task, 1]);
    const told = [0, 50, 100, 150, 200, 200].map((count, n) => ({
      ...tick(n, 2 * count + n, crowd),
      begun: 100,
      notPresentEvents: count,
    }));
    expect(lastVerdict(told)).toBeNull();
  });

  it("knows a loop no faster than the guest's timer by the time that no I/O takes", () => {
    const watchdog = new Watchdog({ ...defaultWatchdogOptions, ioPatienceMs: 2000 });
    const verdicts = Array.from({ length: 42 }, (_, n) => watchdog.sample(tick(n, 5 * n, [[0, 3]])));
    expect(verdicts.findIndex((verdict) => verdict !== null)).toBe(41);
    expect(verdicts.at(-1)).toMatchObject({ faultsPerSecond: 100, overMs: 2050 });
    const asleep = new Watchdog({ ...defaultWatchdogOptions, ioPatienceMs: 2000 });
    const quiet = Array.from({ length: 200 }, (_, n) =>
      asleep.sample(tick(n, Math.min(5 * n, 100), [[0, 3]])),
    );
    expect(quiet.every((verdict) => verdict === null)).toBe(true);
  });

  it("takes as long as it must where a machine is so starved that a turn takes 20 ms", () => {
    const samples = Array.from({ length: 17 }, (_, n) => ({
      ...tick(n, 2 * n, [[0, 3]]),
      notPresentEvents: 2 * n,
    }));
    expect(lastVerdict(samples.slice(0, 16))).toBeNull();
    expect(lastVerdict(samples)).toMatchObject({ task: 0, step: 3, faultsPerSecond: 40, overMs: 800 });
  });

  it("does not count what happened before the access began", () => {
    const before = Array.from({ length: 10 }, (_, n) => tick(n, 1000 * n, []));
    const after = Array.from({ length: 10 }, (_, n) => tick(10 + n, 10_000 + n, [[0, 3]]));
    expect(lastVerdict([...before, ...after])).toBeNull();
  });

  it("never proves a loop from as few faults as one access may need", () => {
    const { minFaults } = defaultWatchdogOptions;
    fc.assert(
      fc.property(fc.array(fc.nat(minFaults), { minLength: 5, maxLength: 50 }), (times) => {
        const watchdog = new Watchdog();
        return times
          .toSorted((a, b) => a - b)
          .every((faults, n) => watchdog.sample(tick(n, Math.min(faults, minFaults - 1), [[0, 0]])) === null);
      }),
    );
  });
});

describe("an access that waits for ever", () => {
  const patient = { ...defaultWatchdogOptions, ioPatienceMs: 2000 };

  function played(samples: readonly Sample[]) {
    const watchdog = new Watchdog(patient);
    const loops = samples.map((sample) => watchdog.sample(sample));
    return { loop: loops.find((one) => one !== null) ?? null, wait: watchdog.waits() };
  }
  const many = (sampleOf: (n: number) => Sample): readonly Sample[] =>
    Array.from({ length: 100 }, (_, n) => sampleOf(n));

  it("takes no fault, or one at each tick of the guest's timer, for longer than any I/O", () => {
    const still = played(many((n) => tick(n, 2, [[0, 3]])));
    expect(still).toEqual({ loop: null, wait: { task: 0, step: 3, overMs: 4950 } });
    const ticking = played(many((n) => ({ ...tick(n, 12 * n, [[0, 3]]), ticks: 12 * n })));
    expect(ticking).toEqual({ loop: null, wait: { task: 0, step: 3, overMs: 4950 } });
  });

  it("is a slow loop where there are more faults than ticks, and nothing before the patience is over", () => {
    const slow = played(many((n) => ({ ...tick(n, 14 * n, [[0, 3]]), ticks: 12 * n })));
    expect(slow.loop).toMatchObject({ task: 0, step: 3, proof: "faults" });
    expect(slow.wait).toBeNull();
    expect(played(many((n) => tick(n, 2, [[0, 3]])).slice(0, 40)).wait).toBeNull();
  });

  it("is a slow loop where every I/O is answered: then a fault that comes again is no tick's alone", () => {
    const watchdog = new Watchdog({ ...patient, isIoAnswered: true });
    const samples = many((n) => ({ ...tick(n, 4 * n, [[0, 3]]), ticks: 12 * n }));
    const loops = samples.map((sample) => watchdog.sample(sample));
    expect(loops.find((one) => one !== null)).toMatchObject({ task: 0, step: 3, proof: "time" });
    expect(watchdog.waits()).toBeNull();
  });

  it("is a slow loop by the time alone where a guest's ticks are not known, and none where an I/O may stay unanswered", () => {
    const samples = many((n) => ({ ...tick(n, 4 * n, [[0, 3]]), ticks: null }));
    const answered = new Watchdog({ ...patient, isIoAnswered: true });
    const loops = samples.map((sample) => answered.sample(sample));
    expect(loops.find((one) => one !== null)).toMatchObject({ task: 0, step: 3, proof: "time" });
    expect(played(samples)).toEqual({ loop: null, wait: null });
    const fast = played(many((n) => ({ ...tick(n, 50 * n, [[0, 3]]), ticks: null })));
    expect(fast.loop).toMatchObject({ proof: "faults", faultsPerSecond: 1000 });
  });

  it("is none that gets events of its page again and again, or that has come back", () => {
    const notified = played(
      many((n) => ({ ...tick(n, 12 * n, [[0, 3]]), ticks: 12 * n, notPresentEvents: n })),
    );
    expect(notified.wait).toBeNull();
    expect(played([...many((n) => tick(n, 2, [[0, 3]])), tick(100, 2, [])]).wait).toBeNull();
  });

  it("is not looked for where no I/O is too long", () => {
    const watchdog = new Watchdog();
    for (const sample of many((n) => tick(n, 2, [[0, 3]]))) watchdog.sample(sample);
    expect(watchdog.waits()).toBeNull();
  });
});
