/**
 * Every command x SIGINT, SIGTERM, SIGHUP, SIGKILL x random moments. After each: no process, no mount, no temporary file
 * within five seconds; the exit code that the signal has, unless all had been done before, which the output proves.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { mountsBelow } from "../../sys/src/index.ts";
import { type Baseline, Baselines, essence, makeRecord } from "./baseline.ts";
import { absent, type Command, commands } from "./commands.ts";
import { each, type Finding, oneOf, type PartOptions, type PartResult, randomOf } from "./finding.ts";
import { defectIn, type End, Trial } from "./trial.ts";

const signals = ["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"] as const;
type KillSignal = (typeof signals)[number];
const codes: Readonly<Record<KillSignal, number>> = { SIGHUP: 129, SIGINT: 130, SIGKILL: 137, SIGTERM: 143 };

/** From the signal to the end: a run gives a case's processes some seconds. */
const END_BOUND_MS = 30_000;
const JOBS = 6;
const LOG_EVERY = 50;

type Kill = {
  readonly command: Command;
  readonly signal: KillSignal;
  readonly to: "process" | "group";
  /** Share of the command's time. */
  readonly at: number;
};

/** Kills go through commands and signals in turn; their moments are random. */
export function killOf(seed: number, index: number, list: readonly Command[] = commands): Kill {
  const random = randomOf(seed, index);
  const command = list[index % list.length];
  const signal = signals[Math.floor(index / list.length) % signals.length];
  if (command === undefined || signal === undefined) throw new Error("no command");
  return { command, signal, to: oneOf(["process", "group"], random), at: random() };
}

/** Had all been done before the signal came? A server that has reported its mount ends as asked. */
export function wasDone(command: Command, { end }: Baseline, { code, stdout }: End): boolean {
  if (command.isServer === true) return code === 0 && stdout.includes('"type":"ready"');
  return end !== null && end.code === code && essence(end.stdout) === essence(stdout);
}

/** What is wrong with the end; null: nothing. */
export function endProblem({ command, signal }: Kill, baseline: Baseline, end: End | null): string | null {
  if (end === null) return `no end within ${END_BOUND_MS / 1000} s`;
  const defect = defectIn(end);
  if (defect !== null) return defect;
  if (end.code === codes[signal] || end.signal === signal) return null;
  if (wasDone(command, baseline, end)) return null;
  return `exit code ${end.code ?? end.signal}, and not all was done before the signal`;
}

/** A server in the background is to outlive its launcher once it has reported its mount: then it is ended here. */
async function endServer(trial: Trial, { signal }: Kill): Promise<string | null> {
  if (!trial.command.args.includes("--background") || !trial.stdout.includes('"type":"ready"')) return null;
  if (signal === "SIGKILL") await sleep(200);
  const { pid } = JSON.parse(trial.stdout) as { readonly pid: number };
  if (mountsBelow(trial.folder).length === 0) return "a mount was reported and is not there";
  process.kill(pid, "SIGTERM");
  return null;
}

class Kills {
  readonly #options: PartOptions;
  readonly #baselines = new Baselines();
  readonly findings: Finding[] = [];
  readonly counts = { kills: 0, left: 0, zeros: 0, done: 0 };

  constructor(options: PartOptions) {
    this.#options = options;
  }

  async once(index: number): Promise<void> {
    const { seed, log } = this.#options;
    const kill = killOf(seed, index);
    const { command, signal, to, at } = kill;
    const baseline = await this.#baselines.of(command);
    const trial = new Trial(command);
    await sleep(at * baseline.spanMs);
    trial.kill(signal, to);
    const end = await trial.endWithin(END_BOUND_MS);
    if (end === null) trial.kill("SIGKILL", "group");
    const problems = [endProblem(kill, baseline, end), await endServer(trial, kill)];
    const left = await trial.leftovers();
    if (left.length > 0) problems.push(`left: ${left.join(", ")}`);
    this.counts.kills += 1;
    this.counts.left += left.length > 0 ? 1 : 0;
    if (end?.code === 0) this.counts[wasDone(command, baseline, end) ? "done" : "zeros"] += 1;
    if (this.counts.kills % LOG_EVERY === 0) log(`  ${this.counts.kills} kills`);
    const found = problems.filter((one) => one !== null);
    if (found.length === 0) return;
    const moment = `${Math.round(at * baseline.spanMs)} ms after its start`;
    const what = `${command.name}, ${signal} to its ${to} ${moment}: ${found.join("; ")}`;
    log(`  ${what}`);
    this.findings.push({ what, command: `scripts/check-ends --seed ${seed} --only ${index} kills` });
  }
}

export async function kills(options: PartOptions): Promise<PartResult> {
  await makeRecord();
  const part = new Kills(options);
  const { kills: count, only } = options;
  const indices = only === null ? Array.from({ length: count }, (_, index) => index) : [only];
  await each(indices, JOBS, (index) => part.once(index));
  const { counts } = part;
  const missing = absent.length === 0 ? "" : `; not here, without /dev/kvm: ${absent.join(", ")}`;
  return {
    findings: part.findings,
    summary:
      `${counts.kills} kills of ${commands.length} commands: ${counts.left} left something, ` +
      `${counts.zeros} ended with 0 before all was done (${counts.done} with 0 after that)${missing}`,
  };
}
