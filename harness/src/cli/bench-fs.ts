/** `daxfault bench fs`: the file server beside libfuse's passthrough_hp and the underlying folder. */
import { accessSync, constants, existsSync, readFileSync, realpathSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { resolve } from "node:path";
import {
  ALL_GROUPS,
  type BenchResult,
  benchFileServer,
  contenderNames,
  type Placement,
  type PlacementResult,
  ROWS,
  type RowGroup,
  type RowName,
} from "../../../fs-server/src/index.ts";
import { exitCodes } from "../../../language/src/index.ts";
import { errorText } from "../error-text.ts";
import { cutGrid, type Grid, renderGrid } from "../report/grid.ts";
import type { Style } from "../report/style.ts";
import { childEnvironment } from "../run/tag.ts";
import { liveInFolder } from "./life.ts";
import type { BenchFsLine } from "./lines/bench.ts";
import { openJson, openStatusLine } from "./output.ts";
import { parseCount, UsageError } from "./usage.ts";

export type BenchFsCommand = {
  readonly peer?: string;
  readonly folder?: string;
  readonly repetitions: string;
  readonly placement?: Placement;
  /** Names of groups and of contenders, separated by commas. */
  readonly rows?: string;
  readonly contenders?: string;
  readonly json?: string;
};

const MAX_REPETITIONS = 100;
const TMPFS = "/dev/shm";

/** CPUs that this process may use, from `Cpus_allowed_list: 0,2-3`. */
function allowedCpus(): readonly number[] {
  const status = readFileSync("/proc/self/status", "utf8");
  const list = /^Cpus_allowed_list:\s*(\S+)$/m.exec(status)?.[1] ?? "0";
  return list.split(",").flatMap((range) => {
    const [from = 0, to = from] = range.split("-").map(Number);
    return Array.from({ length: to - from + 1 }, (_, i) => from + i);
  });
}

function checkedPeer(path: string | undefined): string | null {
  if (path === undefined) return null;
  try {
    accessSync(path, constants.X_OK);
    return resolve(path);
  } catch {
    throw new UsageError(
      `--peer ${path} is not a program; scripts/bench-peer builds one and prints its path`,
    );
  }
}

/** Where the sources lie: a folder that can be written; without symbolic links, as the mount table has paths. */
function checkedFolder(path: string): string {
  try {
    const real = realpathSync(path);
    accessSync(real, constants.W_OK | constants.X_OK);
    if (statSync(real).isDirectory()) return real;
  } catch (error) {
    throw new UsageError(`--folder ${path}: ${errorText(error)}`);
  }
  throw new UsageError(`--folder ${path} is no folder`);
}

function checkedGroups(names: string | undefined): readonly RowGroup[] {
  if (names === undefined) return ALL_GROUPS;
  return names.split(",").map((name) => {
    const group = ALL_GROUPS.find((known) => known === name);
    if (group !== undefined) return group;
    throw new UsageError(`--rows: there is no "${name}"; there are ${ALL_GROUPS.join(", ")}`);
  });
}

function checkedContenders(names: string | undefined, peer: string | null): readonly string[] | null {
  const chosen = names?.split(",") ?? null;
  const known = contenderNames(peer);
  const unknown = chosen?.find((name) => !known.includes(name));
  if (unknown === undefined) return chosen;
  throw new UsageError(
    `--contenders: "${unknown}" cannot be measured here; what can be: ${known.join(", ")}`,
  );
}

/** Returns the exit code: measurements are not verdicts, so 0 once they are made. */
export async function benchFsCommand(options: BenchFsCommand, style: Style): Promise<number> {
  const [first = 0, second] = allowedCpus();
  const placements: Placement[] = second === undefined ? ["together"] : ["apart", "together"];
  const chosen = placements.filter((placement) => (options.placement ?? placement) === placement);
  if (chosen.length === 0) throw new UsageError("--placement apart needs two CPUs");
  const peer = checkedPeer(options.peer);
  const repetitions = parseCount("--repetitions", options.repetitions, 1, MAX_REPETITIONS);
  const groups = checkedGroups(options.rows);
  const only = checkedContenders(options.contenders, peer);
  const parent = checkedFolder(options.folder ?? (existsSync(TMPFS) ? TMPFS : tmpdir()));
  const json = openJson<BenchFsLine>(options.json);
  const progress = openStatusLine();
  const life = { command: "daxfault bench fs", soFar: () => "nothing was left mounted", parent };
  return liveInFolder(life, async ({ directory, signal }) => {
    try {
      const result = await benchFileServer({
        folder: directory.path,
        environment: childEnvironment(directory.path),
        repetitions,
        placements: chosen,
        cpus: [first, second ?? first],
        peer,
        groups,
        only,
        signal,
        progress: progress.show,
      });
      progress.clear();
      json.write({ type: "bench", name: "fs", ...result });
      if (!json.isStdout) console.log(benchFsText(result, style));
      return exitCodes.ok;
    } finally {
      progress.clear();
    }
  });
}

const WHERE: Readonly<Record<Placement, string>> = {
  apart: "client and server on a CPU each",
  together: "client and server on the same CPU",
};

/** The result as text. */
export function benchFsText(result: BenchResult, style: Style): string {
  const parts = [
    `${result.repetitions} repetitions, medians, sources on ${result.sourceType}. In brackets: times as good as the rival.`,
  ];
  for (const { name, against } of result.contenders) {
    if (against !== null) parts.push(`  ${name}: against ${against}`);
  }
  for (const { name, reason } of result.absent) parts.push(`  ${name}: not measured: ${reason}`);
  for (const placement of result.placements) {
    parts.push("", style.bold(WHERE[placement.placement]));
    for (const piece of cutGrid(placementGrid(result, placement), style.widthColumns))
      parts.push(renderGrid(piece, style));
    parts.push(peaks(placement));
  }
  return parts.join("\n");
}

function placementGrid(result: BenchResult, placement: PlacementResult): Grid {
  const measured = Object.values(placement.figures);
  const rows = (Object.entries(ROWS) as [RowName, (typeof ROWS)[RowName]][]).filter(([row]) =>
    measured.some((figures) => figures[row] !== undefined),
  );
  return {
    head: ["", ...result.contenders.map(({ name }) => name)],
    rows: rows.map(([row, { title, unit }]) => [
      [`${title} (${unit})`],
      ...result.contenders.map(({ name }) => {
        const figure = placement.figures[name]?.[row];
        if (figure === undefined) return [];
        const ratio = figure.ratio === null ? "" : ` (${figure.ratio.toFixed(2)})`;
        return [`${figure.median.toFixed(unit === "us" ? 1 : 0)}${ratio}`];
      }),
    ]),
  };
}

function peaks({ figures, peakRssBytes, copied }: PlacementResult): string {
  const jobs = Object.entries(figures).flatMap(([name, { random, random4 }]) =>
    random === undefined || random4 === undefined
      ? []
      : [`${name} ${(random4.median / random.median).toFixed(2)}`],
  );
  const each = Object.entries(peakRssBytes).map(
    ([name, bytes]) => `${name} ${Math.round(bytes / 2 ** 20)} MiB`,
  );
  const ways = Object.entries(copied).map(
    ([name, { large, small }]) => `${name} ${large.toFixed(2)} and ${small.toFixed(2)}`,
  );
  return [
    ...(jobs.length === 0 ? [] : [`random reads of four jobs, times those of one: ${jobs.join(", ")}`]),
    `peak memory: ${each.join(", ")}`,
    `copied into the server's memory for each byte, by 128 KiB and by 4 KiB: ${ways.join(", ")}`,
  ].join("\n");
}
