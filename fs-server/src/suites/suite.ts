/** What a suite is, and how it runs programs. */
import { execFile } from "node:child_process";

const COMMAND_TIMEOUT_MS = 600_000;
const OUTPUT_MAX_BYTES = 64 * 2 ** 20;

/** `whole`; or `short`: the same operations, fewer and smaller, where each takes milliseconds (a guest of an emulated CPU). */
export type Effort = "whole" | "short";

export type Place = {
  /** Empty, on the file system that is judged. */
  readonly folder: string;
  /** Empty, on the file system underneath. */
  readonly beside: string;
  readonly effort: Effort;
  /** Ends what runs. */
  readonly signal: AbortSignal;
};

export type Suite = {
  readonly name: string;
  /** Programs that it runs. */
  readonly needs: readonly string[];
  /** Complaints, the same for the same behaviour: no process ids, no paths of one run. */
  run(place: Place): Promise<readonly string[]>;
};

export type Where = { readonly cwd: string; readonly signal: AbortSignal };

export type Result = { readonly code: number | string; readonly output: string };

/** Runs a program to its end. Its failure is a result; that it cannot be started, too. */
export async function command(program: string, args: readonly string[], where: Where): Promise<Result> {
  return await new Promise((done) => {
    const options = {
      ...where,
      timeout: COMMAND_TIMEOUT_MS,
      killSignal: "SIGKILL" as const,
      maxBuffer: OUTPUT_MAX_BYTES,
    };
    execFile(program, [...args], options, (error, stdout, stderr) => {
      const failed = error as (Error & { code?: number | string; signal?: string }) | null;
      const code = failed === null ? 0 : (failed.code ?? failed.signal ?? failed.message);
      done({ code, output: `${stdout}${stderr}` });
    });
  });
}

/** A command that must succeed; the complaint names its last words. */
export async function complaint(
  title: string,
  args: readonly string[],
  where: Where,
): Promise<readonly string[]> {
  const [program = "", ...rest] = args;
  const { code, output } = await command(program, rest, where);
  if (code === 0) return [];
  return [`${title}: ends with ${code}: ${output.trim().split("\n").at(-1) ?? ""}`];
}
