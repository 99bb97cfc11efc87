/**
 * One child killed or stopped, each kind, at a random moment: the command ends within its bound, and what it says is no
 * finding: "inconclusive", or an error that names the child. What it says where the child was done with its work is as
 * ever.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Baselines } from "./baseline.ts";
import { type Command, commands } from "./commands.ts";
import { each, type Finding, oneOf, type PartOptions, type PartResult, randomOf } from "./finding.ts";
import { defectIn, type End, programOf, Trial } from "./trial.ts";

const JOBS = 2;
/** Of a share of the kills: so many are enough for each kind, and each takes as long as its command. */
const SHARE = 0.25;
/** Above the limits of a case and of a start on a busy machine. */
const END_BOUND_MS = 120_000;
const START_BOUND_MS = 20_000;
const POLL_MS = 10;
const DELAY_MS_MAX = 1500;

type Kind = {
  readonly entry: string;
  /** Words by which a message names it. */
  readonly named: RegExp;
  /** The names of commands that have it. */
  readonly commands: readonly string[];
};

const kinds: readonly Kind[] = [
  {
    entry: "serve-main",
    named: /file server|its server|serve-main/,
    commands: ["run", "run, mmap-io", "run, kvm", "repro", "bench fs"],
  },
  // The program that runs a case's tasks, and each task, which is a process of the same program.
  {
    entry: "steps",
    named: /process of |program that runs the tasks|\(steps\)/,
    commands: ["run", "repro"],
  },
  { entry: "mapper-main", named: /process of |mapper-main/, commands: ["run, mmap-io"] },
  { entry: "host-actor-main", named: /host actor|host-actor-main/, commands: ["run", "run, kvm", "repro"] },
  { entry: "workload-main", named: /workload/, commands: ["bench fs"] },
  { entry: "janitor-main", named: /^/, commands: ["run", "repro"] },
  { entry: "vm-main", named: /VM process|vm-main/, commands: ["run, kvm", "guards"] },
  { entry: "pre-content-main", named: /listener|pre-content-main/, commands: ["guards", "bench guards"] },
  { entry: "race-vm-main", named: /race|race-vm-main/, commands: ["bench guards"] },
  { entry: "race-host-main", named: /truncater|race-host-main/, commands: ["bench guards"] },
  { entry: "price-main", named: /price/, commands: ["bench guards"] },
  { entry: "price-host-main", named: /host's process|price-host-main/, commands: ["bench guards"] },
  { entry: "fence-main", named: /vcpus|unfenced|fence-main/, commands: ["bench fence"] },
  { entry: "truncator-main", named: /truncater|truncator-main/, commands: ["bench fence"] },
];

type Attack = {
  readonly kind: Kind;
  readonly command: Command;
  readonly signal: "SIGKILL" | "SIGSTOP";
  readonly delayMs: number;
};

const possible: readonly { readonly kind: Kind; readonly command: Command }[] = kinds.flatMap((kind) =>
  commands.filter(({ name }) => kind.commands.includes(name)).map((command) => ({ kind, command })),
);

export function attackOf(seed: number, index: number): Attack {
  const random = randomOf(seed, index);
  const pair = possible[index % possible.length];
  if (pair === undefined) throw new Error("no command has children here");
  const signal = Math.floor(index / possible.length) % 2 === 0 ? "SIGKILL" : "SIGSTOP";
  return { ...pair, signal, delayMs: random() * DELAY_MS_MAX };
}

/** What is wrong with the end; null: nothing. */
export function attackProblem(
  { kind }: Pick<Attack, "kind">,
  undisturbed: End | null,
  end: End | null,
): string | null {
  if (end === null) return `no end within ${END_BOUND_MS / 1000} s`;
  const defect = defectIn(end);
  if (defect !== null) return defect;
  if (end.code === 0 || (undisturbed !== null && end.code === undisturbed.code)) return null;
  if (end.code === null) return `ended by ${end.signal}`;
  if (end.code !== 2) return `exit code ${end.code}`;
  const said = `${end.stdout}\n${end.stderr}`;
  return kind.named.test(said) ? null : `exit code 2, and ${kind.entry} is named nowhere`;
}

/** Sends the signal to one of the kind, some time after the first is there. False: there was none. */
async function attack(
  trial: Trial,
  { kind, signal, delayMs }: Attack,
  random: () => number,
): Promise<boolean> {
  const victims = (): readonly number[] => trial.processes().filter((pid) => programOf(pid) === kind.entry);
  const deadlineMs = performance.now() + START_BOUND_MS;
  while (victims().length === 0 && !trial.isOver && performance.now() < deadlineMs) await sleep(POLL_MS);
  await sleep(delayMs);
  // It may be between two of them.
  while (victims().length === 0 && !trial.isOver && performance.now() < deadlineMs) await sleep(POLL_MS);
  const found = victims();
  if (found.length === 0) return false;
  try {
    process.kill(oneOf(found, random), signal);
    return true;
  } catch {
    return false;
  }
}

export async function children(options: PartOptions): Promise<PartResult> {
  const { seed, only, log } = options;
  const count = Math.max(possible.length, Math.round(options.kills * SHARE));
  const indices = only === null ? Array.from({ length: count }, (_, index) => index) : [only];
  const baselines = new Baselines();
  const findings: Finding[] = [];
  let hit = 0;
  let inconclusive = 0;
  await each(indices, JOBS, async (index) => {
    const plan = attackOf(seed, index);
    const { command, kind, signal, delayMs } = plan;
    const undisturbed = (await baselines.of(command)).end;
    const trial = new Trial(command);
    const isHit = await attack(trial, plan, randomOf(seed + 1, index));
    const end = await trial.endWithin(END_BOUND_MS);
    if (end === null) trial.kill("SIGKILL", "group");
    const left = await trial.leftovers();
    const problems = [isHit ? attackProblem(plan, undisturbed, end) : null];
    if (left.length > 0) problems.push(`left: ${left.join(", ")}`);
    if (isHit) hit += 1;
    if (end?.code === 2) inconclusive += 1;
    const found = problems.filter((one) => one !== null);
    if (found.length === 0) return;
    const what = `${command.name}, ${signal} to ${kind.entry} after ${Math.round(delayMs)} ms: ${found.join("; ")}`;
    log(`  ${what}`);
    findings.push({ what, command: `scripts/check-ends --seed ${seed} --only ${index} children` });
  });
  const names = [...new Set(possible.map(({ kind }) => kind.entry))].join(", ");
  return {
    findings,
    summary: `${hit} children of ${count} killed or stopped (${names}): ${inconclusive} commands proved nothing and said so`,
  };
}
