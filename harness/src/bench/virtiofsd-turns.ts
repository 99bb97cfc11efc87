/** What the guest's program of `bench virtiofsd` says (harness/bench/guest-files.c), and the figures of it. Pure. */
import { median } from "./quantile.ts";

/** Where the guest works; also the tags of its devices. */
export const PLACES = ["ours", "virtiofsd", "ours-dax"] as const;
export type Place = (typeof PLACES)[number];

/** In the order in which they run. Units: bytes of the sequential ones and of `tar`, else operations or files. */
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

/** Rounds that come first and are not counted: ours compiles what it runs while it runs it, and a VM's server runs for days. */
export const WARM_UP_ROUNDS = 10;

export type Turn = {
  /** From 0. */
  readonly round: number;
  readonly place: Place;
  readonly row: RowName;
  readonly units: number;
  readonly nanoseconds: number;
};

/** Rows whose units are bytes; fio's others do 4 KiB each, or have files of that size. */
const bytewise: ReadonlySet<RowName> = new Set(["read-sequential", "mmap-sequential", "write-sequential"]);
const FIO_BLOCK_KIB = 4;
/** The first of the fields of what was read, and of what was written, in a line of fio's terse output, version 3. */
const FIO_READ = 5;
const FIO_WRITE = 46;

/** What a job of fio's says of itself: KiB and milliseconds. */
function fioTurn(round: number, place: Place, terse: string): Turn | null {
  const fields = terse.split(";");
  const [version, , name, , error] = fields;
  const row = rowNames.find((one) => one === name);
  if (version !== "3" || error !== "0" || row === undefined) return null;
  const at = row.startsWith("write-") ? FIO_WRITE : FIO_READ;
  const [kib, milliseconds] = [Number(fields[at]), Number(fields[at + 3])];
  if (!(kib > 0 && milliseconds >= 0)) return null;
  const units = bytewise.has(row) ? kib * 1024 : kib / FIO_BLOCK_KIB;
  return { round, place, row, units, nanoseconds: Math.max(milliseconds, 1) * 1e6 };
}

/** A turn of the work; null: something else. */
export function turnIn(line: string): Turn | null {
  const [, round, tag, name, rest = ""] = /^@ ([0-9]+) (\S+) (\S+) (.+)$/.exec(line) ?? [];
  const place = PLACES.find((one) => one === tag);
  if (place === undefined) return null;
  if (name === "fio") return fioTurn(Number(round), place, rest);
  const row = rowNames.find((one) => one === name);
  const [, units, nanoseconds] = /^([0-9]+) ([0-9]+)$/.exec(rest) ?? [];
  if (row === undefined || units === undefined) return null;
  return { round: Number(round), place, row, units: Number(units), nanoseconds: Number(nanoseconds) };
}

/** Of the rounds, each of which has one: the median, the lowest and the highest. */
export type Ratio = { readonly median: number; readonly lowest: number; readonly highest: number };

export type VirtiofsdRow = {
  readonly row: RowName;
  /** Units a second, medians: bytes, operations or files. */
  readonly ours: number;
  readonly theirs: number;
  readonly dax: number;
  /** Ours with virtiofsd's as 1, and ours with DAX. */
  readonly ratio: Ratio;
  readonly daxRatio: Ratio;
};

function ratioOf(rates: readonly number[], theirs: readonly number[]): Ratio {
  const ratios = rates.map((rate, round) => rate / (theirs[round] ?? Number.NaN));
  return { median: median(ratios), lowest: Math.min(...ratios), highest: Math.max(...ratios) };
}

/** Each row's counted rounds. */
export function virtiofsdRows(turns: readonly Turn[]): readonly VirtiofsdRow[] {
  return rowNames.map((row) => {
    const ratesOf = (place: Place): readonly number[] =>
      turns
        .filter((turn) => turn.row === row && turn.place === place && turn.round >= WARM_UP_ROUNDS)
        .toSorted((a, b) => a.round - b.round)
        .map(({ units, nanoseconds }) => (units * 1e9) / nanoseconds);
    const [ours, theirs, dax] = [ratesOf("ours"), ratesOf("virtiofsd"), ratesOf("ours-dax")];
    return {
      row,
      ours: median(ours),
      theirs: median(theirs),
      dax: median(dax),
      ratio: ratioOf(ours, theirs),
      daxRatio: ratioOf(dax, theirs),
    };
  });
}

/** Without a guest (virtiofsd-driver.ts). */
export const driverRowNames = [
  "getattr",
  "lookup",
  "open",
  "read-4k",
  "read-128k",
  "write-4k",
  "readdirplus",
] as const;
export type DriverRowName = (typeof driverRowNames)[number];

export type DriverRow = {
  readonly row: DriverRowName;
  /** Microseconds from the request to the sight of its answer: medians. Of `open` and `readdirplus`: of all that belong to it. */
  readonly ours: number;
  readonly theirs: number;
  /** Ours as good as theirs: 1. */
  readonly ratio: Ratio;
  /** CPU time of the server's process, microseconds. */
  readonly oursCpu: number;
  readonly theirsCpu: number;
};

export type DriverFigures = {
  /** A turn. */
  readonly requests: number;
  readonly turns: number;
  readonly rows: readonly DriverRow[];
};
