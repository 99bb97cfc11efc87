import { describe, expect, it } from "vitest";
import type { ServerPart } from "../../../language/src/index.ts";
import { matrixScenarios } from "../../src/guards/matrix.ts";
import { type RaceResult, type RaceWay, racedGuards, raceWays } from "../../src/guards/race.ts";
import {
  isBreach,
  microWays,
  promiseOf,
  wayOfCutting,
  wayOfRound,
  waysOf,
} from "../../src/guards/race-ways.ts";

describe("the ways of a race", () => {
  it("are ways of the matrix, and the second guest's", () => {
    const known = new Set(matrixScenarios().map(({ way }) => way));
    expect(raceWays.filter((way) => !known.has(way))).toEqual(["by-guest"]);
  });

  it.each<[ServerPart, string, readonly RaceWay[]]>([
    ["none", "nothing", []],
    ["notify", "late", []],
    ["pre-content", "prevents", []],
    ["fuse-lease", "prevents", raceWays.filter((way) => way !== "by-mount" && way !== "by-guest")],
    ["kernel-lease", "prevents", ["ftruncate-old-fd", "by-guest"]],
    ["sealed", "denies", ["ftruncate-old-fd", "by-mount", "by-guest"]],
  ])("%s promises %s, and is not raced by %j", (guard, promise, without) => {
    expect(promiseOf(guard)).toBe(promise);
    expect(raceWays.filter((way) => !waysOf(guard).includes(way))).toEqual(without);
  });

  const clean: RaceResult = {
    ways: [],
    guard: "kernel-lease",
    guest: "linux",
    rounds: 9,
    refusal: null,
    done: 9,
    late: 0,
    lost: 0,
    denied: 0,
    stuck: false,
    loads: 9,
    stores: 9,
    staleLoads: 0,
    zeroLoads: 0,
    sigbus: 9,
    changedAfterAcknowledgement: 0,
    dirtyAfterRegrow: 0,
    windowUs: [],
    hostUs: [],
    faults: [],
    seconds: 1,
    linux: null,
  };
  it.each<[string, Partial<RaceResult>, boolean]>([
    ["signals of announced losses", {}, false],
    ["a loss", { lost: 1 }, true],
    ["a mapping that was there when the file got shorter", { late: 1 }, true],
    ["both, of a guard that comes after the fact", { guard: "notify", late: 9, lost: 9 }, false],
    ["a loss of a sealed copy", { guard: "sealed", lost: 1 }, true],
    ["a stale load without a guard", { guard: "none", staleLoads: 1 }, true],
    ["a store into the new file", { dirtyAfterRegrow: 1 }, true],
    ["a guest that stands", { guard: "none", stuck: true }, true],
  ])("a breach? %s", (_, change, expected) => {
    expect(isBreach({ ...clean, ...change })).toBe(expected);
  });

  it("of the micro-guest are some of the guard's", () => {
    for (const guard of racedGuards) {
      expect(microWays(guard).filter((way) => !waysOf(guard).includes(way))).toEqual([]);
    }
  });

  it("read the stored word only by a descriptor, and go through the mount only where they say so", () => {
    const by = (kind: string) => raceWays.filter((way) => wayOfCutting(way).by === kind);
    expect(by("descriptor")).toEqual(["open-ftruncate", "by-mount"]);
    expect(by("old-descriptor")).toEqual(["ftruncate-old-fd"]);
    expect(by("guest")).toEqual(["by-guest"]);
    expect(wayOfCutting("by-mount")).toEqual({ by: "descriptor", through: "mount" });
  });

  it("take turns", () => {
    const rounds = [0, 1, 2, 3].map((round) => wayOfRound(["truncate", "by-mount", "by-nobody"], round));
    expect(rounds).toEqual(["truncate", "by-mount", "by-nobody", "truncate"]);
    expect(() => wayOfRound([], 0)).toThrow(RangeError);
  });
});
