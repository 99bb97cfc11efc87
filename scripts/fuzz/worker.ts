/** A worker process as the parent sees it: it answers in time, or is ended and said to hang; a new one takes its place. */
import { type ChildProcess, fork } from "node:child_process";
import { closeSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { openCapture, PROCESS_WALL_MS } from "./carry-out.ts";
import type { FuzzInput, FuzzResult } from "./input.ts";
import { Kitchen, makeInput } from "./kinds.ts";
import { Random } from "./random.ts";
import type { Seeds } from "./seeds.ts";
import type { WorkerReply, WorkerRequest } from "./worker-main.ts";

/** An input that takes more is a hang: of CPU time, and of time where nothing is computed. */
const HANG_CPU_MS = 5_000;
const HANG_WALL_MS: number = PROCESS_WALL_MS + 30_000;
const POLL_MS = 500;
const TICK_MS = 10;
/** Each loads the program's entry again, and keeps it. */
const INPUTS_MAX = 300;

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
    const [stdout, stderr] = [openCapture(join(root, "stdout")), openCapture(join(root, "stderr"))];
    const child = fork(
      fileURLToPath(new URL("worker-main.js", import.meta.url)),
      [root, seedsPath, String(seed), only ?? ""],
      {
        stdio: ["ignore", stdout, stderr, "ipc"],
        execArgv: ["--max-old-space-size=1024"],
        env: {
          ...process.env,
          TMPDIR: join(root, "tmp"),
          HOME: root,
          XDG_CACHE_HOME: join(root, "cache"),
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
  #ready(): ChildProcess {
    if (this.#child !== null && this.#inputs >= INPUTS_MAX) this.#end();
    this.#child ??= this.#start();
    this.#inputs += 1;
    return this.#child;
  }

  #end(): void {
    this.#child?.kill("SIGKILL");
    this.#child = null;
    rmSync(join(this.#options.root, "tmp"), { recursive: true, force: true });
  }

  /** The input of a number, made here: the worker that had it does not answer any more. */
  #inputOf(request: WorkerRequest): FuzzInput {
    if (request.kind === "input") return request.input;
    const { seedsPath, seed, only } = this.#options;
    this.#kitchen ??= new Kitchen(JSON.parse(readFileSync(seedsPath, "utf8")) as Seeds);
    return makeInput(Random.of(seed, request.index), this.#kitchen, only);
  }

  #lost(request: WorkerRequest, problem: string): WorkerReply {
    const input = this.#inputOf(request);
    this.#end();
    return { input, result: { kind: input.kind, code: null, problems: [problem] } };
  }

  async ask(request: WorkerRequest): Promise<WorkerReply> {
    const child = this.#ready();
    const beganMs = performance.now();
    const cpuMs = cpuMsOf(child.pid);
    return await new Promise<WorkerReply>((resolve) => {
      const settle = (reply: WorkerReply): void => {
        clearInterval(watchdog);
        child.off("message", settle);
        child.off("exit", died);
        resolve(reply);
      };
      const died = (code: number | null, signal: string | null): void => {
        const text = readFileSync(join(this.#options.root, "stderr"), "utf8").trim().slice(-1500);
        settle(this.#lost(request, `the process ended (${signal ?? code}): ${text}`));
      };
      const watchdog = setInterval(() => {
        const spentMs = cpuMsOf(child.pid) - cpuMs;
        const wallMs = performance.now() - beganMs;
        if (spentMs < HANG_CPU_MS && wallMs < HANG_WALL_MS) return;
        const figures = `${(spentMs / 1000).toFixed(1)} s of CPU time in ${(wallMs / 1000).toFixed(1)} s`;
        child.off("exit", died);
        settle(this.#lost(request, `hangs: ${figures}`));
      }, POLL_MS);
      child.on("message", settle);
      child.on("exit", died);
      child.send(request);
    });
  }

  end(): void {
    this.#child?.removeAllListeners("exit");
    this.#end();
  }
}
