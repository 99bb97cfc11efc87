/** `daxfault bench virtiofsd`: the server for a VMM beside Debian's virtiofsd, in one guest. */
import { readdirSync, realpathSync } from "node:fs";
import { getuid } from "node:process";
import { exitCodes } from "../../../language/src/index.ts";
import { benchVirtiofsd, type VirtiofsdOptions, type VirtiofsdResult } from "../bench/virtiofsd.ts";
import type { HeldMemory } from "../bench/virtiofsd-memory.ts";
import {
  type DriverFigures,
  type DriverRowName,
  PLACES,
  type Place,
  type Ratio,
  type RowName,
  type VirtiofsdRow,
  WARM_UP_ROUNDS,
} from "../bench/virtiofsd-turns.ts";
import { errorText } from "../error-text.ts";
import { KernelError } from "../kernel/error.ts";
import { renderGrid } from "../report/grid.ts";
import type { Style } from "../report/style.ts";
import { liveInFolder } from "./life.ts";
import type { BenchVirtiofsdLine } from "./lines/bench.ts";
import { openJson, openStatusLine } from "./output.ts";
import { checkedSpec, parseCount, UsageError } from "./usage.ts";

export type BenchVirtiofsdCommand = {
  readonly guestKernel: string;
  readonly qemu?: string;
  readonly accel: "kvm" | "tcg";
  readonly size: string;
  readonly files: string;
  readonly operations: string;
  readonly requests: string;
  readonly rounds: string;
  readonly guests: string;
  readonly programs?: true;
  readonly tree?: string;
  readonly json?: string;
};

const MAX_SIZE_MIB = 64;
const MAX_FILES = 10_000;
const MAX_OPERATIONS = 100_000;
const MAX_REQUESTS = 100_000;
const MAX_ROUNDS = 100;
const MAX_GUESTS = 16;

/** Throws a UsageError. */
function checkedPrograms({ programs, tree }: BenchVirtiofsdCommand): VirtiofsdOptions["programs"] {
  if (programs === undefined) {
    if (tree === undefined) return null;
    throw new UsageError("--tree goes with --programs only: our own program has a tree of its own");
  }
  if (tree === undefined) return { tree: null };
  try {
    // A link would be copied as one.
    const path = realpathSync(tree);
    const entries = readdirSync(path, { recursive: true, withFileTypes: true });
    const files = entries.filter((entry) => entry.isFile()).length;
    if (files > 0) return { tree: { path, files } };
  } catch (error) {
    throw new UsageError(`--tree ${tree}: ${errorText(error)}`);
  }
  throw new UsageError(`--tree ${tree} has no files`);
}

/** Returns the exit code: measurements are not verdicts, so 0 once they are made; 2 where nothing came out. */
export async function benchVirtiofsdCommand(options: BenchVirtiofsdCommand, style: Style): Promise<number> {
  const guestSpec = checkedSpec("--guest-kernel", options.guestKernel);
  const size = parseCount("--size", options.size, 1, MAX_SIZE_MIB);
  const files = parseCount("--files", options.files, 1, MAX_FILES);
  const operations = parseCount("--operations", options.operations, 1, MAX_OPERATIONS);
  const requests = parseCount("--requests", options.requests, 1, MAX_REQUESTS);
  const rounds = parseCount("--rounds", options.rounds, 0, MAX_ROUNDS);
  const guests = parseCount("--guests", options.guests, 0, MAX_GUESTS);
  const programs = checkedPrograms(options);
  if (getuid?.() !== 0) {
    console.error("daxfault bench virtiofsd: it needs root: both servers act as the guest's users");
    return exitCodes.nothingRan;
  }
  const json = openJson<BenchVirtiofsdLine>(options.json);
  const status = openStatusLine();
  return liveInFolder({ command: "daxfault bench virtiofsd" }, async ({ directory, signal }) => {
    try {
      const result = await benchVirtiofsd({
        guestSpec,
        accelerator: options.accel,
        qemuPath: options.qemu ?? null,
        fileBytes: size * 2 ** 20,
        files,
        operations,
        requests,
        rounds,
        guests,
        programs,
        directory,
        signal,
        progress: status.show,
      });
      status.clear();
      json.write({ type: "bench", name: "virtiofsd", ...result });
      if (!json.isStdout) console.log(virtiofsdText(result, style));
      return exitCodes.ok;
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      status.clear();
      console.error(`daxfault bench virtiofsd: ${error.message}`);
      return exitCodes.inconclusive;
    } finally {
      status.clear();
    }
  });
}

const TITLES: Readonly<Record<RowName, string>> = {
  "read-sequential": "read(2), sequential (MiB/s)",
  "read-random": "pread(2), 4 KiB at random (1/s)",
  "mmap-sequential": "mmap, sequential (MiB/s)",
  "mmap-random": "mmap, pages at random (1/s)",
  "write-sequential": "write(2), sequential, fsync (MiB/s)",
  "write-random": "pwrite(2), 4 KiB at random (1/s)",
  create: "create (1/s)",
  stat: "stat (1/s)",
  unlink: "unlink (1/s)",
  find: "a tree's attributes, as find (files/s)",
  tar: "a tree's content, as tar (MiB/s)",
};
const PLACE_TITLES: Readonly<Record<Place, string>> = {
  ours: "ours",
  virtiofsd: "virtiofsd",
  "ours-dax": "ours, DAX",
};

const mib = (bytes: number): string => (bytes / 2 ** 20).toFixed(1);
const ratioText = ({ median, lowest, highest }: Ratio): string =>
  `${median.toFixed(2)} (${lowest.toFixed(2)} to ${highest.toFixed(2)})`;

function line({ row, ours, theirs, dax, ratio, daxRatio }: VirtiofsdRow): readonly (readonly string[])[] {
  const isBytes = TITLES[row].includes("MiB/s");
  const figure = (value: number): readonly string[] => [isBytes ? mib(value) : value.toFixed(0)];
  return [
    [TITLES[row]],
    figure(theirs),
    figure(ours),
    [ratioText(ratio)],
    figure(dax),
    [ratioText(daxRatio)],
  ];
}

const DRIVER_TITLES: Readonly<Record<DriverRowName, string>> = {
  getattr: "GETATTR",
  lookup: "LOOKUP of a known inode",
  open: "OPEN, RELEASE",
  "read-4k": "READ, 4 KiB",
  "read-128k": "READ, 128 KiB in pages",
  "write-4k": "WRITE, 4 KiB",
  readdirplus: "OPENDIR, READDIRPLUS of 10, RELEASEDIR",
};

function driverText({ requests, turns, rows }: DriverFigures, style: Style): readonly string[] {
  const head = ["", "virtiofsd", "ours", "ours as good as virtiofsd", "virtiofsd, CPU", "ours, CPU"];
  const lines = rows.map(({ row, ours, theirs, ratio, oursCpu, theirsCpu }) => [
    [DRIVER_TITLES[row]],
    [theirs.toFixed(1)],
    [ours.toFixed(1)],
    [ratioText(ratio)],
    [theirsCpu.toFixed(1)],
    [oursCpu.toFixed(1)],
  ]);
  return [
    `without a guest, one request at a time: microseconds to the answer, medians of ${turns} turns of ${requests} (lowest to highest)`,
    "",
    renderGrid({ head, rows: lines }, style),
    "",
  ];
}

function memoryText({ guests, fileBytes, places }: HeldMemory, style: Style): readonly string[] {
  const head = ["", "guests' RAM", "the file's pages, mapped", "servers"];
  const rows = PLACES.map((place) => {
    const { ramBytes, mappedBytes, serverBytes } = places[place];
    return [[PLACE_TITLES[place]], [mib(ramBytes)], [mib(mappedBytes)], [mib(serverBytes)]];
  });
  return [
    "",
    `${guests} guests that have read the same file of ${mib(fileBytes)} MiB and hold it mapped, a server each (MiB of all of them)`,
    "",
    renderGrid({ head, rows }, style),
  ];
}

function turnsText(result: VirtiofsdResult, style: Style): readonly string[] {
  const { peer, qemu, accelerator, guestKernel, fileBytes, files, operations, rounds, treeFiles, programs } =
    result;
  if (rounds === 0) return [peer];
  const head = ["", "virtiofsd", "ours", "ours / virtiofsd", "ours, DAX", "DAX / virtiofsd"];
  const peaks = PLACES.map((place) => `${PLACE_TITLES[place]} ${mib(result.peakRssBytes[place])} MiB`);
  return [
    `${peer}; guest: ${guestKernel}; ${qemu} (${accelerator})`,
    ...(programs === null ? [] : [`the work is done by ${programs.join(", ")}`]),
    `a file of ${fileBytes / 2 ** 20} MiB, ${files} files, a tree of ${treeFiles}, ${operations} operations at random; caches ` +
      `dropped before each turn; medians of ${rounds} rounds (lowest to highest), after ${WARM_UP_ROUNDS} that are not counted`,
    "",
    renderGrid({ head, rows: result.rows.map(line) }, style),
    `most memory of each server: ${peaks.join("; ")}`,
  ];
}

/** The result as text. */
export function virtiofsdText(result: VirtiofsdResult, style: Style): string {
  const { memory, driver } = result;
  return [
    ...driverText(driver, style),
    ...turnsText(result, style),
    ...(memory === null ? [] : memoryText(memory, style)),
  ].join("\n");
}
