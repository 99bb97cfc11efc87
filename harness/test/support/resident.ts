/** A process that carries out command lines of daxfault (`resident-main.mjs`): one at a time, in the order of the calls. */
import { type ChildProcess, fork } from "node:child_process";
import { mkdtempSync, openSync, readSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { builtPath } from "../../src/paths.ts";
import type { CliResult } from "./cli.ts";

/** A file that one stream of the process goes to, read from where the last command ended. */
class Stream {
  readonly fd: number;
  #at = 0;

  constructor(path: string) {
    this.fd = openSync(path, "a+");
  }

  /** What was written since the last call, without the last line's end. */
  take(): string {
    const parts: Buffer[] = [];
    for (;;) {
      const part = Buffer.alloc(1 << 16);
      const length = readSync(this.fd, part, 0, part.length, this.#at);
      if (length === 0) return Buffer.concat(parts).toString("utf8").replace(/\n$/, "");
      parts.push(part.subarray(0, length));
      this.#at += length;
    }
  }
}

export class Resident {
  readonly #child: ChildProcess;
  readonly #stdout: Stream;
  readonly #stderr: Stream;
  /** Settles when the last command that was asked for has ended. */
  #last: Promise<unknown> = Promise.resolve();

  constructor() {
    const folder = mkdtempSync(join(tmpdir(), "daxfault-resident-"));
    this.#stdout = new Stream(join(folder, "stdout"));
    this.#stderr = new Stream(join(folder, "stderr"));
    // Both are open: their names are of no use any more.
    rmSync(folder, { recursive: true });
    const program = pathToFileURL(builtPath("harness/src/cli/command-line.ts")).href;
    this.#child = fork(fileURLToPath(new URL("resident-main.mjs", import.meta.url)), [program], {
      stdio: ["ignore", this.#stdout.fd, this.#stderr.fd, "ipc"],
      // This process's own flags (the test runner's) are not the child's. `run` keeps the young generation as small as it is.
      execArgv: ["--min-semi-space-size=16"],
      env: environment(),
    });
    // It ends when this process closes the channel by ending; a test runner's worker waits for nothing then.
    this.#child.unref();
    this.#child.channel?.unref();
  }

  /** It cannot carry out another command: a command has ended it. */
  get hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  run(args: readonly string[], cwd: string | undefined): Promise<CliResult> {
    const result = this.#last.then(() => this.#carryOut(args, cwd));
    this.#last = result.catch(() => {});
    return result;
  }

  #carryOut(args: readonly string[], cwd: string | undefined): Promise<CliResult> {
    return new Promise((resolve) => {
      const child = this.#child;
      const settle = (code: number | undefined, signal: string | undefined): void => {
        child.off("message", onMessage);
        child.off("exit", onExit);
        child.channel?.unref();
        resolve({ code, signal, stdout: this.#stdout.take(), stderr: this.#stderr.take() });
      };
      const onMessage = (message: unknown): void =>
        settle((message as { readonly code: number }).code, undefined);
      const onExit = (code: number | null, signal: string | null): void =>
        settle(code ?? undefined, signal ?? undefined);
      child.on("message", onMessage);
      child.on("exit", onExit);
      child.channel?.ref();
      child.send({ args, cwd });
    });
  }
}

/** This process's, without what a test runner adds for Node. */
function environment(): NodeJS.ProcessEnv {
  const { NODE_OPTIONS: _options, ...env } = process.env;
  return env;
}
