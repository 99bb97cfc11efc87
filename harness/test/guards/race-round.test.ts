import { describe, expect, it } from "vitest";
import { RACE_FILE_BYTES } from "../../src/guards/race.ts";
import { LOOP_FAULTS, type RoundSeen, resultOf, totalsOf } from "../../src/guards/race-round.ts";

const cut = {
  type: "cut",
  isDenied: false,
  openUs: 100,
  callUs: 110,
  returnUs: 130,
  storedBefore: 7n,
} as const;
const whole = { type: "whole", isDirty: false, readUs: 150 } as const;
const seen: RoundSeen = {
  way: "open-ftruncate",
  cut,
  whole,
  recalledUs: 105,
  storedAtRecall: 7n,
  givenBackUs: 200,
  sizeAtRecall: RACE_FILE_BYTES,
  unannounced: 0,
  faults: null,
};
const dirty = { ...seen, whole: { ...whole, isDirty: true } };

describe("resultOf", () => {
  it("measures from the call of ftruncate to the end of the recall, negative where a lease came first", () => {
    expect(resultOf(seen)).toMatchObject({ windowUs: -5, hostUs: 30 });
    expect(resultOf({ ...seen, recalledUs: 140 }).windowUs).toBe(30);
    expect(resultOf({ ...seen, recalledUs: null }).windowUs).toBeNull();
  });

  it.each<[string, RoundSeen, boolean]>([
    ["the same word", seen, false],
    ["another word, and the recall was over before the call", { ...seen, storedAtRecall: 6n }, true],
    [
      "another word, but the recall ended during the call",
      { ...seen, storedAtRecall: 6n, recalledUs: 110 },
      false,
    ],
    ["no recall", { ...seen, storedAtRecall: null, recalledUs: null }, false],
    ["no word from before the call", { ...seen, cut: { ...cut, storedBefore: null } }, false],
  ])("a change after the acknowledgement: %s", (_, round, expected) => {
    expect(resultOf(round).changedAfterAcknowledgement).toBe(expected);
  });

  it.each<[string, RoundSeen, boolean]>([
    ["a clean file", seen, false],
    ["a dirty one, read while the guest was kept out", dirty, true],
    ["read after the guest had it back", { ...dirty, givenBackUs: 150 }, false],
    ["never given back", { ...dirty, givenBackUs: null }, true],
    ["the recall came after the truncation", { ...dirty, recalledUs: 130 }, false],
    ["no recall", { ...dirty, recalledUs: null }, false],
  ])("a store after the file grew again: %s", (_, round, expected) => {
    expect(resultOf(round).dirtyAfterRegrow).toBe(expected);
  });
});

describe("a round is lost", () => {
  const shorter = { ...seen, sizeAtRecall: 0 };
  const none = { ...seen, sizeAtRecall: null, recalledUs: null };
  it.each<[string, RoundSeen, readonly [isLate: boolean, isLost: boolean]]>([
    [
      "not where the mapping was gone first, whatever faults there were",
      { ...seen, faults: 900 },
      [false, false],
    ],
    ["where a vCPU met a page without notice, by its exit", { ...none, unannounced: 1 }, [true, true]],
    ["where it looped before the recall", { ...shorter, faults: LOOP_FAULTS }, [true, true]],
    ["not where the guest did not look in time", { ...shorter, faults: LOOP_FAULTS - 1 }, [true, false]],
    ["not where nobody knows the faults", shorter, [true, false]],
    ["where nothing was recalled, by the faults", { ...none, faults: 50 }, [true, true]],
    [
      "not where the host was refused",
      { ...none, cut: { ...cut, isDenied: true }, faults: 50 },
      [false, false],
    ],
  ])("%s", (_, round, expected) => {
    const { isLate, isLost } = resultOf(round);
    expect([isLate, isLost]).toEqual(expected);
  });
});

describe("totalsOf", () => {
  it("counts the rounds of each way that had one", () => {
    const lost: RoundSeen = { ...seen, way: "by-mount", unannounced: 1 };
    expect(totalsOf([seen, lost, lost].map(resultOf)).ways).toEqual([
      { way: "open-ftruncate", rounds: 1, late: 0, lost: 0, denied: 0 },
      { way: "by-mount", rounds: 2, late: 0, lost: 2, denied: 0 },
    ]);
  });

  it("counts rounds and keeps their times in order", () => {
    const denied = { ...seen, cut: { ...cut, isDenied: true }, recalledUs: null };
    const lost = { ...dirty, storedAtRecall: 6n, unannounced: 1 };
    expect(totalsOf([seen, denied, lost].map(resultOf))).toEqual({
      late: 0,
      lost: 1,
      denied: 1,
      changedAfterAcknowledgement: 1,
      dirtyAfterRegrow: 1,
      windowUs: [-5, -5],
      hostUs: [30, 30, 30],
      faults: [],
      ways: [{ way: "open-ftruncate", rounds: 3, late: 0, lost: 1, denied: 1 }],
    });
  });
});
