/** A worker process as the parent sees it: it answers in time, or is ended and said to hang; a new one takes its place. */
import { type ChildProcess, fork } from "node:child_process";
import { closeSync, constants, mkdirSync, openSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { HANG_CPU_MS, PROCESS_WALL_MS } from "./carry-out.ts";
import type { FuzzInput, FuzzResult } from "./input.ts";
import { Kitchen, makeInput } from "./kinds.ts";
import { Random } from "./random.ts";
import type { Seeds } from "./seeds.ts";
import type { WorkerReply, WorkerRequest } from "./worker-main.ts";

/** Time in which nothing is computed, and nothing comes. */
const HANG_WALL_MS: number = PROCESS_WALL_MS + 30_000;
const POLL_MS = 500;
const TICK_MS = 10;
/** What the program keeps between calls (searches of the model) is dropped by a new process. */
const INPUTS_MAX = 10_000;

export type Finding = { readonly input: FuzzInput; readonly result: FuzzResult };

export type WorkerOptions = {
  /** The worker's own folder. */
  readonly root: string;
  readonly seedsPath: string;
  readonly seed: number;
  readonly only: string | null;
};

/** User and system time of a process, in milliseconds; 0 if it has gone. */
function cpuMsOf(pid: number | undefined): number {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, "latin1")
      .replace(/^.*\) /s, "")
      .split(" ");
    return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
  } catch {
    return 0;
  }
}

/** A file that is a worker's standard output or error. */
function openStream(path: string): number {
  const { O_APPEND, O_CREAT, O_TRUNC, O_WRONLY } = constants;
  return openSync(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0o600);
}

export class Worker {
  readonly #options: WorkerOptions;
  #child: ChildProcess | null = null;
  #inputs = 0;
  #kitchen: Kitchen | null = null;

  constructor(options: WorkerOptions) {
    this.#options = options;
  }

  #start(): ChildProcess {
    const { root, seedsPath, seed, only } = this.#options;
    mkdirSync(join(root, "tmp"), { recursive: true });
    const [stdout, stderr] = [openStream(join(root, "stdout")), openStream(join(root, "stderr"))];
    const child = fork(
      fileURLToPath(new URL("worker-main.js", import.meta.url)),
      [root, seedsPath, String(seed), only ?? ""],
      {
        stdio: ["ignore", stdout, stderr, "ipc"],
        // `run` keeps the young generation as small as it is when it begins.
        execArgv: ["--max-old-space-size=1024", "--min-semi-space-size=16"],
        env: {
          ...process.env,
          TMPDIR: join(root, "tmp"),
          HOME: root,
          XDG_CACHE_HOME: join(root, "cache"),
          XDG_STATE_HOME: join(root, "state"),
          NO_COLOR: "1",
        },
      },
    );
    closeSync(stdout);
    closeSync(stderr);
    this.#inputs = 0;
    return child;
  }

  /** The process that answers next. */
  #ready(inputs: number): ChildProcess {
    if (this.#child !== null && this.#inputs >= INPUTS_MAX) this.#end();
    this.#child ??= this.#start();
    this.#inputs += inputs;
    return this.#child;
  }

  #end(): void {
    this.#child?.kill("SIGKILL");
    this.#child = null;
    rmSync(join(this.#options.root, "tmp"), { recursive: true, force: true });
  }

  /** The input of a number, made here: the worker that had it does not answer any more. */
  #make(index: number): FuzzInput {
    const { seedsPath, seed, only } = this.#options;
    this.#kitchen ??= new Kitchen(JSON.parse(readFileSync(seedsPath, "utf8")) as Seeds);
    return makeInput(Random.of(seed, index), this.#kitchen, only);
  }

  /** Sends the request; `take` gets every reply. Resolves to what ended the worker before it had all, or null. */
  async #send(
    request: WorkerRequest,
    expected: number,
    take: (reply: WorkerReply) => void,
  ): Promise<string | null> {
    const child = this.#ready(expected);
    let beganMs = performance.now();
    let cpuMs = cpuMsOf(child.pid);
    let left = expected;
    return await new Promise<string | null>((resolve) => {
      const settle = (problem: string | null): void => {
        clearInterval(watchdog);
        child.off("message", taken);
        child.off("exit", died);
        if (problem !== null) this.#end();
        resolve(problem);
      };
      const taken = (replies: readonly WorkerReply[]): void => {
        for (const reply of replies) take(reply);
        left -= replies.length;
        beganMs = performance.now();
        cpuMs = cpuMsOf(child.pid);
        if (left === 0) settle(null);
      };
      const died = (code: number | null, signal: string | null): void => {
        const text = readFileSync(join(this.#options.root, "stderr"), "utf8").trim().slice(-1500);
        settle(`the process ended (${signal ?? code}): ${text}`);
      };
      const watchdog = setInterval(() => {
        const spentMs = cpuMsOf(child.pid) - cpuMs;
        const wallMs = performance.now() - beganMs;
        if (spentMs < HANG_CPU_MS && wallMs < HANG_WALL_MS) return;
        settle(`hangs: ${(spentMs / 1000).toFixed(1)} s of CPU time in ${(wallMs / 1000).toFixed(1)} s`);
      }, POLL_MS);
      child.on("message", taken);
      child.on("exit", died);
      child.send(request);
    });
  }

  /** The inputs `from` to `end`, `end` left out; `take` gets each one's reply. */
  async range(from: number, end: number, take: (reply: WorkerReply) => void): Promise<void> {
    let next = from;
    let isSingle = false;
    while (next < end) {
      const to: number = isSingle ? next + 1 : end;
      const problem = await this.#send({ kind: "range", from: next, end: to }, to - next, (reply) => {
        next = reply.index + 1;
        take(reply);
      });
      if (problem === null) continue;
      // The replies of the last moment are lost with the worker: which input it was is seen one by one.
      if (isSingle) {
        take(this.#lost(this.#make(next), next, problem));
        next += 1;
      }
      isSingle = true;
    }
  }

  #lost(input: FuzzInput, index: number, problem: string): WorkerReply {
    return { index, input, result: { kind: input.kind, code: null, problems: [problem] } };
  }

  async carryOut(input: FuzzInput): Promise<FuzzResult> {
    const results: FuzzResult[] = [];
    const problem = await this.#send({ kind: "input", input }, 1, ({ result }) => results.push(result));
    return results[0] ?? this.#lost(input, -1, problem ?? "no reply").result;
  }

  end(): void {
    this.#child?.removeAllListeners("exit");
    this.#end();
  }
}
