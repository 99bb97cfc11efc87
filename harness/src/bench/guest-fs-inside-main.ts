/**
 * Runs outside suites and fio on the places of a plan, and writes what came out to a file, a JSON line each. Entry point:
 * the only program of the guest of `bench guest-fs`; beside the guest it does the same on the folder underneath.
 */
import { execFileSync } from "node:child_process";
import {
  appendFileSync,
  closeSync,
  constants,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  writeFileSync,
} from "node:fs";
import { release } from "node:os";
import { join } from "node:path";
import { lackOf, runSuite, type Suite, suites } from "../../../fs-server/src/index.ts";
import { errorText } from "../error-text.ts";
import { FIO_FILE, type FioJob, type InsidePlan, type InsideResult } from "./guest-fs-messages.ts";

const FIO_BOUND_MS = 300_000;
const AGAIN_LOOPS = 4;
/** Level of KERN_WARNING: what is below is worse. */
const WARNING = 4;
const RECORD_BYTES = 8192;

const patterns = ["read", "randread", "write", "randwrite"] as const;
const jobs: readonly FioJob[] = (["psync", "mmap"] as const).flatMap((engine) =>
  patterns.flatMap((pattern): FioJob[] => {
    const cold = { engine, pattern, cache: "cold" } as const;
    return pattern === "read" || pattern === "randread" ? [cold, { ...cold, cache: "again" }] : [cold];
  }),
);

/** Page cache and inodes go, and with the inodes what of them is in a DAX window. */
function dropCaches(): void {
  execFileSync("sync");
  writeFileSync("/proc/sys/vm/drop_caches", "3");
}

function fioArguments(
  folder: string,
  fileBytes: number,
  { engine, pattern, cache }: FioJob,
): readonly string[] {
  const isWrite = pattern.endsWith("write");
  return [
    "--name=job",
    `--directory=${folder}`,
    `--filename=${FIO_FILE}`,
    `--size=${fileBytes}`,
    "--bs=4k",
    `--ioengine=${engine}`,
    `--rw=${pattern}`,
    "--thread",
    "--fallocate=none",
    "--output-format=json",
    ...(isWrite ? ["--end_fsync=1"] : []),
    ...(cache === "again" ? ["--invalidate=0", `--loops=${AGAIN_LOOPS}`] : []),
  ];
}

type FioOutput = { readonly jobs: readonly Readonly<Record<"read" | "write", { readonly iops: number }>>[] };

function operationsPerSecond(text: string, { pattern }: FioJob): number {
  // fio's notes go before the object.
  const { jobs } = JSON.parse(text.slice(text.indexOf("{"))) as FioOutput;
  const iops = jobs[0]?.[pattern.endsWith("write") ? "write" : "read"].iops;
  if (iops === undefined) throw new Error(`fio has no figure in ${text.length} characters of output`);
  return iops;
}

/** The kernel's own messages, from the beginning of its buffer. */
function kernelMessages(): readonly string[] {
  const messages: string[] = [];
  const file = openSync("/dev/kmsg", constants.O_RDONLY | constants.O_NONBLOCK);
  const record = Buffer.alloc(RECORD_BYTES);
  try {
    for (;;) {
      const count = readSync(file, record);
      const [, head = "0", text = ""] = /^(\d+),[^;]*;(.*)$/m.exec(record.toString("utf8", 0, count)) ?? [];
      if ((Number(head) & 7) <= WARNING) messages.push(text);
    }
  } catch {
    // EAGAIN: there are no more.
  } finally {
    closeSync(file);
  }
  return messages;
}

class Inside {
  readonly #plan: InsidePlan;
  readonly #signal = new AbortController().signal;

  constructor(plan: InsidePlan) {
    this.#plan = plan;
  }

  /** On the disk before the next one begins: the machine may die in it. */
  #tell(result: InsideResult): void {
    appendFileSync(this.#plan.results, `${JSON.stringify(result)}\n`);
    const file = openSync(this.#plan.results, "r");
    fsyncSync(file);
    closeSync(file);
  }

  async #suite(suite: Suite): Promise<void> {
    const lacking = lackOf(suite);
    for (const { name, folder } of this.#plan.places) {
      const about = { type: "suite", place: name, suite: suite.name } as const;
      if (lacking !== null) {
        this.#tell({ ...about, complaints: [], skipped: lacking, seconds: 0 });
        continue;
      }
      console.log(`${suite.name} on ${name}`);
      const begun = performance.now();
      const beside = join(this.#plan.beside, name);
      mkdirSync(beside, { recursive: true });
      const { effort } = this.#plan;
      const place = { folder, beside, effort, signal: this.#signal };
      const complaints = await runSuite(suite, place).catch((error) => [`did not run: ${errorText(error)}`]);
      const seconds = (performance.now() - begun) / 1000;
      this.#tell({ ...about, complaints, skipped: null, seconds });
    }
  }

  #fio(job: FioJob, fileBytes: number): void {
    for (const { name, folder } of this.#plan.places) {
      if (job.cache === "cold") dropCaches();
      console.log(`fio ${job.engine} ${job.pattern} ${job.cache} on ${name}`);
      const about = { type: "fio", place: name, ...job } as const;
      try {
        const options = { encoding: "utf8", timeout: FIO_BOUND_MS, cwd: folder } as const;
        const text = execFileSync("fio", [...fioArguments(folder, fileBytes, job)], options);
        this.#tell({ ...about, operationsPerSecond: operationsPerSecond(text, job), problem: null });
      } catch (error) {
        this.#tell({ ...about, operationsPerSecond: null, problem: errorText(error) });
      }
    }
  }

  async run(): Promise<void> {
    const { fio, places } = this.#plan;
    for (const { folder } of places) mkdirSync(folder, { recursive: true });
    const all = suites(null);
    for (const name of this.#plan.suites) {
      const suite = all.find((one) => one.name === name);
      if (suite === undefined) throw new Error(`there is no suite ${name}`);
      await this.#suite(suite);
    }
    for (let round = 0; fio !== null && round < fio.rounds; round += 1) {
      for (const job of jobs) this.#fio(job, fio.fileBytes);
    }
    const [place] = places;
    if (place !== undefined && existsSync("/dev/kmsg")) {
      this.#tell({ type: "kernel", place: place.name, release: release(), messages: kernelMessages() });
    }
    this.#tell({ type: "done" });
  }
}

const [, , plan = ""] = process.argv;
await new Inside(JSON.parse(readFileSync(plan, "utf8")) as InsidePlan).run();
