/** Carries one input out, in this process or in one of its own, and says what of the promises it broke. */
import { spawnSync } from "node:child_process";
import { constants, existsSync, ftruncateSync, openSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { allowedCodes, type FuzzInput, type FuzzResult } from "./input.ts";
import { fileProblem, refusalProblem, stderrProblem, terminalProblem } from "./outputs.ts";
import { changeProblems, type Place } from "./place.ts";
import { callReader } from "./readers.ts";

const STDOUT = 1;
const STDERR = 2;
const USAGE = 64;
/** Of an output that is looked at; a report of some cases has half a megabyte. */
const OUTPUT_BYTES_MAX = 8 * 1024 * 1024;
/** CPU time and time of a process of its own: it starts Node and runs a case, which may wait. */
const PROCESS_CPU_S = 10;
export const PROCESS_WALL_MS = 120_000;

export type Surroundings = {
  readonly dist: string;
  readonly place: Place;
  /** Files that standard output and standard error of this process are. */
  readonly stdoutPath: string;
  readonly stderrPath: string;
  /** What `write-watch.ts` has reported since the last input. */
  readonly takeReports: () => readonly string[];
};

type Answer = { readonly code: number | null; readonly stdout: string; readonly stderr: string };

/** The program's entry is a module that runs when it is loaded: each time under another name, the rest stays loaded. */
let loads = 0;

async function callMain(
  { dist, stdoutPath, stderrPath }: Surroundings,
  argv: readonly string[],
): Promise<Answer> {
  const main = join(dist, "harness/src/cli/main.js");
  ftruncateSync(STDOUT, 0);
  ftruncateSync(STDERR, 0);
  process.argv = [process.execPath, main, ...argv];
  process.exitCode = undefined;
  loads += 1;
  await import(`${pathToFileURL(main).href}?${loads}`);
  const code = Number(process.exitCode ?? 0);
  process.exitCode = undefined;
  process.removeAllListeners("beforeExit");
  process.stdout.removeAllListeners("error");
  return { code, stdout: readFileSync(stdoutPath, "utf8"), stderr: readFileSync(stderrPath, "utf8") };
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
  if (!existsSync(script)) return null;
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

export async function carryOut(around: Surroundings, input: FuzzInput): Promise<FuzzResult> {
  const { place } = around;
  const { call, kind } = input;
  place.fill(input.entries);
  process.chdir(place.folder);
  const before = place.listing();
  around.takeReports();
  let answer: Answer;
  try {
    answer = await answerOf(around, input);
  } catch (error) {
    answer = {
      code: null,
      stdout: "",
      stderr: error instanceof Error ? (error.stack ?? error.message) : String(error),
    };
  }
  const reports = around.takeReports();
  const { code } = answer;
  const after = place.listing();
  const outputs = call.kind === "command" ? call.outputs : [];
  const isStdoutData = call.argv.includes("-");
  const problems = [
    ...answerProblems(answer, isStdoutData),
    ...changeProblems(before, after, { outputs, isRefused: code === USAGE }),
    ...outputProblems(place, outputs),
    ...reports.map((what) => `written elsewhere: ${what}`),
  ];
  if (problems.length > 0) place.clean();
  return { kind, code, problems };
}

/** The two files that a worker's standard output and error are: what is written there is read back after each input. */
export function openCapture(path: string): number {
  return openSync(
    path,
    constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_APPEND,
    0o600,
  );
}
