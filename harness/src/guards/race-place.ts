/** The file of a race, in a folder of its own, and where a way or a guard needs it our file server's mount of that folder. */
import { chmodSync, closeSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { openMount, READY_BOUND_MS } from "../engines/mount.ts";
import { LOAD_OFFSET, RACE_FILE_BYTES, type RaceOptions } from "./race.ts";
import { contentOf } from "./race-rounds.ts";

export type RacePlace = {
  readonly path: string;
  /** The same file in the server's mount; null: there is none. */
  readonly mounted: string | null;
  readonly leaseSocket: string | null;
  /** Why its server does not answer any more, or null. */
  lost(): Promise<string | null>;
  close(): Promise<void>;
};

/** Writes the file, which other users may change, too. */
export function writeRaceFile(source: string): void {
  const path = join(source, "file");
  const fd = openSync(path, "wx", 0o600);
  writeSync(fd, Buffer.alloc(RACE_FILE_BYTES, 1));
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(contentOf(0));
  writeSync(fd, bytes, 0, 8, LOAD_OFFSET);
  closeSync(fd);
  chmodSync(path, 0o666);
}

/** @param directory for the mount and the lease socket */
export async function openRacePlace(
  { guard, ways }: Pick<RaceOptions, "guard" | "ways">,
  { directory, source, slowness }: { directory: string; source: string; slowness: number },
): Promise<RacePlace> {
  const path = join(source, "file");
  if (guard !== "fuse-lease" && !ways.includes("by-mount")) {
    return { path, mounted: null, leaseSocket: null, lost: async () => null, close: async () => {} };
  }
  const leaseSocket = guard === "fuse-lease" ? join(directory, "leases") : null;
  const mount = await openMount({
    sourceDirectory: source,
    directory,
    transport: "devfuse",
    readyBoundMs: READY_BOUND_MS * slowness,
    ...(leaseSocket === null ? {} : { leaseSocket }),
  });
  return {
    path,
    mounted: join(mount.mountpoint, "file"),
    leaseSocket,
    lost: () => mount.lost(),
    close: () => mount.close(),
  };
}
