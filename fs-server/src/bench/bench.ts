/**
 * The measurements of the file server: all contenders in turn, again and again in changing order, client and server
 * pinned the same way for all; medians of the repetitions, and ratios within a repetition, since a noisy machine
 * moves from one to the next. A first round warms all contenders up and is not counted.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { compiledEntry, LostChildError, processState } from "../../../sys/src/index.ts";
import {
  type Absent,
  type Contender,
  contenders,
  type Pins,
  type Placement,
  type Running,
  sourceType,
  started,
} from "./contenders.ts";
import { CONTENT_BYTES, type ContentSize, ROWS, type RowGroup, type RowName, rowsOf } from "./rows.ts";

export type { Placement } from "./contenders.ts";

export type BenchOptions = {
  /** Where sources lie, an empty folder that the caller removes; a tmpfs measures the servers and not a disk. */
  readonly folder: string;
  /** Of every process that is started. */
  readonly environment: Readonly<Record<string, string>>;
  readonly repetitions: number;
  readonly placements: readonly Placement[];
  /** CPU numbers; `together` uses the first alone. */
  readonly cpus: readonly [number, number];
  /** Path of libfuse's passthrough_hp, or null. */
  readonly peer: string | null;
  /** What is measured. */
  readonly groups: readonly RowGroup[];
  /** Of the contenders those with these names and their rivals; null: all. */
  readonly only: readonly string[] | null;
  readonly signal: AbortSignal;
  readonly progress: (line: string) => void;
};

/** One row of one contender. */
export type Figure = {
  readonly median: number;
  /** How many times better than `against`: rates divided, times the other way round. null: it has no rival. */
  readonly ratio: number | null;
};

export type Figures = Readonly<Partial<Record<RowName, Figure>>>;

export type PlacementResult = {
  readonly placement: Placement;
  /** By contender and row, of those that were measured. */
  readonly figures: Readonly<Record<string, Figures>>;
  /** By contender, where it is a server. */
  readonly peakRssBytes: Readonly<Record<string, number>>;
  /** By contender, where it is a server: how much of the content came into its memory. */
  readonly copied: Readonly<Record<string, Copied>>;
};

/**
 * Bytes that the server read into its own memory (rchar of /proc/PID/io, which leaves splice(2) out) for each byte of
 * content that its client wrote and read: 0 is by reference, 1 is one copy in user space.
 */
export type Copied = Readonly<Record<ContentSize, number>>;

export type BenchResult = {
  readonly sourceType: string;
  readonly repetitions: number;
  readonly contenders: readonly { readonly name: string; readonly against: string | null }[];
  readonly absent: readonly Absent[];
  readonly placements: readonly PlacementResult[];
};

type Sample = Readonly<Partial<Record<RowName, number>>>;

/** Runs everything. Nothing is left mounted or running, whatever happens. */
export async function benchFileServer(options: BenchOptions): Promise<BenchResult> {
  const { present: all, absent } = contenders(options.peer);
  const present = options.only === null ? all : chosen(all, options.only);
  const placements: PlacementResult[] = [];
  for (const placement of options.placements) {
    placements.push(await measured(placement, present, options));
  }
  return {
    sourceType: sourceType(options.folder),
    repetitions: options.repetitions,
    contenders: present.map(({ name, against }) => ({ name, against })),
    absent,
    placements,
  };
}

/** The names of all contenders that can run here. */
export function contenderNames(peer: string | null): readonly string[] {
  return contenders(peer).present.map(({ name }) => name);
}

/** Those with these names and their rivals. */
function chosen(all: readonly Contender[], names: readonly string[]): readonly Contender[] {
  const wanted = all.filter(({ name }) => names.includes(name));
  return all.filter(({ name }) =>
    wanted.some((contender) => [contender.name, contender.against].includes(name)),
  );
}

async function measured(
  placement: Placement,
  present: readonly Contender[],
  options: BenchOptions,
): Promise<PlacementResult> {
  const [first, second] = options.cpus;
  const pins = { client: String(first), server: String(placement === "together" ? first : second) };
  const base = mkdtempSync(join(options.folder, "daxfault-bench-"));
  const running: Running[] = [];
  try {
    for (const contender of present) running.push(await started(contender, base, pins, options.environment));
    const samples = new Map<string, Sample[]>(present.map(({ name }) => [name, []]));
    for (let repetition = 0; repetition <= options.repetitions; repetition += 1) {
      const order = repetition % 2 === 0 ? running : running.toReversed();
      for (const server of order) {
        const { name } = server.contender;
        options.progress(`${placement}, round ${repetition} of ${options.repetitions}: ${name}`);
        const sample = JSON.parse(
          await workload(server, ["rows", ...options.groups], pins, options),
        ) as Sample;
        if (repetition > 0) samples.get(name)?.push(sample);
      }
    }
    const copied: Record<string, Copied> = {};
    for (const server of running) {
      if (server.readBytes() === null) continue;
      const large = await copies(server, "large", pins, options);
      copied[server.contender.name] = { large, small: await copies(server, "small", pins, options) };
    }
    return {
      placement,
      figures: Object.fromEntries(
        present.map((contender) => [contender.name, figuresOf(contender, samples, rowsOf(options.groups))]),
      ),
      peakRssBytes: Object.fromEntries(
        running.flatMap(({ contender, peakRssBytes }) => {
          const bytes = peakRssBytes();
          return bytes === null ? [] : [[contender.name, bytes]];
        }),
      ),
      copied,
    };
  } finally {
    for (const server of running) await server.stop();
    rmSync(base, { recursive: true, force: true });
  }
}

function figuresOf(
  { name, against }: Contender,
  samples: ReadonlyMap<string, readonly Sample[]>,
  rows: readonly RowName[],
): Figures {
  const own = samples.get(name) ?? [];
  const rival = against === null ? [] : (samples.get(against) ?? []);
  const figure = (row: RowName): Figure => {
    const ratios = rival.map((sample, repetition) => {
      const mine = own[repetition]?.[row] ?? Number.NaN;
      const its = sample[row] ?? Number.NaN;
      return ROWS[row].better === "higher" ? mine / its : its / mine;
    });
    return {
      median: median(own.map((sample) => sample[row] ?? Number.NaN)),
      ratio: ratios.length === 0 ? null : median(ratios),
    };
  };
  return Object.fromEntries(rows.map((row) => [row, figure(row)]));
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

async function copies(
  server: Running,
  size: ContentSize,
  pins: Pins,
  options: BenchOptions,
): Promise<number> {
  const before = server.readBytes() ?? 0;
  await workload(server, [size], pins, options);
  // Written and read once each, or only read.
  const content = size === "large" ? 2 * CONTENT_BYTES : CONTENT_BYTES;
  return ((server.readBytes() ?? 0) - before) / content;
}

/** Processes are looked at so often; one that is stopped twice running stays so. Job control stops all at once, and us. */
const WATCH_MS = 500;

/** Calls `onLost` with a reason once a process is stopped, or the server has gone. Returns how to stop looking. */
function watchProcesses(client: ChildProcess, server: Running, onLost: (reason: string) => void): () => void {
  let before: string | null = null;
  const timer = setInterval(() => {
    const clientState = client.pid === undefined ? "ending" : processState(client.pid);
    const reason = clientState === "stopped" ? "the workload's process is stopped" : server.lost();
    if (reason !== null && reason === before) onLost(reason);
    before = reason;
  }, WATCH_MS);
  return () => clearInterval(timer);
}

/** The client in a process of its own. Returns what it printed. */
async function workload(
  server: Running,
  args: readonly string[],
  pins: Pins,
  { signal, environment }: BenchOptions,
): Promise<string> {
  signal.throwIfAborted();
  const main = compiledEntry(import.meta.url, "./workload-main.ts").pathname;
  const child: ChildProcess = spawn(
    "taskset",
    ["-c", pins.client, process.execPath, main, server.folder, ...args],
    { stdio: ["ignore", "pipe", "inherit"], env: { ...process.env, ...environment } },
  );
  const stop = (): void => void child.kill("SIGKILL");
  signal.addEventListener("abort", stop, { once: true });
  let lost: string | null = null;
  const unwatch = watchProcesses(child, server, (reason) => {
    lost = reason;
    // A client that waits for a server's answer dies with the connection only.
    server.kill();
    stop();
  });
  let output = "";
  child.stdout?.on("data", (data: Buffer) => {
    output += data.toString();
  });
  const [code, by] = await new Promise<[number | null, string | null]>((done) =>
    child.on("close", (...end) => done(end)),
  );
  unwatch();
  signal.removeEventListener("abort", stop);
  signal.throwIfAborted();
  const { name } = server.contender;
  const reason = lost ?? server.lost() ?? (by === null ? null : `the workload's process was killed by ${by}`);
  if (reason !== null) throw new LostChildError(`${name}: ${reason}`);
  if (code !== 0) throw new Error(`the workload on ${name} ended with ${code}`);
  return output;
}
