/** Looking before sleeping: when it pays, and that it stops where it does not. */
import { describe, expect, it } from "vitest";
import { errnoNumber } from "../../../../sys/src/index.ts";
import { Arrivals } from "../../../src/transport/devfuse/arrivals.ts";

const SLEEP = 3;
const LOOK = 4;
const AGAIN = -errnoNumber("EAGAIN");
const LENGTH = 40;

/** A device whose looks find something at the `foundAt`th try (null: never), on a clock of 10 us a try. */
function device(foundAt: () => number | null): {
  arrivals: Arrivals;
  next: () => number;
  looks: () => number;
} {
  let clock = 0;
  let looks = 0;
  let tries = 0;
  const arrivals = new Arrivals({ fd: SLEEP, nowait: LOOK, pipe: null }, () => clock);
  const receive = (fd: number): number => {
    if (fd === SLEEP) return LENGTH;
    clock += 0.01;
    looks += 1;
    tries += 1;
    return tries === foundAt() ? LENGTH : AGAIN;
  };
  const next = (): number => {
    tries = 0;
    expect(arrivals.next(receive)).toBe(LENGTH);
    return arrivals.from;
  };
  return { arrivals, next, looks: () => looks };
}

describe("waiting for requests", () => {
  it("takes what is there, and what comes within a moment, without sleeping", () => {
    for (const found of [1, 3]) {
      const { next } = device(() => found);
      for (let i = 0; i < 100; i += 1) expect(next()).toBe(LOOK);
    }
  });

  it("hardly looks where looking is in vain, as when client and server share a CPU", () => {
    const { next, looks } = device(() => null);
    for (let i = 0; i < 10_000; i += 1) expect(next()).toBe(SLEEP);
    // 27 looks of 7 or 8 tries.
    expect(looks()).toBeLessThan(220);
    expect(looks()).toBeGreaterThan(0);
  });

  it("looks again once looking pays again", () => {
    let found: number | null = null;
    const { next } = device(() => found);
    for (let i = 0; i < 1000; i += 1) next();
    found = 2;
    const from = Array.from({ length: 1100 }, () => next());
    expect(from.at(-1)).toBe(LOOK);
    // Once it has paid, a single look in vain is no reason to stop.
    found = null;
    expect(next()).toBe(SLEEP);
    found = 2;
    expect([next(), next()]).toEqual([SLEEP, LOOK]);
  });

  it.each([2, null])(
    "stops looking for long where another thread gets the CPU in between (found at %s)",
    (found) => {
      let clock = 0;
      let tries = 0;
      let lostMs = 0;
      const arrivals = new Arrivals({ fd: SLEEP, nowait: LOOK, pipe: null }, () => clock);
      const next = (): number => {
        tries = 0;
        arrivals.next((fd) => {
          if (fd === SLEEP) return LENGTH;
          tries += 1;
          clock += 0.01 + (tries === 2 ? lostMs : 0);
          return tries === found ? LENGTH : AGAIN;
        });
        return arrivals.from;
      };
      next();
      lostMs = 3;
      do next();
      while (tries < 2);
      lostMs = 0;
      expect(new Set(Array.from({ length: 500 }, next))).toEqual(new Set([SLEEP]));
    },
  );

  it("always sleeps where there is nothing to look with", () => {
    const arrivals = new Arrivals({ fd: SLEEP, nowait: null, pipe: null });
    expect(arrivals.next((fd) => fd)).toBe(SLEEP);
  });
});
