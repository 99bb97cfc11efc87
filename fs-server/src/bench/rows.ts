/** The rows of the file server's measurements: one list for the workload, the ratios and the table. */
export const ROWS = {
  seqRead: { title: "sequential read", unit: "MB/s", better: "higher" },
  seqWrite: { title: "sequential write", unit: "MB/s", better: "higher" },
  random: { title: "4 KiB random read, 1 job", unit: "/s", better: "higher" },
  random4: { title: "4 KiB random read, 4 jobs", unit: "/s", better: "higher" },
  create: { title: "create", unit: "/s", better: "higher" },
  stat: { title: "stat", unit: "/s", better: "higher" },
  readdir: { title: "readdir, entries", unit: "/s", better: "higher" },
  unlink: { title: "unlink", unit: "/s", better: "higher" },
  getattrP50: { title: "getattr, p50", unit: "us", better: "lower" },
  getattrP99: { title: "getattr, p99", unit: "us", better: "lower" },
  besideP99: { title: "open and 4 KiB read beside dd conv=fsync, p99", unit: "us", better: "lower" },
  besideMax: { title: "open and 4 KiB read beside dd conv=fsync, worst", unit: "us", better: "lower" },
} as const;

export type RowName = keyof typeof ROWS;

/** Rows that come of one piece of work, by its name: what can be measured alone. */
export const ROW_GROUPS: Readonly<
  Record<"sequential" | "random" | "metadata" | "getattr" | "beside", readonly RowName[]>
> = {
  sequential: ["seqRead", "seqWrite"],
  random: ["random", "random4"],
  metadata: ["create", "stat", "readdir", "unlink"],
  getattr: ["getattrP50", "getattrP99"],
  beside: ["besideP99", "besideMax"],
};

export type RowGroup = keyof typeof ROW_GROUPS;

export const ALL_GROUPS: readonly RowGroup[] = Object.keys(ROW_GROUPS) as RowGroup[];

/** The rows of these groups, in the order of the table. */
export function rowsOf(groups: readonly RowGroup[]): readonly RowName[] {
  const wanted = new Set<RowName>(groups.flatMap((group) => ROW_GROUPS[group]));
  return (Object.keys(ROWS) as RowName[]).filter((row) => wanted.has(row));
}

/** What the ways of content are counted with. */
export const CONTENT_BYTES: number = 64 * 2 ** 20;
export type ContentSize = "large" | "small";
export const CONTENT_BLOCK_BYTES: Readonly<Record<ContentSize, number>> = { large: 131_072, small: 4096 };
