/**
 * One run of a command in a folder of its own, and what is left of it. Its processes are recognised by a mark in their
 * environment, which all of them inherit, whatever becomes of those that started them.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { mountsBelow, unmountLazily } from "../../sys/src/index.ts";
import type { Command } from "./commands.ts";

const MARK = "DAXFAULT_ENDS";
const LEFT_BOUND_MS = 5000;
const POLL_MS = 25;
/** After the end: what is left may hold a pipe. */
const PIPE_BOUND_MS = 3000;
const daxfault = fileURLToPath(new URL("../../harness/src/cli/main.js", import.meta.url));

/** Processes that carry the mark. */
function markedProcesses(mark: string): readonly number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").includes(`${MARK}=${mark}`);
      } catch {
        return false;
      }
    })
    .map(Number);
}

/** The entry point that a process runs, `mapper-main`, or its program. */
export function programOf(pid: number): string {
  try {
    const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
    return basename(words.find((word) => word.endsWith("main.js")) ?? words[0] ?? "", ".js");
  } catch {
    return "";
  }
}

export type End = {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly tookMs: number;
};

export type TrialOptions = {
  /** A redirection of the shell, as `>&-`. */
  readonly redirection?: string;
};

export class Trial {
  readonly command: Command;
  /** Everything that the command makes is to lie here. */
  readonly folder: string;
  readonly #temporary: string;
  readonly #child: ChildProcess;
  readonly ended: Promise<End>;
  #stdout = "";
  #stderr = "";
  isOver = false;

  constructor(command: Command, { redirection = "" }: TrialOptions = {}) {
    this.command = command;
    this.folder = mkdtempSync(join(tmpdir(), "daxfault-ends-"));
    this.#temporary = join(this.folder, "tmp");
    mkdirSync(this.#temporary);
    command.prepare?.(this.folder);
    const words = [process.execPath, daxfault, ...command.args];
    const startMs = performance.now();
    // The redirection is the shell's; the words stay what they are.
    this.#child = spawn("/bin/sh", ["-c", `exec "$@" ${redirection}`, "sh", ...words], {
      cwd: this.folder,
      env: { ...process.env, TMPDIR: this.#temporary, [MARK]: this.folder },
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    this.#child.stdout?.on("data", (data: Buffer) => {
      this.#stdout += data.toString();
    });
    this.#child.stderr?.on("data", (data: Buffer) => {
      this.#stderr += data.toString();
    });
    this.ended = new Promise((resolve) => {
      this.#child.on("exit", (code, signal) => {
        this.isOver = true;
        const tookMs = performance.now() - startMs;
        const drained = new Promise((done) => this.#child.once("close", done));
        void Promise.race([drained, sleep(PIPE_BOUND_MS, null, { ref: false })]).then(() =>
          resolve({ code, signal, stdout: this.#stdout, stderr: this.#stderr, tookMs }),
        );
      });
    });
  }

  get stdout(): string {
    return this.#stdout;
  }

  get pid(): number {
    return this.#child.pid ?? -1;
  }

  /** To the command alone, or, as a terminal does, to its process group. */
  kill(signal: NodeJS.Signals, to: "process" | "group"): void {
    if (this.isOver || this.pid <= 1) return;
    try {
      process.kill(to === "group" ? -this.pid : this.pid, signal);
    } catch {
      // It has just ended.
    }
  }

  /** Its processes, those of its own children included. */
  processes(): readonly number[] {
    return markedProcesses(this.folder);
  }

  /** Resolves with the end, or null if there is none within the bound. */
  async endWithin(boundMs: number): Promise<End | null> {
    return await Promise.race([this.ended, sleep(boundMs, null, { ref: false })]);
  }

  #left(): readonly string[] {
    const processes = this.processes().map((pid) => `process ${pid} (${programOf(pid)})`);
    const mounted = mountsBelow(this.folder).map(({ mountpoint }) => `mount ${mountpoint}`);
    const files = mounted.length > 0 ? [] : readdirSync(this.#temporary).map((name) => `TMPDIR/${name}`);
    const allowed = this.command.leaves;
    const beside =
      mounted.length > 0
        ? []
        : readdirSync(this.folder).filter((name) => name !== "tmp" && !allowed.test(name));
    const inside = (this.command.empties ?? []).flatMap((name) =>
      mounted.length > 0 ? [] : readdirSync(join(this.folder, name)).map((file) => `${name}/${file}`),
    );
    return [...processes, ...mounted, ...files, ...beside, ...inside];
  }

  /** What is still there some seconds after the end, one phrase each; then takes it away. */
  async leftovers(): Promise<readonly string[]> {
    const deadlineMs = performance.now() + LEFT_BOUND_MS;
    let left = this.#left();
    while (left.length > 0 && performance.now() < deadlineMs) {
      await sleep(POLL_MS * 2);
      left = this.#left();
    }
    this.#clean();
    return left;
  }

  #clean(): void {
    for (const pid of this.processes()) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // Ended by itself.
      }
    }
    for (const { mountpoint } of mountsBelow(this.folder)) unmountLazily(mountpoint);
    if (mountsBelow(this.folder).length === 0 && existsSync(this.folder)) {
      rmSync(this.folder, { recursive: true, force: true });
    }
  }
}

/** A stack, or the word for what is our own fault: never in the output of a command, whatever is done to it. */
export function defectIn({ code, stdout, stderr }: End): string | null {
  const text = `${stdout}\n${stderr}`;
  const line = text
    .split("\n")
    .find((one) => /^\s+at .*:\d+:\d+\)?$/.test(one) || /defect of daxfault|Unhandled|: defect: /.test(one));
  if (line !== undefined) return `a defect in its output: ${line.trim()}`;
  return code === 70 ? "exit code 70" : null;
}
