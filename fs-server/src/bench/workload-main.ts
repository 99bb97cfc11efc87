/**
 * The client of the measurements, a process of its own that can be pinned: `workload-main FOLDER rows GROUP..` does the rows
 * of these groups there once and prints one JSON line of figures, by the names in rows.ts. `workload-main FOLDER large` and
 * `small` only move content, so that its ways can be counted: CONTENT_BYTES written and read, by 128 KiB, or read by 4 KiB.
 * System calls go through koffi for every contender alike, so ratios compare servers, not clients.
 */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { declare, files } from "../../../sys/src/index.ts";
import { succeeded } from "../fs/errors.ts";
import {
  CONTENT_BLOCK_BYTES,
  CONTENT_BYTES,
  type ContentSize,
  ROW_GROUPS,
  type RowGroup,
  type RowName,
} from "./rows.ts";

const BLOCK_BYTES = 128 * 1024;
const SEQUENTIAL_BYTES = 128 * 2 ** 20;
const RANDOM_BYTES = 64 * 2 ** 20;
const RANDOM_MS = 600;
const JOBS = 4;
const FILES = 1500;
/** Least time of a row of short passes: a pass of a few milliseconds measures the scheduler. */
const PASSES_MS = 300;
const GETATTRS = 5000;
const GETATTRS_UNCOUNTED = 1000;
/** What a stream beside small reads writes before it calls fsync(2), again and again for so long. */
const STREAM_MEBIBYTES = 64;
const BESIDE_MS = 1500;
const FADV_RANDOM = 1;
const FADV_DONTNEED = 4;
/** The server is asked whatever the kernel has cached. */
const AT_STATX_FORCE_SYNC = 0x2000;

const fadvise = declare<(fd: number, offset: bigint, length: bigint, advice: number) => number>(
  "int posix_fadvise(int fd, int64 offset, int64 length, int advice)",
);

function seconds(work: () => void): number {
  const started = performance.now();
  work();
  return (performance.now() - started) / 1000;
}

/** Mean seconds of a pass, of as many as take PASSES_MS. */
function secondsOfPasses(pass: () => number): number {
  let passes = 0;
  let total = 0;
  while (total * 1000 < PASSES_MS) {
    total += pass();
    passes += 1;
  }
  return total / passes;
}

function opened(folder: string, name: string, flags: number): number {
  return succeeded(files.openat(files.AT_FDCWD, files.pathBytes(join(folder, name)), flags, 0o644));
}

function sequential(folder: string): { readonly seqWrite: number; readonly seqRead: number } {
  const block = new Uint8Array(BLOCK_BYTES).fill(7);
  const fd = opened(folder, "sequential", files.O_RDWR | files.O_CREAT | files.O_TRUNC);
  const each = (work: (offset: bigint) => number): void => {
    for (let at = 0; at < SEQUENTIAL_BYTES; at += BLOCK_BYTES) succeeded(work(BigInt(at)));
  };
  const write = secondsOfPasses(() =>
    seconds(() => {
      each((offset) => files.pwrite(fd, block, offset));
      // Cached writes are written out now, and count.
      succeeded(files.fsync(fd));
    }),
  );
  const read = secondsOfPasses(() => {
    fadvise(fd, 0n, 0n, FADV_DONTNEED);
    return seconds(() => each((offset) => files.pread(fd, block, offset)));
  });
  files.close(fd);
  const megabytes = SEQUENTIAL_BYTES / 1e6;
  return { seqWrite: megabytes / write, seqRead: megabytes / read };
}

function prepareRandom(folder: string): void {
  for (let job = 0; job < JOBS; job += 1) {
    const fd = opened(folder, `random-${job}`, files.O_RDWR | files.O_CREAT | files.O_TRUNC);
    const block = new Uint8Array(BLOCK_BYTES).fill(9);
    for (let at = 0; at < RANDOM_BYTES; at += BLOCK_BYTES) succeeded(files.pwrite(fd, block, BigInt(at)));
    succeeded(files.fsync(fd));
    files.close(fd);
  }
}

/** Reads of single pages that are not cached, for RANDOM_MS. Returns reads per second. */
function random(folder: string, job: number): number {
  const fd = opened(folder, `random-${job}`, files.O_RDONLY);
  fadvise(fd, 0n, 0n, FADV_DONTNEED);
  fadvise(fd, 0n, 0n, FADV_RANDOM);
  const page = new Uint8Array(4096);
  const pages = RANDOM_BYTES / 4096;
  let reads = 0;
  let index = job * 7919;
  const started = performance.now();
  while (performance.now() - started < RANDOM_MS) {
    for (let i = 0; i < 64; i += 1) {
      // A stride through all pages, so that none is read twice before the cache is dropped again.
      index = (index + 6151) % pages;
      succeeded(files.pread(fd, page, BigInt(index * 4096)));
      reads += 1;
    }
    if (reads % pages < 64) fadvise(fd, 0n, 0n, FADV_DONTNEED);
  }
  const rate = (reads * 1000) / (performance.now() - started);
  files.close(fd);
  return rate;
}

/** Four at once, each on a thread and a file of its own, begun together. */
async function randomJobs(folder: string): Promise<number> {
  const gate = new Int32Array(new SharedArrayBuffer(4));
  const jobs = Array.from({ length: JOBS }, (_, job) => {
    const worker = new Worker(new URL(import.meta.url), { workerData: { folder, job, gate } });
    const ready = new Promise((done) => worker.once("message", done));
    return { worker, ready };
  });
  await Promise.all(jobs.map(({ ready }) => ready));
  const rates = jobs.map(
    ({ worker }) =>
      new Promise<number>((done, failed) => {
        worker.once("message", done);
        worker.once("error", failed);
      }),
  );
  Atomics.store(gate, 0, 1);
  Atomics.notify(gate, 0);
  return (await Promise.all(rates)).reduce((sum, rate) => sum + rate, 0);
}

/** The file that `large` made is read by `small`. */
function moveContent(folder: string, size: ContentSize): void {
  const fd = opened(folder, "content", files.O_RDWR | files.O_CREAT);
  const block = new Uint8Array(CONTENT_BLOCK_BYTES[size]).fill(5);
  const each = (work: (offset: bigint) => number): void => {
    for (let at = 0; at < CONTENT_BYTES; at += block.length) succeeded(work(BigInt(at)));
  };
  if (size === "large") {
    each((offset) => files.pwrite(fd, block, offset));
    succeeded(files.fsync(fd));
  } else fadvise(fd, 0n, 0n, FADV_RANDOM);
  fadvise(fd, 0n, 0n, FADV_DONTNEED);
  each((offset) => files.pread(fd, block, offset));
  files.close(fd);
}

type Job = { readonly folder: string; readonly job: number; readonly gate: Int32Array };

function randomJob({ folder, job, gate }: Job): void {
  parentPort?.postMessage("ready");
  Atomics.wait(gate, 0, 0);
  parentPort?.postMessage(random(folder, job));
}

type Metadata = Pick<Record<RowName, number>, "create" | "stat" | "readdir" | "unlink">;

function metadata(folder: string): Metadata {
  const base = join(folder, "metadata");
  succeeded(files.mkdirat(files.AT_FDCWD, files.pathBytes(base), 0o755));
  const paths = Array.from({ length: FILES }, (_, i) => files.pathBytes(join(base, `file-${i}`)));
  const out = new Uint8Array(files.STATX_BYTES);
  const create = seconds(() => {
    for (const path of paths) {
      files.close(succeeded(files.openat(files.AT_FDCWD, path, files.O_CREAT | files.O_WRONLY, 0o644)));
    }
  });
  const stat = seconds(() => {
    for (const path of paths) succeeded(files.statx(files.AT_FDCWD, path, AT_STATX_FORCE_SYNC, 0x7ff, out));
  });
  const entries = new Uint8Array(32 * 1024);
  const list = secondsOfPasses(() => {
    // A change of the folder, without which the client's kernel would list it from its own cache.
    files.close(opened(base, "passing", files.O_CREAT | files.O_WRONLY));
    succeeded(files.unlinkat(files.AT_FDCWD, files.pathBytes(join(base, "passing")), 0));
    return seconds(() => {
      const fd = opened(base, ".", files.O_DIRECTORY);
      while (succeeded(files.getdents(fd, entries)) > 0);
      files.close(fd);
    });
  });
  const unlink = seconds(() => {
    for (const path of paths) succeeded(files.unlinkat(files.AT_FDCWD, path, 0));
  });
  succeeded(files.unlinkat(files.AT_FDCWD, files.pathBytes(base), files.AT_REMOVEDIR));
  return {
    create: FILES / create,
    stat: FILES / stat,
    readdir: FILES / list,
    unlink: FILES / unlink,
  };
}

function getattr(folder: string): { readonly getattrP50: number; readonly getattrP99: number } {
  const fd = opened(folder, "random-0", files.O_RDONLY);
  const out = new Uint8Array(files.STATX_BYTES);
  const flags = files.AT_EMPTY_PATH | AT_STATX_FORCE_SYNC;
  const times = new Float64Array(GETATTRS);
  for (let i = -GETATTRS_UNCOUNTED; i < GETATTRS; i += 1) {
    const started = performance.now();
    succeeded(files.statx(fd, files.EMPTY_PATH, flags, 0x7ff, out));
    if (i >= 0) times[i] = (performance.now() - started) * 1000;
  }
  files.close(fd);
  times.sort();
  const at = (share: number): number => times[Math.floor(GETATTRS * share)] ?? Number.NaN;
  return { getattrP50: at(0.5), getattrP99: at(0.99) };
}

/** A process that writes to the folder and calls fsync(2), over and over, until it is stopped. */
function streaming(folder: string): { stop(): Promise<void> } {
  const dd = `dd if=/dev/zero of="$1" bs=1M count=${STREAM_MEBIBYTES} conv=fsync 2>/dev/null`;
  const child = spawn("sh", ["-c", `while ${dd}; do :; done`, "sh", join(folder, "stream")], {
    stdio: "ignore",
    detached: true,
  });
  const ended = new Promise<void>((done) => child.once("exit", () => done()));
  return {
    stop: async () => {
      // The group: the shell and its dd, whose write ends first.
      process.kill(-(child.pid ?? 0), "SIGTERM");
      await ended;
    },
  };
}

/** Small files that are opened and read beside a stream of writes: how long each one takes. */
async function besideStream(folder: string): Promise<{ besideP99: number; besideMax: number }> {
  const stream = streaming(folder);
  const times: number[] = [];
  const page = new Uint8Array(4096);
  const pages = RANDOM_BYTES / 4096;
  const path = files.pathBytes(join(folder, "random-1"));
  const begun = performance.now();
  for (let index = 0; performance.now() - begun < BESIDE_MS; ) {
    index = (index + 6151) % pages;
    const started = performance.now();
    const fd = succeeded(files.openat(files.AT_FDCWD, path, files.O_RDONLY));
    fadvise(fd, 0n, 0n, FADV_RANDOM);
    fadvise(fd, BigInt(index * 4096), 4096n, FADV_DONTNEED);
    succeeded(files.pread(fd, page, BigInt(index * 4096)));
    files.close(fd);
    times.push((performance.now() - started) * 1000);
    // Not a load of its own: a request now and then, as of somebody who types.
    await new Promise((done) => setTimeout(done, 1));
  }
  await stream.stop();
  const sorted = times.toSorted((a, b) => a - b);
  return {
    besideP99: sorted[Math.floor(sorted.length * 0.99)] ?? Number.NaN,
    besideMax: sorted.at(-1) ?? Number.NaN,
  };
}

const isGroup = (name: string): name is RowGroup => name in ROW_GROUPS;

type Rows = Partial<Record<RowName, number>>;

const WORK: { readonly [G in RowGroup]: (folder: string) => Rows | Promise<Rows> } = {
  sequential,
  random: async (folder) => ({ random: random(folder, 0), random4: await randomJobs(folder) }),
  metadata,
  getattr,
  beside: besideStream,
};

async function rows(folder: string, groups: readonly RowGroup[]): Promise<Rows> {
  prepareRandom(folder);
  const figures: Rows = {};
  for (const group of groups) Object.assign(figures, await WORK[group](folder));
  return figures;
}

if (isMainThread) {
  const [folder, what, ...groups] = process.argv.slice(2);
  if (folder === undefined || (what !== "large" && what !== "small" && what !== "rows")) {
    console.error("usage: workload-main FOLDER large|small|rows [GROUP..]");
    process.exit(64);
  }
  if (what !== "rows") moveContent(folder, what);
  else console.log(JSON.stringify(await rows(folder, groups.filter(isGroup))));
} else randomJob(workerData as Job);
