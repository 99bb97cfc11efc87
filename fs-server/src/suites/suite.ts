/** What a suite is, where it runs, and how it runs programs: their failures are complaints. */
import { execFile } from "node:child_process";
import { accessSync, constants, mkdirSync } from "node:fs";
import { delimiter, join } from "node:path";
import type { Transport } from "../../../language/src/words.ts";

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
  /** What else this machine lacks for it, and what mends that; null: nothing. */
  readonly lack?: () => string | null;
  /** About content and the page cache: what the modes of `serve` change. */
  readonly isAboutContent: boolean;
  /** A transport on which chance decides what it complains about. */
  readonly notOn?: Transport;
  /** Complaints, the same for the same behaviour: no process ids, no paths of one run. */
  run(place: Place): Promise<readonly string[]>;
};

export type Where = { readonly cwd: string; readonly signal: AbortSignal };

export type Result = { readonly code: number | string; readonly output: string };

/** Runs a program to its end, with `input` as its standard input. Its failure is a result; that it cannot be started, too. */
export async function command(
  program: string,
  args: readonly string[],
  where: Where,
  input = "",
): Promise<Result> {
  return await new Promise((done) => {
    const options = {
      ...where,
      timeout: COMMAND_TIMEOUT_MS,
      killSignal: "SIGKILL" as const,
      maxBuffer: OUTPUT_MAX_BYTES,
    };
    const child = execFile(program, [...args], options, (error, stdout, stderr) => {
      const failed = error as (Error & { code?: number | string; signal?: string }) | null;
      const code = failed === null ? 0 : (failed.code ?? failed.signal ?? failed.message);
      done({ code, output: `${stdout}${stderr}` });
    });
    // A program that ends before it has read all of it says so by its exit code.
    child.stdin?.on("error", () => {});
    child.stdin?.end(input);
  });
}

/** How a command has ended, with its last words. */
export function endText({ code, output }: Result): string {
  return `ends with ${code}: ${output.trim().split("\n").at(-1) ?? ""}`;
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
  return [`${title}: ${endText({ code, output })}`];
}

/** Why a suite cannot run here, and what mends that; null: it can. */
export function lackOf({ needs, lack }: Suite): string | null {
  const folders = (process.env.PATH ?? "").split(delimiter);
  const missing = needs.filter((program) => !folders.some((folder) => isExecutable(join(folder, program))));
  if (missing.length === 0) return lack?.() ?? null;
  return `not installed: ${missing.join(", ")}; scripts/check-posix installs them as root where apt-get is`;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** The suite in two fresh folders below existing ones. */
export async function runSuite(suite: Suite, below: Place): Promise<readonly string[]> {
  const { effort, signal } = below;
  signal.throwIfAborted();
  const label = suite.name.replaceAll(/\W+/g, "-");
  const place = { folder: join(below.folder, label), beside: join(below.beside, label), effort, signal };
  mkdirSync(place.folder);
  mkdirSync(place.beside);
  const complaints = await suite.run(place);
  signal.throwIfAborted();
  return complaints;
}
