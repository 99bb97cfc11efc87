/**
 * The command line, from dist/: as users call it in a process of its own, or in one that carries out many. Starting Node and
 * loading the program takes longer than most commands.
 */
import { execa } from "execa";
import { builtPath } from "../../src/paths.ts";
import { Resident } from "./resident.ts";

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
  readonly pid: number;
  readonly stdout: NodeJS.ReadableStream;
  kill(signal: NodeJS.Signals): void;
  readonly ended: Promise<CliResult>;
};

/** Starts `daxfault ARGS` without waiting for its end. */
export function startCli(args: readonly string[], options: CliOptions = {}): RunningCli {
  const running = execa(process.execPath, [main, ...args], { reject: false, stdin: "ignore", ...options });
  return {
    pid: running.pid ?? 0,
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

/** Runs `daxfault ARGS` in a process of its own: for what is about the process, its streams, or its end. */
export function cliProcess(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  return startCli(args, options).ended;
}

let resident: Resident | null = null;

/**
 * Runs `daxfault ARGS` in the process that this test file keeps for it; in one of its own where it needs another environment,
 * which the program reads once.
 */
export function cli(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  if (options.env !== undefined) return cliProcess(args, options);
  if (resident === null || resident.hasEnded) resident = new Resident();
  return resident.run(args, options.cwd);
}

/** Every line parsed as JSON: fails where standard output holds anything else. */
export function jsonLines(text: string): readonly Readonly<Record<string, unknown>>[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line));
}
