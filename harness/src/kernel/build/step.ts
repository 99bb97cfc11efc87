/** One command of a build: its lines as they come, its last words where it fails, its whole process group gone where it is interrupted. */
import { appendFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { KernelError } from "../error.ts";
import { runGroup } from "../group.ts";

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
export async function runStep(command: readonly string[], options: StepOptions): Promise<void> {
  const { cwd, environment = {}, signal, logPath, onLine, root } = options;
  const { MAKEFLAGS: _, ...inherited } = process.env;
  const lines: string[] = [];
  const first: string[] = [];
  const add = (line: string): void => {
    appendFileSync(logPath, `${line}\n`);
    lines.push(line);
    if (lines.length > LAST_LINES) lines.shift();
    if (first.length > 0 || compilerError.test(line)) if (first.length < FIRST_LINES) first.push(line);
    onLine?.(line);
  };
  const end = await runGroup(command, {
    cwd,
    env: { ...inherited, LC_ALL: "C.UTF-8", ...environment },
    signal,
    read: (...streams) => {
      for (const input of streams) createInterface({ input }).on("line", add);
    },
  });
  const fail = (how: string): never => {
    const words = lastWords(first.length > 0 ? first : lines);
    const said = root === undefined ? words : words.replaceAll(`${root}/`, "");
    throw new KernelError(`${command.slice(0, 6).join(" ")} ${how} (${logPath}):\n${said}`);
  };
  switch (end.kind) {
    case "exit":
      return end.code === 0 ? undefined : fail(`ended with ${end.code}`);
    case "killed":
      return fail(`was killed by ${end.by}`);
    case "timeout":
      return fail("took too long");
    case "interrupted":
      throw new KernelError("the build was interrupted");
    case "not-started":
      throw new KernelError(`${command[0]}: ${end.error.message}`);
  }
}
