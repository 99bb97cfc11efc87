/** What the guest's program of `bench virtiofsd` says (harness/bench/guest-files.c). Pure. */

/** Where the guest works; also the tags of its devices. */
export const PLACES = ["ours", "virtiofsd", "ours-dax"] as const;
export type Place = (typeof PLACES)[number];

/** In the order in which they run. Units: bytes of the sequential ones, else operations; bytes of the archive of `tar`. */
export const rowNames = [
  "read-sequential",
  "read-random",
  "mmap-sequential",
  "mmap-random",
  "write-sequential",
  "write-random",
  "create",
  "stat",
  "unlink",
  "find",
  "tar",
] as const;
export type RowName = (typeof rowNames)[number];

export type Turn = {
  readonly place: Place;
  readonly row: RowName;
  readonly units: number;
  readonly nanoseconds: number;
};

/** A turn of the work, or its end; null: another line. */
export function turnIn(line: string): Turn | "done" | null {
  if (/^@ done\r?$/.test(line)) return "done";
  const found = /^@ \S*\/(\S+) (\S+) ([0-9]+) ([0-9]+)\r?$/.exec(line);
  const place = PLACES.find((name) => name === found?.[1]);
  const row = rowNames.find((name) => name === found?.[2]);
  if (place === undefined || row === undefined) return null;
  return { place, row, units: Number(found?.[3]), nanoseconds: Number(found?.[4]) };
}
