/** The command line as users call it: a process of its own, from dist/. */
import { execa } from "execa";
import { builtPath } from "../../src/paths.ts";

const main = builtPath("harness/src/cli/bin.ts");

export type CliResult = {
  readonly code: number | undefined;
  readonly signal: string | undefined;
  readonly stdout: string;
  readonly stderr: string;
};

export type CliOptions = {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
};

export type RunningCli = {
  readonly stdout: NodeJS.ReadableStream;
  kill(signal: NodeJS.Signals): void;
  readonly ended: Promise<CliResult>;
};

/** Starts `daxfault ARGS` without waiting for its end. */
export function startCli(args: readonly string[], options: CliOptions = {}): RunningCli {
  const running = execa(process.execPath, [main, ...args], { reject: false, stdin: "ignore", ...options });
  return {
    stdout: running.stdout,
    kill: (signal) => void running.kill(signal),
    ended: running.then(({ exitCode, signal, stdout, stderr }) => ({
      code: exitCode,
      signal,
      stdout,
      stderr,
    })),
  };
}

export function cli(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  return startCli(args, options).ended;
}

/** Every line parsed as JSON: fails where standard output holds anything else. */
export function jsonLines(text: string): readonly Readonly<Record<string, unknown>>[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line));
}
