/** Closed standard input, output, error: a command ends as ever, without a stack, and leaves nothing. */
import { setTimeout as sleep } from "node:timers/promises";
import { Baselines, makeRecord } from "./baseline.ts";
import { commands } from "./commands.ts";
import { each, type Finding, type PartOptions, type PartResult } from "./finding.ts";
import { defectIn, Trial } from "./trial.ts";

const redirections = ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"];
/** Below so many kills each command meets one of them, in turn. */
const SHORT_BELOW = 100;
const JOBS = 4;
const END_BOUND_MS = 120_000;
const SERVER_MS = 3000;

export async function stdio({ kills, only, log }: PartOptions): Promise<PartResult> {
  await makeRecord();
  const all = commands
    .filter(({ isLong }) => isLong !== true)
    .flatMap((command) => redirections.map((redirection) => ({ command, redirection })));
  const baselines = new Baselines();
  const findings: Finding[] = [];
  const isShort = kills < SHORT_BELOW;
  const indices = [...all.keys()].filter(
    (index) =>
      !isShort ||
      index % redirections.length === Math.floor(index / redirections.length) % redirections.length,
  );
  await each(only === null ? indices : [only], JOBS, async (index) => {
    const one = all[index];
    if (one === undefined) return;
    const { command, redirection } = one;
    const undisturbed = (await baselines.of(command)).end;
    const trial = new Trial(command, { redirection });
    if (command.isServer === true) {
      await sleep(SERVER_MS);
      trial.kill("SIGTERM", "group");
      // One in the background has a group of its own, and nobody may have heard its id.
      for (const pid of trial.isOver ? trial.processes() : []) process.kill(pid, "SIGTERM");
    }
    const end = await trial.endWithin(END_BOUND_MS);
    if (end === null) trial.kill("SIGKILL", "group");
    const left = await trial.leftovers();
    const problems: string[] = [];
    if (end === null) problems.push(`no end within ${END_BOUND_MS / 1000} s`);
    else {
      const defect = defectIn(end);
      if (defect !== null) problems.push(defect);
      if (undisturbed !== null && end.code !== undisturbed.code) {
        problems.push(`exit code ${end.code ?? end.signal}, not ${undisturbed.code}`);
      }
    }
    if (left.length > 0) problems.push(`left: ${left.join(", ")}`);
    if (problems.length === 0) return;
    const what = `${command.name} ${redirection}: ${problems.join("; ")}`;
    log(`  ${what}`);
    findings.push({ what, command: `scripts/check-ends --only ${index} stdio` });
  });
  return { findings, summary: `${indices.length} commands with closed standard input, output, error` };
}
