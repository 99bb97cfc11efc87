/** One command of a build: its lines as they come, its last words where it fails, its whole process group gone where it is interrupted. */
import { spawn } from "node:child_process";
import { appendFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { KernelError } from "../error.ts";

export type StepOptions = {
  readonly cwd: string;
  readonly environment?: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
  /** All output is appended there. */
  readonly logPath: string;
  readonly onLine?: (line: string) => void;
  /** A folder that is left out of what the command has said where it fails. */
  readonly root?: string;
};

/** Kept of a command that fails. */
const LAST_LINES = 40;
/** Of the compiler's first error. */
const FIRST_LINES = 3;
const telling = /no space left on device|\berror\b|Error [0-9]|not found|cannot|undefined reference/i;

/** gcc's, with its place. Others may come behind it, until make has ended all that runs. */
const compilerError = /:[0-9]+:(?:[0-9]+:)? (?:fatal )?error: /;

/** What a command that failed has said: the first line that tells, with the next two, which show the place; else its last line. */
export function lastWords(lines: readonly string[]): string {
  const said = lines.map((line) => line.trimEnd()).filter((line) => line !== "");
  const at = said.findIndex((line) => telling.test(line));
  return (at < 0 ? said.slice(-1) : said.slice(at, at + 3)).join("\n");
}

/** Rejects with a KernelError where the command fails, cannot be started or is interrupted. */
export function runStep(command: readonly string[], options: StepOptions): Promise<void> {
  const { cwd, environment = {}, signal, logPath, onLine, root } = options;
  const [program = "", ...args] = command;
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(new KernelError("the build was interrupted"));
    const { MAKEFLAGS: _, ...inherited } = process.env;
    const child = spawn(program, args, {
      cwd,
      env: { ...inherited, LC_ALL: "C.UTF-8", ...environment },
      stdio: ["ignore", "pipe", "pipe"],
      // A group of its own: make's compilers end with it.
      detached: true,
    });
    const lines: string[] = [];
    const first: string[] = [];
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on("line", (line) => {
        appendFileSync(logPath, `${line}\n`);
        lines.push(line);
        if (lines.length > LAST_LINES) lines.shift();
        if (first.length > 0 || compilerError.test(line)) if (first.length < FIRST_LINES) first.push(line);
        onLine?.(line);
      });
    }
    const end = (): void => {
      if (child.pid === undefined) return;
      try {
        process.kill(-child.pid, "SIGKILL");
      } catch {
        // It has ended.
      }
    };
    signal.addEventListener("abort", end, { once: true });
    const settle = (error: KernelError | null): void => {
      signal.removeEventListener("abort", end);
      if (error === null) resolve();
      else reject(error);
    };
    child.on("error", (error) => settle(new KernelError(`${program}: ${error.message}`)));
    child.on("close", (code, by) => {
      if (signal.aborted) return settle(new KernelError("the build was interrupted"));
      if (code === 0) return settle(null);
      const how = code === null ? `was killed by ${by}` : `ended with ${code}`;
      const words = lastWords(first.length > 0 ? first : lines);
      const said = root === undefined ? words : words.replaceAll(`${root}/`, "");
      settle(new KernelError(`${command.slice(0, 6).join(" ")} ${how} (${logPath}):\n${said}`));
    });
  });
}
