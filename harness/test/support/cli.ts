/** The command line as users call it: a process of its own, from dist/. */
import { execa, type ResultPromise } from "execa";
import { builtPath } from "../../src/paths.ts";

const main = builtPath("harness/src/cli/main.ts");

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

export type RunningCli = ResultPromise<CliOptions & { readonly reject: false; readonly stdin: "ignore" }>;

/** Starts `daxfault ARGS` without waiting for its end. */
export function startCli(args: readonly string[], options: CliOptions = {}): RunningCli {
  return execa(process.execPath, [main, ...args], { reject: false, stdin: "ignore", ...options });
}

export async function cli(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  const { exitCode, signal, stdout, stderr } = await startCli(args, options);
  return { code: exitCode, signal, stdout, stderr };
}

/** Every line parsed as JSON: fails where standard output holds anything else. */
export function jsonLines(text: string): readonly Readonly<Record<string, unknown>>[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line));
}
