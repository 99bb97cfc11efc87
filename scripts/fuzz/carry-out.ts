/** Carries one input out, in this process or in one of its own, and says what of the promises it broke. */
import { spawnSync } from "node:child_process";
import { existsSync, lstatSync, readFileSync, statSync } from "node:fs";
import { join, sep } from "node:path";
import { pathToFileURL } from "node:url";
import { allowedCodes, type FuzzInput, type FuzzResult } from "./input.ts";
import { fileProblem, refusalProblem, stderrProblem, terminalProblem } from "./outputs.ts";
import { changeProblems, type Place } from "./place.ts";
import { callReader } from "./readers.ts";
import type { Streams } from "./write-watch.ts";

const USAGE = 64;
/** Of an output that is looked at; a report of some cases has half a megabyte. */
const OUTPUT_BYTES_MAX = 8 * 1024 * 1024;
/** CPU time and time of a process of its own: it starts Node and runs a case, which may wait. */
const PROCESS_CPU_S = 10;
export const PROCESS_WALL_MS = 120_000;

/** An input that takes more is a hang. */
export const HANG_CPU_MS = 5_000;

/** A change of a file that this process made. */
export type Change = { readonly name: string; readonly place: string };

export type Surroundings = {
  readonly dist: string;
  readonly place: Place;
  /** Switches `write-watch.ts` on and off. */
  readonly watch: (isOn: "on" | "off") => void;
  readonly streams: Streams;
  /** The changes since the last call. */
  readonly takeChanges: () => readonly Change[];
};

type Answer = { readonly code: number | null; readonly stdout: string; readonly stderr: string };

/** The program's command line, as a module: loaded once, so that what it keeps between calls is fuzzed as well. */
async function callMain({ dist, streams }: Surroundings, argv: readonly string[]): Promise<Answer> {
  const path = join(dist, "harness/src/cli/command-line.js");
  const { commandLine } = (await import(pathToFileURL(path).href)) as {
    readonly commandLine: (argv: readonly string[]) => Promise<void>;
  };
  process.exitCode = undefined;
  await commandLine([process.execPath, path, ...argv]);
  const code = Number(process.exitCode ?? 0);
  process.exitCode = undefined;
  return { code, ...streams.take() };
}

function callProcess({ dist, place }: Surroundings, argv: readonly string[]): Answer {
  const main = join(dist, "harness/src/cli/main.js");
  const { status, signal, stdout, stderr } = spawnSync(
    "sh",
    ["-c", `ulimit -t ${PROCESS_CPU_S}; exec "$@"`, "sh", process.execPath, main, ...argv],
    {
      cwd: place.folder,
      stdio: ["ignore", "pipe", "pipe"],
      encoding: "utf8",
      timeout: PROCESS_WALL_MS,
      killSignal: "SIGKILL",
      maxBuffer: OUTPUT_BYTES_MAX,
    },
  );
  return { code: status, stdout, stderr: signal === null ? stderr : `${stderr}ended by ${signal}\n` };
}

async function answerOf(around: Surroundings, { call, isProcess }: FuzzInput): Promise<Answer> {
  if (call.kind === "reader")
    return { stdout: "", ...(await callReader(around.dist, call.reader, call.argv)) };
  return isProcess ? callProcess(around, call.argv) : callMain(around, call.argv);
}

/** A script of a bundle, run with a `daxfault` that writes nothing: it must parse, and call that one program. */
function scriptProblem(folder: string): string | null {
  const script = join(folder, "repro.sh");
  // What the input put there in its place is not the program's.
  if (lstatSync(script, { throwIfNoEntry: false })?.isFile() !== true) return null;
  const { status, stdout, stderr } = spawnSync("sh", [script], {
    cwd: folder,
    env: { PATH: process.env.PATH ?? "", DAXFAULT: "echo called" },
    encoding: "utf8",
    timeout: PROCESS_WALL_MS,
  });
  if (status !== 0) return `repro.sh ends with ${status}: ${stderr.slice(0, 200)}`;
  return /^called run [^\n]*\n$/.test(stdout)
    ? null
    : `repro.sh calls something else: ${stdout.slice(0, 200)}`;
}

function outputProblems(place: Place, outputs: readonly string[]): readonly string[] {
  return outputs.flatMap((output) => {
    const path = join(place.folder, output);
    if (!existsSync(path)) return [];
    const status = statSync(path);
    if (status.isDirectory()) {
      const problem = scriptProblem(path);
      return problem === null ? [] : [`${output}/: ${problem}`];
    }
    if (status.size > OUTPUT_BYTES_MAX) return [`${output} has ${status.size} bytes`];
    const problem = fileProblem(output, readFileSync(path, "utf8"));
    return problem === null ? [] : [`${output}: ${problem}`];
  });
}

function answerProblems({ code, stdout, stderr }: Answer, isStdoutData: boolean): readonly string[] {
  const problems: string[] = [];
  if (code === null || !allowedCodes.includes(code)) {
    problems.push(`exit code ${code}: ${stderr.trim().slice(0, 600)}`);
  }
  const out = isStdoutData ? null : terminalProblem(stdout);
  const error = stderrProblem(stderr);
  if (out !== null) problems.push(`standard output: ${out}`);
  if (error !== null && problems.length === 0) problems.push(`standard error: ${error}`);
  if (code === USAGE) {
    const refusal = refusalProblem(stderr);
    if (refusal !== null) problems.push(refusal);
  }
  return problems;
}

/** By what the calls of node:fs did: what is outside of the places that may change at all. */
function changesElsewhere({ place }: Surroundings, changes: readonly Change[]): readonly string[] {
  const inside = [place.folder, place.temporary].map((folder) => folder + sep);
  const elsewhere = changes.filter(
    (change) =>
      !change.place.startsWith("/dev/") && !inside.some((folder) => change.place.startsWith(folder)),
  );
  return elsewhere.map((change) => `written elsewhere: ${change.name} ${change.place}`);
}

async function answered(around: Surroundings, input: FuzzInput): Promise<Answer> {
  around.takeChanges();
  around.streams.take();
  around.watch("on");
  try {
    return await answerOf(around, input);
  } catch (error) {
    const stderr = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return { code: null, stdout: "", stderr };
  } finally {
    around.watch("off");
  }
}

/**
 * @param depth `deep`: everything below the place is listed. `usual`: only where a call of node:fs changed something, a
 *   process was started, or the working directory has another name in it.
 */
export async function carryOut(
  around: Surroundings,
  input: FuzzInput,
  depth: "usual" | "deep",
): Promise<FuzzResult> {
  const { place } = around;
  const { call, kind, isProcess } = input;
  place.fill(input.entries);
  process.chdir(place.folder);
  const answer = await answered(around, input);
  const { code } = answer;
  const changes = around.takeChanges();
  const isListed = depth === "deep" || isProcess || changes.length > 0 || place.isOtherwise();
  const outputs = call.kind === "command" ? call.outputs : [];
  const wanted = { outputs, isRefused: code === USAGE };
  const problems = [
    ...answerProblems(answer, call.argv.includes("-")),
    ...(isListed ? changeProblems(place.expected(), place.listing(), wanted) : []),
    ...(isListed ? outputProblems(place, outputs) : []),
    ...changesElsewhere(around, changes),
  ];
  if (problems.length > 0) place.clean();
  return { kind, code, problems };
}
