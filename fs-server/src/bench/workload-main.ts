/**
 * One workload in one folder, as a process of its own that can be pinned: prints one JSON line of figures.
 * System calls go through koffi for every contender alike, so ratios compare servers, not clients.
 * Usage: workload-main FOLDER WORKLOAD   (seq | random | prepare | metadata | getattr)
 */
import { join } from "node:path";
import { declare, files } from "../../../sys/src/index.ts";
import { succeeded } from "../fs/errors.ts";

const BLOCK_BYTES = 128 * 1024;
const SEQUENTIAL_BYTES = 128 * 2 ** 20;
const RANDOM_BYTES = 64 * 2 ** 20;
const RANDOM_MS = 1500;
const FILES = 1000;
const GETATTRS = 5000;
const FADV_RANDOM = 1;
const FADV_DONTNEED = 4;
/** The server is asked whatever the kernel has cached. */
const AT_STATX_FORCE_SYNC = 0x2000;

const fadvise = declare<(fd: number, offset: bigint, length: bigint, advice: number) => number>(
  "int posix_fadvise(int fd, int64 offset, int64 length, int advice)",
);

type Figures = Record<string, number>;

function seconds(work: () => void): number {
  const started = performance.now();
  work();
  return (performance.now() - started) / 1000;
}

function opened(folder: string, name: string, flags: number): number {
  return succeeded(files.openat(files.AT_FDCWD, files.pathBytes(join(folder, name)), flags, 0o644));
}

function sequential(folder: string): Figures {
  const block = new Uint8Array(BLOCK_BYTES).fill(7);
  const fd = opened(folder, "sequential", files.O_RDWR | files.O_CREAT | files.O_TRUNC);
  const each = (work: (offset: bigint) => number): void => {
    for (let at = 0; at < SEQUENTIAL_BYTES; at += BLOCK_BYTES) succeeded(work(BigInt(at)));
  };
  const write = seconds(() => {
    each((offset) => files.pwrite(fd, block, offset));
    files.close(succeeded(files.dup(fd)));
  });
  succeeded(files.fsync(fd));
  fadvise(fd, 0n, 0n, FADV_DONTNEED);
  const read = seconds(() => each((offset) => files.pread(fd, block, offset)));
  files.close(fd);
  const megabytes = SEQUENTIAL_BYTES / 1e6;
  return { "seq write MB/s": megabytes / write, "seq read MB/s": megabytes / read };
}

function prepare(folder: string): Figures {
  const fd = opened(folder, "random", files.O_RDWR | files.O_CREAT | files.O_TRUNC);
  const block = new Uint8Array(BLOCK_BYTES).fill(9);
  for (let at = 0; at < RANDOM_BYTES; at += BLOCK_BYTES) succeeded(files.pwrite(fd, block, BigInt(at)));
  succeeded(files.fsync(fd));
  files.close(fd);
  return {};
}

function random(folder: string): Figures {
  const fd = opened(folder, "random", files.O_RDONLY);
  fadvise(fd, 0n, 0n, FADV_DONTNEED);
  fadvise(fd, 0n, 0n, FADV_RANDOM);
  const page = new Uint8Array(4096);
  const pages = RANDOM_BYTES / 4096;
  let reads = 0;
  // A stride through all pages, so that none is read twice before the cache is dropped again.
  let index = (process.pid * 7919) % pages;
  const started = performance.now();
  while (performance.now() - started < RANDOM_MS) {
    for (let i = 0; i < 64; i += 1) {
      index = (index + 6_151) % pages;
      succeeded(files.pread(fd, page, BigInt(index * 4096)));
      reads += 1;
    }
    if (reads % pages < 64) fadvise(fd, 0n, 0n, FADV_DONTNEED);
  }
  files.close(fd);
  return { "4K random read IOPS": (reads * 1000) / (performance.now() - started) };
}

function metadata(folder: string): Figures {
  const base = join(folder, `metadata-${process.pid}`);
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
  const list = seconds(() => {
    const fd = opened(base, ".", files.O_DIRECTORY);
    while (succeeded(files.getdents(fd, entries)) > 0);
    files.close(fd);
  });
  const unlink = seconds(() => {
    for (const path of paths) succeeded(files.unlinkat(files.AT_FDCWD, path, 0));
  });
  succeeded(files.unlinkat(files.AT_FDCWD, files.pathBytes(base), files.AT_REMOVEDIR));
  return {
    "create/s": FILES / create,
    "stat/s": FILES / stat,
    "readdir entries/s": FILES / list,
    "unlink/s": FILES / unlink,
  };
}

function getattr(folder: string): Figures {
  const fd = opened(folder, "random", files.O_RDONLY);
  const out = new Uint8Array(files.STATX_BYTES);
  const flags = files.AT_EMPTY_PATH | AT_STATX_FORCE_SYNC;
  const times = new Float64Array(GETATTRS);
  for (let i = -500; i < GETATTRS; i += 1) {
    const started = performance.now();
    succeeded(files.statx(fd, files.EMPTY_PATH, flags, 0x7ff, out));
    if (i >= 0) times[i] = (performance.now() - started) * 1000;
  }
  files.close(fd);
  times.sort();
  const at = (share: number): number => times[Math.floor(GETATTRS * share)] ?? 0;
  return { "getattr p50 us": at(0.5), "getattr p99 us": at(0.99) };
}

const WORKLOADS: Readonly<Record<string, (folder: string) => Figures>> = {
  seq: sequential,
  prepare,
  random,
  metadata,
  getattr,
};

const [folder, name] = process.argv.slice(2);
const workload = WORKLOADS[name ?? ""];
if (folder === undefined || workload === undefined) {
  console.error(`usage: workload-main FOLDER ${Object.keys(WORKLOADS).join("|")}`);
  process.exit(64);
}
console.log(JSON.stringify(workload(folder)));
