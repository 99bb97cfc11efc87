/**
 * What it takes that several guests have read the same file and hold it mapped: RAM of the guests, pages of the host's file that
 * they map, the servers. Each guest has a server of its own, as a vhost-user device has; all serve the same folder.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Place } from "./virtiofsd-turns.ts";
import { BenchGuest, type GuestOptions, type Server, startServer } from "./virtiofsd-vm.ts";

/** As the guest's program takes them, behind a tag. */
export const MOUNT_OPTIONS: Readonly<Record<Place, string>> = {
  ours: "",
  virtiofsd: "",
  "ours-dax": ":dax=always",
};

/** Of the file; the DAX window has room for it. */
const HELD_BYTES: number = 32 * 2 ** 20;

export type PlaceMemory = {
  /** By which the RAM of all guests has grown. */
  readonly ramBytes: number;
  /** Of the file's own pages, mapped by the guests' VMMs: each counts once, since they are the same. */
  readonly mappedBytes: number;
  /** Of all servers, pages that they share divided among them (PSS). */
  readonly serverBytes: number;
};

export type HeldMemory = {
  readonly guests: number;
  readonly fileBytes: number;
  readonly places: Readonly<Record<Place, PlaceMemory>>;
};

/** Resident bytes of a VMM's mappings: the guest's RAM, and files that it shares with others. */
export function residentIn(smaps: string): { readonly ramBytes: number; readonly sharedFileBytes: number } {
  let kind: "ram" | "file" | null = null;
  const found = { ram: 0, file: 0 };
  for (const line of smaps.split("\n")) {
    const [, permissions, path] = /^[0-9a-f]+-[0-9a-f]+ (\S{4}) \S+ \S+ \S+\s*(.*)$/.exec(line) ?? [];
    if (permissions !== undefined) {
      if (path?.startsWith("/memfd:")) kind = "ram";
      else kind = permissions.endsWith("s") && path?.startsWith("/") ? "file" : null;
      continue;
    }
    const kib = /^Rss:\s+([0-9]+) kB$/.exec(line)?.[1];
    if (kib !== undefined && kind !== null) found[kind] += Number(kib) * 1024;
  }
  return { ramBytes: found.ram, sharedFileBytes: found.file };
}

const residentOf = (pid: number): ReturnType<typeof residentIn> =>
  residentIn(readFileSync(`/proc/${pid}/smaps`, "utf8"));

function pssOf(pid: number): number {
  const kib = /^Pss:\s+([0-9]+) kB$/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"))?.[1];
  return Number(kib) * 1024;
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

export type HeldOptions = {
  readonly guests: number;
  readonly guestOf: (place: Place) => Promise<Omit<GuestOptions, "servers">>;
  /** virtiofsd, and the arguments that come first. */
  readonly peer: readonly string[];
  readonly directory: string;
  /** Of a boot, and of reading the file. */
  readonly boundMs: number;
  readonly progress: (text: string) => void;
};

async function memoryOf(place: Place, source: string, options: HeldOptions): Promise<PlaceMemory> {
  const { guests, guestOf, peer, directory, boundMs } = options;
  const vm = await guestOf(place);
  const servers: Server[] = [];
  const running: BenchGuest[] = [];
  try {
    for (let i = 0; i < guests; i += 1) {
      const server = await startServer(place, source, `${place}-${i}`, { peer, directory });
      servers.push(server);
      running.push(new BenchGuest({ ...vm, servers: [server] }));
    }
    const name = `${guests} guests on ${place}`;
    for (const guest of running) await guest.said(`${name} boot and mount`, guests * boundMs);
    const before = running.map(({ pid }) => residentOf(pid));
    for (const guest of running) guest.answer();
    for (const guest of running) await guest.said(`${name} read the file`, guests * boundMs);
    const after = running.map(({ pid }) => residentOf(pid));
    const mapped = after.map(({ sharedFileBytes }, i) => sharedFileBytes - (before[i]?.sharedFileBytes ?? 0));
    return {
      ramBytes: sum(after.map(({ ramBytes }) => ramBytes)) - sum(before.map(({ ramBytes }) => ramBytes)),
      mappedBytes: Math.max(...mapped),
      serverBytes: sum(servers.map(({ pid }) => pssOf(pid))),
    };
  } finally {
    await Promise.all(running.map((guest) => guest.close()));
    await Promise.all(servers.map((server) => server.close()));
  }
}

/** Throws a KernelError where a guest did not come so far. */
export async function heldMemory(options: HeldOptions): Promise<HeldMemory> {
  const source = join(options.directory, "source-held");
  mkdirSync(source);
  writeFileSync(join(source, "data"), Buffer.alloc(HELD_BYTES, "data"));
  const of = async (place: Place): Promise<PlaceMemory> => {
    options.progress(`${options.guests} guests on ${place} read the same file`);
    return memoryOf(place, source, options);
  };
  const places = {
    ours: await of("ours"),
    virtiofsd: await of("virtiofsd"),
    "ours-dax": await of("ours-dax"),
  };
  return {
    guests: options.guests,
    fileBytes: HELD_BYTES,
    places,
  };
}
