/**
 * The measurements of the file server: contenders interleaved in one run, server and client pinned the same way for
 * all, medians of the repetitions, ratios against the peer (or the underlying folder where there is no peer).
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { detach, isFuseMounted } from "../serve/mount-point.ts";

export type BenchOptions = {
  /** Where sources lie; a tmpfs measures the servers and not a disk. */
  readonly folder: string;
  readonly repetitions: number;
  /** CPU of client and of server. */
  readonly pins: { readonly client: number; readonly server: number };
  /** A rival's command, `{source}` and `{mountpoint}` replaced, staying in the foreground; null: none. */
  readonly peer: string | null;
  /** More arguments for our server, e.g. --passthrough. */
  readonly serverArguments: readonly string[];
  readonly progress: (line: string) => void;
};

export type BenchRow = { readonly name: string; readonly medians: Readonly<Record<string, number>> };
export type BenchResult = {
  readonly rows: readonly BenchRow[];
  readonly contenders: readonly string[];
  /** Peak resident memory of our server. */
  readonly serverPeakMiB: number;
};

type Contender = { readonly name: string; readonly folder: string; readonly server: ChildProcess | null };

const SERVE_MAIN = fileURLToPath(new URL("../serve-main.js", import.meta.url));
const WORKLOAD_MAIN = fileURLToPath(new URL("./workload-main.js", import.meta.url));
const MOUNT_TIMEOUT_MS = 10_000;

function pinned(cpu: number, command: readonly string[]): ChildProcess {
  const child = spawn("taskset", ["-c", String(cpu), ...command], { stdio: ["ignore", "pipe", "inherit"] });
  child.stdout?.resume();
  return child;
}

async function mounted(path: string): Promise<void> {
  const deadline = performance.now() + MOUNT_TIMEOUT_MS;
  while (!isFuseMounted(path)) {
    if (performance.now() > deadline)
      throw new Error(`nothing mounted at ${path} after ${MOUNT_TIMEOUT_MS} ms`);
    await new Promise((done) => setTimeout(done, 20));
  }
}

async function workload(cpu: number, folder: string, name: string): Promise<Record<string, number>> {
  const child = spawn("taskset", ["-c", String(cpu), process.execPath, WORKLOAD_MAIN, folder, name], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let output = "";
  child.stdout.on("data", (data: Buffer) => {
    output += data.toString();
  });
  const code = await new Promise<number | null>((done) => child.on("close", done));
  if (code !== 0) throw new Error(`workload ${name} in ${folder} ended with ${code}`);
  return JSON.parse(output) as Record<string, number>;
}

/** Every row once for one contender. */
async function round(contender: Contender, cpu: number): Promise<Record<string, number>> {
  const { folder } = contender;
  await workload(cpu, folder, "prepare");
  const four = Array.from({ length: 4 }, () => workload(cpu, folder, "random"));
  const parallel = (await Promise.all(four)).map((figures) => figures["4K random read IOPS"] ?? 0);
  return {
    ...(await workload(cpu, folder, "seq")),
    ...(await workload(cpu, folder, "random")),
    "4K random read x4 IOPS": parallel.reduce((sum, iops) => sum + iops, 0),
    ...(await workload(cpu, folder, "metadata")),
    ...(await workload(cpu, folder, "getattr")),
  };
}

async function contenders(base: string, options: BenchOptions): Promise<readonly Contender[]> {
  const place = (name: string): { source: string; mountPoint: string } => {
    const source = join(base, `${name}-source`);
    const mountPoint = join(base, `${name}-mount`);
    mkdirSync(source);
    mkdirSync(mountPoint);
    return { source, mountPoint };
  };
  const result: Contender[] = [{ name: "folder", folder: place("folder").source, server: null }];
  const start = async (name: string, cmd: (at: { source: string; mountPoint: string }) => string[]) => {
    const at = place(name);
    const server = pinned(options.pins.server, cmd(at));
    result.push({ name, folder: at.mountPoint, server });
    await mounted(at.mountPoint);
  };
  await start("devfuse", ({ source, mountPoint }) => [
    process.execPath,
    SERVE_MAIN,
    ...["--source", source, "--mountpoint", mountPoint, ...options.serverArguments],
  ]);
  const { peer } = options;
  if (peer !== null) {
    await start("peer", ({ source, mountPoint }) =>
      peer.split(" ").map((word) => word.replace("{source}", source).replace("{mountpoint}", mountPoint)),
    );
  }
  return result;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}

function peakMiB(pid: number | undefined): number {
  const text = readFileSync(`/proc/${pid}/status`, "utf8");
  return Math.round(Number(/VmHWM:\s+(\d+)/.exec(text)?.[1] ?? 0) / 1024);
}

/** Runs everything and leaves nothing mounted. */
export async function benchFileServer(options: BenchOptions): Promise<BenchResult> {
  const base = mkdtempSync(join(options.folder || tmpdir(), "daxfault-bench-"));
  let all: readonly Contender[] = [];
  try {
    all = await contenders(base, options);
    const samples = new Map<string, Map<string, number[]>>();
    for (let repetition = 1; repetition <= options.repetitions; repetition += 1) {
      for (const contender of all) {
        options.progress(`repetition ${repetition} of ${options.repetitions}: ${contender.name}`);
        for (const [row, value] of Object.entries(await round(contender, options.pins.client))) {
          const byContender = samples.get(row) ?? new Map<string, number[]>();
          byContender.set(contender.name, [...(byContender.get(contender.name) ?? []), value]);
          samples.set(row, byContender);
        }
      }
    }
    const ours = all.find((contender) => contender.name === "devfuse");
    return {
      rows: [...samples].map(([name, values]) => ({
        name,
        medians: Object.fromEntries([...values].map(([who, list]) => [who, median(list)])),
      })),
      contenders: all.map((contender) => contender.name),
      serverPeakMiB: peakMiB(ours?.server?.pid),
    };
  } finally {
    for (const { folder, server } of all) {
      if (server === null) continue;
      detach(folder);
      server.kill("SIGTERM");
    }
    rmSync(base, { recursive: true, force: true });
  }
}

/** The result as text: a row each, the ratio so that above 1 is better for us. */
export function benchTable(result: BenchResult): string {
  const rival = result.contenders.includes("peer") ? "peer" : "folder";
  const lines = result.rows.map(({ name, medians }) => {
    const ours = medians.devfuse ?? 0;
    const theirs = medians[rival] ?? 0;
    const ratio = name.endsWith(" us") ? theirs / ours : ours / theirs;
    const cells = result.contenders.map((who) => (medians[who] ?? 0).toFixed(1).padStart(12));
    return `${name.padEnd(24)}${cells.join("")}${`${ratio.toFixed(2)}x`.padStart(10)}`;
  });
  const head = result.contenders.map((who) => who.padStart(12)).join("");
  const title = `${"".padEnd(24)}${head}${`vs ${rival}`.padStart(10)}`;
  return [title, ...lines, `server's peak memory: ${result.serverPeakMiB} MiB`].join("\n");
}
