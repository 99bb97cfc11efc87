/** A process that makes a file shorter, asked in words: truncating-process.mjs. */
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface, type Interface } from "node:readline";
import { onTestFinished } from "vitest";
import { packagePath } from "../../src/paths.ts";

export type Tried = {
  /** How often each errno came; `done`: none. */
  readonly errnos: Readonly<Record<string, number>>;
  readonly sizeBytes: number;
};

export class Truncating {
  readonly child: ChildProcess;
  #onLine: (line: string) => void = () => {};
  #onEnd: (error: Error) => void = () => {};

  private constructor(child: ChildProcess, lines: Interface) {
    this.child = child;
    lines.on("line", (line) => this.#onLine(line));
    lines.on("close", () => this.#onEnd(new Error("the truncater has ended")));
  }

  /** It has the file open from now on. @param mounted the same file by a mount */
  static async start(path: string, mounted = "-"): Promise<Truncating> {
    const program = packagePath("harness/test/support/truncating-process.mjs");
    const child = spawn(process.execPath, [program, path, mounted], { stdio: ["pipe", "pipe", "inherit"] });
    onTestFinished(() => void child.kill("SIGKILL"));
    child.stdin.on("error", () => {});
    const truncating = new Truncating(child, createInterface({ input: child.stdout }));
    await truncating.#line();
    return truncating;
  }

  #line(): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#onLine = resolve;
      this.#onEnd = reject;
    });
  }

  /** Without waiting for what comes of it. */
  begin(way: string, rounds = 1): Promise<Tried> {
    const answer = this.#line().then((line) => JSON.parse(line) as Tried);
    answer.catch(() => {});
    this.child.stdin?.write(`${way} ${rounds}\n`);
    return answer;
  }

  async try(way: string, rounds = 1): Promise<Tried> {
    return await this.begin(way, rounds);
  }
}
