/**
 * The ways of making the file shorter in a race: those of the matrix (fixtures/guards) that do make it shorter. What a
 * guard promises of each is measured by the matrix. Pure.
 */
import type { ServerPart } from "../../../language/src/index.ts";
import type { PathAction } from "../engines/host-action.ts";
import { RACE_FILE_BYTES, type RaceResult, type RaceWay, raceWays } from "./race.ts";

const PAGE = 0x1000;

/**
 * By path, in one call. By a descriptor: one that is opened for the round, on the file or in the server's mount, so that
 * the stored word can be read just before the call; or one that has been open since before the first round.
 */
export type WayOfCutting =
  | { readonly by: "path"; readonly action: PathAction }
  | { readonly by: "descriptor"; readonly through: "file" | "mount" }
  | { readonly by: "old-descriptor" };

export function wayOfCutting(way: RaceWay): WayOfCutting {
  const truncate = { verb: "truncate", size: 0n } as const;
  switch (way) {
    case "truncate":
      return { by: "path", action: truncate };
    case "other-namespace":
      return { by: "path", action: { ...truncate, options: ["own-namespace"] } };
    case "by-nobody":
      return { by: "path", action: { ...truncate, options: ["as-nobody"] } };
    case "open-o-trunc":
      return { by: "path", action: { verb: "open-trunc" } };
    case "collapse-range": {
      // The first page and the last one stay.
      const length = BigInt(RACE_FILE_BYTES - 2 * PAGE);
      return { by: "path", action: { verb: "collapse", offset: BigInt(PAGE), length } };
    }
    case "open-ftruncate":
      return { by: "descriptor", through: "file" };
    case "by-mount":
      return { by: "descriptor", through: "mount" };
    case "ftruncate-old-fd":
      return { by: "old-descriptor" };
  }
}

/** `prevents`: no round may be lost. `denies`: the host is refused. `late`: reported after the fact. */
export type GuardPromise = "prevents" | "denies" | "late" | "nothing";

export function promiseOf(guard: ServerPart): GuardPromise {
  switch (guard) {
    case "none":
      return "nothing";
    case "notify":
      return "late";
    case "sealed":
      return "denies";
    case "fuse-lease":
    case "kernel-lease":
    case "pre-content":
      return "prevents";
  }
}

/** A loss that the guard is there to prevent, or bytes that are not the file's. */
export function isBreach({
  guard,
  late,
  lost,
  stuck,
  staleLoads,
  changedAfterAcknowledgement,
  dirtyAfterRegrow,
}: RaceResult): boolean {
  const promise = promiseOf(guard);
  const isSafe = promise === "prevents" || promise === "denies";
  const wrongBytes = staleLoads + changedAfterAcknowledgement + dirtyAfterRegrow;
  return stuck || wrongBytes > 0 || (isSafe && lost + late > 0);
}

/** The ways that the guard sees at all: of the others it promises nothing, and it is not armed where one is a precondition. */
export function waysOf(guard: ServerPart): readonly RaceWay[] {
  switch (guard) {
    case "none":
    case "notify":
    case "pre-content":
      return raceWays;
    case "fuse-lease":
      return ["by-mount"];
    case "kernel-lease":
      return raceWays.filter((way) => way !== "ftruncate-old-fd");
    case "sealed":
      // The copy has no name, so no mount has it, and no descriptor of it is older than the seal.
      return raceWays.filter((way) => way !== "ftruncate-old-fd" && way !== "by-mount");
  }
}

/** With the micro-guest: one way, on which opening is a part of the host's delay. */
export function microWays(guard: ServerPart): readonly RaceWay[] {
  return [guard === "fuse-lease" ? "by-mount" : "open-ftruncate"];
}

/** The ways take turns. */
export function wayOfRound(ways: readonly RaceWay[], round: number): RaceWay {
  const way = ways[round % ways.length];
  if (way === undefined) throw new RangeError("a race without a way");
  return way;
}
