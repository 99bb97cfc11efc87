/**
 * The ways of making the file shorter in a race: those of the matrix (fixtures/guards) that do make it shorter, which
 * measures what a guard promises of each, and another guest's. Pure.
 */
import type { ServerPart } from "../../../language/src/index.ts";
import type { PathAction } from "../engines/host-action.ts";
import { RACE_FILE_BYTES, type RaceResult, type RaceWay, raceWays } from "./race.ts";

const PAGE = 0x1000;

/**
 * By path, in one call. By a descriptor: one that is opened for the round, on the file or in the server's mount, so that
 * the stored word can be read just before the call; or one that has been open since before the first round. By a guest: an
 * ftruncate(2) in a second VM, whose file server has the folder, or the server's mount of it where the guard is that server's.
 */
export type WayOfCutting =
  | { readonly by: "path"; readonly action: PathAction }
  | { readonly by: "descriptor"; readonly through: "file" | "mount" }
  | { readonly by: "old-descriptor" }
  | { readonly by: "guest" };

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
    case "by-guest":
      return { by: "guest" };
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
      return ["by-mount", "by-guest"];
    case "kernel-lease":
      // No lease of a file that others have open for writing, as the second guest has.
      return raceWays.filter((way) => way !== "ftruncate-old-fd" && way !== "by-guest");
    case "sealed":
      // The copy has no name, so no client has it, and no descriptor of it is older than the seal.
      return raceWays.filter((way) => !["ftruncate-old-fd", "by-mount", "by-guest"].includes(way));
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
