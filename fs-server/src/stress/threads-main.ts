/**
 * `threads-main`: what each serving thread of a mount costs in memory. Calls of the source are blocked one by one, each by a
 * lease of this process, and clients work meanwhile; the server starts the threads that it needs. Prints resident memory by
 * number of threads, and what one adds (least squares). Exit codes: 0, 2 nothing could be served or blocked.
 */
import { type ChildProcess, spawn } from "node:child_process";
import {
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { takeWriteLease, threadId } from "../../../sys/src/index.ts";
import { MAX_THREADS } from "../transport/devfuse/crew.ts";
import { type Mounted, mounted } from "./mounted.ts";

/** Serving threads carry this name (transport/devfuse/worker.ts). */
const THREAD_NAME = /^daxfault-serve/;
/** SIGCHLD: what a lease's break sends, and nothing happens. */
const IGNORED_SIGNAL = 17;
const FILES = 200;
const ROUNDS = 5;
const SETTLE_MS = 500;

type Sample = { readonly threads: number; readonly mib: number };

function sampleOf({ pid }: Mounted): Sample {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const names = readdirSync(`/proc/${pid}/task`).map((tid) =>
    readFileSync(`/proc/${pid}/task/${tid}/comm`, "utf8"),
  );
  return {
    threads: names.filter((name) => THREAD_NAME.test(name)).length,
    mib: Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024,
  };
}

/** What a client does: every thread that receives compiles what it needs. */
function work({ folder }: Mounted, after: () => void): void {
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const name of readdirSync(join(folder, "files"))) {
      const path = join(folder, "files", name);
      statSync(path);
      writeFileSync(path, readFileSync(path));
    }
    after();
  }
}

/** Memory that a thread adds, and that there is without any: least squares. */
function line(samples: readonly Sample[]): { readonly each: number; readonly none: number } {
  const mean = (of: (sample: Sample) => number): number =>
    samples.reduce((sum, sample) => sum + of(sample), 0) / samples.length;
  const [threads, mib] = [mean((one) => one.threads), mean((one) => one.mib)];
  const covariance = mean((one) => (one.threads - threads) * (one.mib - mib));
  const each = covariance / mean((one) => (one.threads - threads) ** 2);
  return { each, none: mib - each * threads };
}

async function measured(server: Mounted): Promise<readonly Sample[]> {
  const samples: Sample[] = [];
  const blocked: ChildProcess[] = [];
  await sleep(SETTLE_MS);
  samples.push(sampleOf(server));
  for (let held = 0; held < MAX_THREADS; held += 1) {
    // Where the machine is busy, threads begin without a call that is blocked.
    work(server, () => samples.push(sampleOf(server)));
    await sleep(SETTLE_MS);
    const sample = sampleOf(server);
    console.log(`${held} calls blocked: ${sample.threads} threads, ${sample.mib.toFixed(0)} MiB`);
    if (sample.threads === MAX_THREADS) break;
    const fd = openSync(join(server.source, `held-${held}`), "r+");
    takeWriteLease(fd, { threadId: threadId(), signal: IGNORED_SIGNAL });
    blocked.push(spawn("cat", [join(server.folder, `held-${held}`)], { stdio: "ignore" }));
    await sleep(SETTLE_MS);
  }
  for (const child of blocked) child.kill("SIGKILL");
  return samples;
}

async function main(): Promise<number> {
  const base = mkdtempSync(join(tmpdir(), "daxfault-threads-"));
  const server = await mounted(join(base, "served"), ["--entry-timeout", "0", "--attr-timeout", "0"]);
  try {
    if (typeof server === "string") {
      console.error(server);
      return 2;
    }
    mkdirSync(join(server.source, "files"));
    for (let i = 0; i < FILES; i += 1) writeFileSync(join(server.source, "files", String(i)), "content\n");
    for (let i = 0; i < MAX_THREADS; i += 1) writeFileSync(join(server.source, `held-${i}`), "content\n");
    const samples = await measured(server);
    const { each, none } = line(samples);
    console.log(`each thread ${each.toFixed(1)} MiB, the process without any ${none.toFixed(0)} MiB`);
    return 0;
  } catch (error) {
    console.error((error as Error).message);
    return 2;
  } finally {
    if (typeof server !== "string") await server.stop();
    rmSync(base, { recursive: true, force: true });
  }
}

process.exitCode = await main();
